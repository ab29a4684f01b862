"""Reading records: every one that is sound, none that is damaged, and damage heals."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from backit.errors import ReferencesMissing, Unavailable
from backit.format import record
from backitd.store import FetchState
from tests.backitd.clocks import FakeRandom
from tests.backitd.store.spoiling import find, flip, truncate

if TYPE_CHECKING:
    from tests.backitd.store.boxes import Box, Chunk, Session

PRESENT, MISSING, DAMAGED = FetchState.PRESENT, FetchState.MISSING, FetchState.DAMAGED


def blocks(session: Session, count: int, size: int = 2000) -> list[Chunk]:
    content = FakeRandom("blocks")
    return [session.data(content(size)) for _ in range(count)]


def again(session: Session) -> Session:
    """The next backup, after the store was opened again or not."""
    return session.box.session(session.machine)


def test_chunks_come_in_the_order_in_which_they_lie(session: Session) -> None:
    chunks = blocks(session, 50)
    session.upload(*chunks)
    shuffled = chunks[:]
    random.Random(7).shuffle(shuffled)
    found = session.box.store.read(
        session.machine.owner.account, session.machine.domain, [c.id for c in shuffled]
    )
    assert [fetched.chunk for fetched in found] == [chunk.id for chunk in chunks]


def test_unknown_chunks_are_missing_and_end_nothing(session: Session) -> None:
    (there,) = blocks(session, 1)
    session.upload(there)
    absent = session.data(b"absent")
    assert session.box.states(session.machine, [absent, there]) == [MISSING, PRESENT]


def test_a_chunk_that_is_asked_for_twice_is_answered_once(session: Session) -> None:
    (chunk,) = blocks(session, 1)
    session.upload(chunk)
    found = session.box.store.read(
        session.machine.owner.account, session.machine.domain, [chunk.id, chunk.id]
    )
    assert [fetched.record for fetched in found] == [chunk.record]


def test_another_accounts_chunks_are_missing(box: Box) -> None:
    anna, bert = box.new_session("anna"), box.new_session("bert")
    (chunk,) = blocks(anna, 1)
    anna.upload(chunk)
    account = bert.machine.owner.account
    (found,) = box.store.read(account, anna.machine.domain, [chunk.id])
    assert (found.record, found.state) == (None, MISSING)
    assert box.store.find_lost(account, anna.machine.domain, [chunk.id]) == [0]
    mine = anna.machine.owner.account
    assert box.store.find_lost(mine, anna.machine.domain, [chunk.id]) == []


@pytest.mark.logs_warnings
@pytest.mark.parametrize("part", ["head", "table", "ciphertext", "hash"])
def test_a_flipped_bit_is_reported_never_returned_and_healed(session: Session, part: str) -> None:
    leaf = blocks(session, 3)
    node = session.node(b"node", *leaf)
    session.upload(*leaf, node)
    offsets = {
        "head": range(record.HEAD.size),
        "table": range(record.HEAD.size, record.HEAD.size + 96, 5),
        "ciphertext": range(record.HEAD.size + 96, len(node.record) - 32, 3),
        "hash": range(len(node.record) - 32, len(node.record), 3),
    }
    path, start = find(session.box, node)
    for offset in offsets[part]:
        path, start = find(session.box, node)
        flip(path, start + offset, offset % 8)
        assert session.box.states(session.machine, [node, *leaf]) == [DAMAGED, *[PRESENT] * 3]
        assert session.missing(node, *leaf) == [0], "so that the next backup heals it"
        session.upload(node)
        assert session.missing(node) == []
        assert session.box.states(session.machine, [node]) == [PRESENT]


@pytest.mark.logs_warnings
def test_every_flipped_bit_of_a_pack_is_harmless_or_noticed(session: Session) -> None:
    """Also in head, directory and foot: sound records are read whatever lies around them."""
    chunks = blocks(session, 3, size=100)
    session.upload(*chunks)
    (path,) = session.box.packs()
    whole = path.read_bytes()
    spans = [(whole.find(chunk.record), len(chunk.record)) for chunk in chunks]
    for offset in range(0, len(whole), 3):
        flip(path, offset, offset % 8)
        expected = [
            DAMAGED if start <= offset < start + length else PRESENT for start, length in spans
        ]
        assert session.box.states(session.machine, chunks) == expected, offset
        flip(path, offset, offset % 8)
    assert path.read_bytes() == whole
    assert session.box.states(session.machine, chunks) == [PRESENT] * 3, "sound bytes are read"


@pytest.mark.logs_warnings
def test_damage_is_healed_by_the_next_backup(session: Session) -> None:
    chunk, other = blocks(session, 2)
    session.upload(chunk, other)
    path, start = find(session.box, chunk)
    flip(path, start + 200)
    assert session.box.states(session.machine, [chunk, other]) == [DAMAGED, PRESENT]
    session.box.reopen()
    healing = again(session)
    assert healing.missing(chunk, other) == [0]
    copy = healing.data(FakeRandom("blocks")(2000))
    assert copy.id == chunk.id
    assert copy.record != chunk.record
    healing.upload(copy)
    assert session.box.states(session.machine, [copy, other]) == [PRESENT, PRESENT]


@pytest.mark.logs_warnings
def test_a_node_that_uses_a_quarantined_chunk_is_refused(session: Session) -> None:
    (chunk,) = blocks(session, 1)
    session.upload(chunk)
    path, start = find(session.box, chunk)
    flip(path, start + 200)
    assert session.box.states(session.machine, [chunk]) == [DAMAGED]
    upload = session.begin_upload()
    upload.put([session.node(b"node", chunk).record])
    with pytest.raises(ReferencesMissing) as refused:
        upload.finish()
    assert refused.value.missing == (chunk.id,)


@pytest.mark.logs_warnings
def test_a_truncated_pack_loses_only_what_was_cut_off(session: Session) -> None:
    chunks = blocks(session, 5)
    session.upload(*chunks)
    path, start = find(session.box, chunks[3])
    truncate(path, start + 10)
    expected = [PRESENT] * 3 + [DAMAGED] * 2
    assert session.box.states(session.machine, chunks) == expected
    session.box.reopen()
    assert session.box.states(session.machine, chunks) == expected
    session.box.rebuild()
    assert session.box.states(session.machine, chunks)[:3] == [PRESENT] * 3
    assert again(session).missing(*chunks) == [3, 4]


@pytest.mark.logs_warnings
def test_a_missing_pack_is_noticed_while_running(session: Session) -> None:
    chunks = blocks(session, 5)
    session.upload(*chunks)
    (path,) = session.box.packs()
    path.unlink()
    assert session.box.states(session.machine, chunks) == [DAMAGED] * 5
    assert session.missing(*chunks) == [0, 1, 2, 3, 4]
    session.upload(*chunks)
    assert session.box.all_present(session.machine, chunks)


@pytest.mark.logs_warnings
def test_a_missing_pack_is_noticed_at_start_and_may_come_back(session: Session) -> None:
    chunks = blocks(session, 5)
    session.upload(*chunks)
    account = session.machine.owner.account
    (path,) = session.box.packs()
    session.box.store.close()
    elsewhere = path.rename(session.box.state / "elsewhere")
    session.box.reopen()
    assert again(session).missing(*chunks) == [0, 1, 2, 3, 4]
    assert session.box.store.usage(account).stored_bytes == 0
    session.box.store.close()
    elsewhere.rename(path)
    session.box.reopen()
    assert again(session).missing(*chunks) == []
    assert session.box.all_present(session.machine, chunks)
    assert session.box.store.usage(account).stored_bytes == path.stat().st_size


def test_a_disk_that_is_not_mounted_has_lost_nothing(session: Session) -> None:
    chunks = blocks(session, 2)
    session.upload(*chunks)
    store = session.box.state / "store"
    elsewhere = store.rename(session.box.state / "elsewhere")
    with pytest.raises(Unavailable):
        session.box.states(session.machine, chunks)
    elsewhere.rename(store)
    assert session.box.all_present(session.machine, chunks)
    assert session.missing(*chunks) == []


@pytest.mark.logs_warnings
def test_of_two_copies_the_sound_one_wins_also_after_a_rebuild(session: Session) -> None:
    """Whichever of them a rebuild finds first; it goes by names, which are hashes."""
    chunks = blocks(session, 8)
    for chunk in chunks:
        session.upload(chunk)
        path, start = find(session.box, chunk)
        flip(path, start + 300)
        assert session.box.states(session.machine, [chunk]) == [DAMAGED]
        session.upload(chunk)
    assert len(session.box.packs()) == 2 * len(chunks)
    session.box.rebuild()
    assert session.box.all_present(session.machine, chunks)
