"""What the key tree promises beyond its vectors: contexts, secrecy, lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backit.crypto import keys, primitives
from backit.crypto.keys import DomainKeys, RootKey, SigningKey, SlotKeys, VaultKey, WrapContext
from backit.errors import Invalid, WrongKey
from backit.ids import AccountId, DomainId

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = bytes(range(32))
ACCOUNT = AccountId(b"a" * 16)
MAKERS: list[Callable[[bytes], object]] = [
    SigningKey,
    SlotKeys,
    RootKey,
    lambda secret: VaultKey(1, secret),
    lambda secret: DomainKeys(DomainId(bytes(16)), secret),
]


@pytest.mark.parametrize("make", MAKERS)
def test_a_key_never_prints_its_secret(make: Callable[[bytes], object]) -> None:
    shown = repr(make(SECRET)) + str(make(SECRET))
    assert SECRET.hex() not in shown
    assert repr(SECRET) not in shown


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_secret_of_a_wrong_length_is_refused(
    make: Callable[[bytes], object], length: int
) -> None:
    with pytest.raises(Invalid, match=f"32 bytes, not {length}"):
        make(bytes(length))


def test_every_key_of_a_domain_is_another() -> None:
    domain = DomainKeys(DomainId(bytes(16)), SECRET)
    made = {domain.data_id_key, domain.node_id_key, domain.content_key, domain.boundary_key}
    assert len(made | {SECRET}) == 5


def test_the_chunker_seed_is_never_zero_and_has_63_bits() -> None:
    seeds = [
        DomainKeys(DomainId(bytes(16)), primitives.digest(bytes([number]))).chunker_seed
        for number in range(200)
    ]
    assert all(0 < seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62
    assert len(set(seeds)) == 200


def test_a_wrapped_secret_opens_only_where_it_belongs() -> None:
    here = WrapContext(ACCOUNT, 2, b"s" * 16, 1)
    wrapped = primitives.wrap(SECRET, bytes(24), b"w" * 32, here.associated())
    assert primitives.unwrap(SECRET, wrapped, here.associated()) == b"w" * 32
    for elsewhere in (
        WrapContext(AccountId(bytes(16)), 2, b"s" * 16, 1),
        WrapContext(ACCOUNT, 3, b"s" * 16, 1),
        WrapContext(ACCOUNT, 2, b"t" * 16, 1),
        WrapContext(ACCOUNT, 2, b"s" * 16, 2),
    ):
        with pytest.raises(WrongKey):
            primitives.unwrap(SECRET, wrapped, elsewhere.associated())


def test_a_slot_commits_to_its_parameters_as_well() -> None:
    slot = SlotKeys(SECRET)
    commitments = {
        slot.commitment(b"s" * 16, 65536, 3),
        slot.commitment(b"t" * 16, 65536, 3),
        slot.commitment(b"s" * 16, 65537, 3),
        slot.commitment(b"s" * 16, 65536, 4),
        SlotKeys(bytes(32)).commitment(b"s" * 16, 65536, 3),
    }
    assert len(commitments) == 5


def test_a_session_key_comes_out_of_its_box() -> None:
    vault = VaultKey(1, SECRET)
    sealed = primitives.box_seal(vault.public, b"k" * 32)
    commitment = keys.session_commitment(b"k" * 32)
    assert keys.open_session_key(vault, sealed, commitment) == b"k" * 32


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_session_key_of_a_wrong_length_is_refused(length: int) -> None:
    vault = VaultKey(1, SECRET)
    key = bytes(length)
    with pytest.raises(WrongKey, match="a sealed session key of"):
        keys.open_session_key(
            vault, primitives.box_seal(vault.public, key), keys.session_commitment(key)
        )


def test_a_login_names_who_and_where() -> None:
    signed = {
        keys.login_message(bytes(32), bytes(32), "user:anna"),
        keys.login_message(b"\1" * 32, bytes(32), "user:anna"),
        keys.login_message(bytes(32), b"\1" * 32, "user:anna"),
        keys.login_message(bytes(32), bytes(32), "user:anne"),
    }
    assert len(signed) == 4
    assert len({len(each) for each in signed}) == 1


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(Invalid, match="UTF-8"):
        keys.login_message(bytes(32), bytes(32), "user:\udcff")


def test_the_enrolment_code_tells_machines_apart() -> None:
    code = keys.enrolment_code(b"d" * 32, b"b" * 32)
    assert [len(group) for group in code.split("-")] == [5, 5, 5, 5]
    assert code.replace("-", "").isdecimal()
    assert code != keys.enrolment_code(b"d" * 32, b"c" * 32)
    assert code != keys.enrolment_code(b"e" * 32, b"b" * 32)
