"""What a body may not say. Each field's lengths and values are vectors; here are the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backit.crypto.passphrase import CEILING, FLOOR
from backit.errors import StatementInvalid
from backit.format import bodies, statement
from backit.format.statement import BODIES
from backit.format.v1 import statement_pb2 as pb

PASSWORD_SLOT = pb.SlotBody(
    slot_id=bytes(16),
    kind=pb.SLOT_KIND_PASSWORD,
    salt=bytes(16),
    memory_kib=FLOOR.memory_kib,
    passes=FLOOR.passes,
    login_key=bytes(32),
    commitment=bytes(32),
    wrapped_root_key=bytes(72),
)


def slot(**changes: int) -> pb.SlotBody:
    found = pb.SlotBody()
    found.CopyFrom(PASSWORD_SLOT)
    for field, value in changes.items():
        setattr(found, field, value)
    return found


def test_each_kind_of_body_is_checked() -> None:
    assert set(bodies.LENGTHS) == set(BODIES.values())


@pytest.mark.parametrize("body", BODIES.values())
def test_an_empty_body_is_refused(body: type[statement.Body]) -> None:
    with pytest.raises(StatementInvalid):
        bodies.check(body(), 1)


@given(
    memory=st.integers(FLOOR.memory_kib, CEILING.memory_kib),
    passes=st.integers(FLOOR.passes, CEILING.passes),
)
def test_every_cost_between_floor_and_ceiling_is_fine(memory: int, passes: int) -> None:
    bodies.check(slot(memory_kib=memory, passes=passes), 1)


@given(memory=st.integers(0, FLOOR.memory_kib - 1), passes=st.integers(33, 2**32 - 1))
def test_no_cost_outside_of_them_is(memory: int, passes: int) -> None:
    for changed in (slot(memory_kib=memory), slot(passes=passes)):
        with pytest.raises(StatementInvalid):
            bodies.check(changed, 1)


@pytest.mark.parametrize("field", ["memory_kib", "passes"])
def test_a_slot_without_password_has_no_cost(field: str) -> None:
    kit = slot(kind=pb.SLOT_KIND_RECOVERY, memory_kib=0, passes=0)
    kit.salt = b""
    bodies.check(kit, 1)
    setattr(kit, field, 1)
    with pytest.raises(StatementInvalid, match=field):
        bodies.check(kit, 1)


@given(text=st.text(max_size=100))
def test_text_is_short_and_printable(text: str) -> None:
    assert bodies.is_text(text) == (1 <= len(text) <= 64 and text.isprintable())
