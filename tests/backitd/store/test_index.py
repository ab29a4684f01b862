"""The chunk index by itself: large questions, and places that change hands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backit.errors import Damaged, ReferencesMissing
from backit.format.magic import Kind
from backit.format.pack import Place
from backit.ids import AccountId, ChunkId, DomainId, IncarnationId, PackName
from backitd.store.index import ChunkIndex, NewPack
from backitd.store.tables import State
from tests.backitd.clocks import FakeRandom

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ANNA, BERT = AccountId(b"a" * 16), AccountId(b"b" * 16)
DOMAIN = DomainId(b"d" * 16)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[ChunkIndex]:
    opened = ChunkIndex(tmp_path / "index.db")
    opened.begin_life(IncarnationId(b"i" * 16))
    yield opened
    opened.close()


def ids(count: int, seed: str = "ids") -> list[ChunkId]:
    random = FakeRandom(seed)
    return [ChunkId(random(32)) for _ in range(count)]


def pack(
    name: str,
    chunks: Sequence[ChunkId],
    *,
    kind: Kind = Kind.DATA,
    account: AccountId = ANNA,
    references: Sequence[ChunkId] = (),
) -> NewPack:
    places = [Place(chunk, DOMAIN, 40 + 10 * at, 10) for at, chunk in enumerate(chunks)]
    return NewPack(
        name=PackName(name.encode().ljust(32)),
        account=account,
        kind=kind,
        size=1000,
        places=places,
        references=frozenset(chunk.raw for chunk in references),
    )


def raw(chunks: Sequence[ChunkId]) -> list[bytes]:
    return [chunk.raw for chunk in chunks]


def test_thousands_of_ids_in_one_question(index: ChunkIndex) -> None:
    known, unknown = ids(5000), ids(3192, "unknown")
    index.accept(pack("one", known))
    asked = raw([*unknown, *known])
    assert index.live(DOMAIN, asked) == set(raw(known))
    rows = index.rows(DOMAIN, asked)
    assert {row.chunk for row in rows} == set(known)
    assert all(row.length == 10 and row.pack == pack("one", []).name for row in rows)
    assert index.count_chunks(ANNA) == 5000
    assert index.live(DomainId(b"e" * 16), asked) == set()


def test_a_live_chunk_keeps_its_place(index: ChunkIndex) -> None:
    (chunk,) = ids(1)
    index.accept(pack("one", [chunk]))
    index.accept(pack("two", ids(3)))
    (row,) = index.rows(DOMAIN, [chunk.raw])
    assert row.pack == pack("one", []).name
    assert index.count_chunks(ANNA) == 3
    assert index.stored_bytes(ANNA) == 2000


def test_a_quarantined_chunk_takes_the_place_of_its_new_copy(index: ChunkIndex) -> None:
    (chunk,) = ids(1)
    index.accept(pack("one", [chunk]))
    (old,) = index.rows(DOMAIN, [chunk.raw])
    assert index.quarantine([old])
    assert not index.quarantine([old])
    assert index.live(DOMAIN, [chunk.raw]) == set()
    assert index.accept(pack("two", [chunk])), "what is above it has to be looked at again"
    (new,) = index.rows(DOMAIN, [chunk.raw])
    assert (new.number, new.state, new.pack) == (old.number, State.LIVE, pack("two", []).name)
    assert not index.quarantine([old]), "the damage was that of the old copy"
    assert index.live(DOMAIN, [chunk.raw]) == {chunk.raw}
    assert index.count_chunks(ANNA) == 1


def test_a_refused_pack_leaves_no_trace(index: ChunkIndex) -> None:
    node, there, absent = ids(3)
    index.accept(pack("one", [there]))
    with pytest.raises(ReferencesMissing) as refused:
        index.accept(pack("two", [node], kind=Kind.NODE, references=[there, absent]))
    assert refused.value.missing == (absent,)
    assert list(index.packs(ord("o"))) == [pack("one", []).name.raw]
    assert index.packs(ord("t")) == {}
    assert index.rows(DOMAIN, [node.raw]) == []


def test_a_domain_is_one_accounts(index: ChunkIndex) -> None:
    one, two = ids(2)
    index.accept(pack("one", [one]))
    with pytest.raises(Damaged):
        index.accept(pack("two", [two], account=BERT))
    assert index.account_of(DOMAIN) == ANNA.raw
    assert index.stored_bytes(BERT) == 0


def test_generations_count(index: ChunkIndex) -> None:
    assert [index.next_generation() for _ in range(3)] == [1, 2, 3]


def test_a_lost_pack_loses_its_chunks_and_puts_nodes_in_doubt(index: ChunkIndex) -> None:
    data, other, node = ids(3)
    index.accept(pack("one", [data]))
    index.accept(pack("two", [other]))
    index.accept(pack("three", [node], kind=Kind.NODE, references=[data]))
    assert index.accounts_in_doubt() == []
    number = index.packs(ord("o"))[pack("one", []).name.raw].number
    assert index.lose_packs([number]) == 1
    assert index.live(DOMAIN, raw([data, other, node])) == {other.raw, node.raw}
    assert index.stored_bytes(ANNA) == 2000
    assert index.accounts_in_doubt() == [ANNA.raw]


def test_a_later_doubt_is_not_cleared_with_an_earlier_one(index: ChunkIndex) -> None:
    data, node = ids(2)
    index.accept(pack("one", [data]))
    index.accept(pack("two", [node], kind=Kind.NODE, references=[data]))
    (row,) = index.rows(DOMAIN, [data.raw])
    index.quarantine([row])
    first = index.packs_in_doubt(ANNA.raw)
    index.accept(pack("three", [data]))
    index.clear_doubts(first)
    assert index.accounts_in_doubt() == [ANNA.raw]
    index.clear_doubts(index.packs_in_doubt(ANNA.raw))
    assert index.accounts_in_doubt() == []


def test_nodes_that_come_while_others_are_in_doubt_are_in_doubt_as_well(
    index: ChunkIndex,
) -> None:
    data, other, node = ids(3)
    index.accept(pack("one", [data, other]))
    index.accept(pack("two", [node], kind=Kind.NODE, references=[data]))
    (row,) = index.rows(DOMAIN, [data.raw])
    index.quarantine([row])
    (late,) = ids(1, "late")
    index.accept(pack("three", [late], kind=Kind.NODE, references=[node]))
    assert len(index.packs_in_doubt(ANNA.raw)) == 2


def test_packs_are_listed_by_the_first_byte_of_their_names(index: ChunkIndex) -> None:
    for first in (0, 1, 0x7F, 0xFE, 0xFF):
        for last in (0, 0xFF):
            name = bytes([first]) + bytes([last]) * 31
            new = NewPack(PackName(name), ANNA, Kind.DATA, 1, [])
            index.take_in(new)
    found = [len(index.packs(first)) for first in range(256)]
    assert {first for first, count in enumerate(found) if count} == {0, 1, 0x7F, 0xFE, 0xFF}
    assert set(found) == {0, 2}
