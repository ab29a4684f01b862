"""Pack files: what FORMAT.md says, byte by byte, and what can be saved of a damaged one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from backit.crypto import primitives
from backit.errors import Damaged
from backit.format import pack as pack_format
from backit.format.magic import MIB, PACK_END_MAGIC, PACK_MAGIC, PACK_TARGET, Kind
from backit.format.pack import FOOT, HEAD
from backit.ids import PackName
from backitd.store import StoreSettings, packing
from backitd.store.files import Disk
from backitd.store.packs import Packs
from tests.backitd.clocks import FakeRandom
from tests.backitd.store.boxes import PATIENT, open_box
from tests.backitd.store.spoiling import find, flip, truncate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backitd.store.boxes import Session


def packs_of(session: Session) -> Packs:
    return Packs(Disk(), session.box.state / "store")


def name_of(path: Path) -> PackName:
    return PackName.from_hex(path.name)


def test_a_pack_is_what_the_format_says(session: Session) -> None:
    chunks = [session.data(FakeRandom(str(n))(5000)) for n in range(4)]
    session.upload(*chunks)
    (path,) = session.box.packs()
    content = path.read_bytes()
    assert path.parent.name == path.name[:2]
    assert path.stat().st_mode & 0o777 == 0o400
    magic, version, kind, zero, account, _random = HEAD.unpack_from(content)
    assert (magic, version, kind, zero) == (PACK_MAGIC, 1, Kind.DATA, 0)
    assert account == session.machine.owner.account.raw
    offset, length, digest, end = FOOT.unpack(content[-FOOT.size :])
    assert end == PACK_END_MAGIC
    assert content[HEAD.size : offset] == b"".join(chunk.record for chunk in chunks)
    directory = content[offset : offset + length]
    assert primitives.digest(directory) == digest
    hashes = [chunk.record[-primitives.HASH_BYTES :] for chunk in chunks]
    name = primitives.digest(content[: HEAD.size], *hashes, content[offset:])
    assert path.name == name.hex()
    parsed = pack_format.parse_directory(content[: HEAD.size], directory, content[-FOOT.size :])
    assert parsed.sessions == (session.run.session_statement.encoded,)
    assert [place.chunk for place in parsed.places] == [chunk.id for chunk in chunks]


def test_data_and_nodes_lie_apart(session: Session) -> None:
    chunk = session.data(b"file")
    session.upload(chunk, session.node(b"node", chunk))
    kinds = {HEAD.unpack_from(path.read_bytes())[2] for path in session.box.packs()}
    assert kinds == {Kind.DATA, Kind.NODE}


def test_packs_end_at_about_their_target_and_take_no_more_blocks(tmp_path: Path) -> None:
    assert StoreSettings().pack_bytes == PACK_TARGET
    with open_box(tmp_path, settings=replace(PATIENT, pack_bytes=2 * MIB)) as box:
        session = box.new_session()
        chunks = [session.data(FakeRandom(str(n))(300_000)) for n in range(30)]
        session.upload(*chunks)
        # Their names and times say nothing of their order; the last one is the smallest.
        sizes = sorted((path.stat() for path in box.packs()), key=lambda each: -each.st_size)
        assert len(sizes) == 5
        assert all(2 * MIB <= size.st_size < 3 * MIB for size in sizes[:-1])
        assert all(size.st_blocks * 512 < size.st_size + 64 * 1024 for size in sizes)


def test_a_pack_ends_at_a_number_of_records(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has to be remembered of an open pack is bounded, however small its records are."""
    monkeypatch.setattr(packing, "MOST_RECORDS", 10)
    monkeypatch.setattr(packing, "MOST_REFERENCES", 20)
    chunks = [session.data(b"%d" % n) for n in range(25)]
    session.upload(*chunks)
    assert len(session.box.packs()) == 3
    session.upload(*(session.node(b"%d" % n, *chunks) for n in range(2)))
    assert len(session.box.packs()) == 5


def test_there_are_only_folders_that_hold_packs(session: Session) -> None:
    for n in range(3):
        session.upload(session.data(b"%d" % n))
    folders = {folder.name for folder in (session.box.state / "store" / "packs").iterdir()}
    assert folders == {path.parent.name for path in session.box.packs()}


def test_equal_content_makes_packs_of_different_names(session: Session) -> None:
    """Sixteen random bytes: nobody can tell from names that two people store the same."""
    other = session.box.new_session("bert")
    for one in (session, other):
        one.upload(one.data(b"the same file"))
    first, second = session.box.packs()
    assert first.read_bytes()[24:40] != second.read_bytes()[24:40]


@pytest.mark.logs_warnings
@pytest.mark.parametrize("at", [0, 4, 5, 8, -1, -20, -60, -200])
def test_a_pack_with_a_damaged_frame_still_gives_its_records(session: Session, at: int) -> None:
    chunks = [session.data(FakeRandom(str(n))(500)) for n in range(4)]
    session.upload(*chunks)
    (path,) = session.box.packs()
    flip(path, at)
    with packs_of(session).open(name_of(path)) as pack:
        contents = pack.contents()
        assert contents.whole == (at == 8), "the account has no check of its own"
        found = [pack.read_record(place)[1] for place in contents.directory.places]
    assert found == [chunk.record for chunk in chunks]


@pytest.mark.logs_warnings
def test_a_pack_that_calls_its_nodes_data_is_not_believed(session: Session) -> None:
    """Nodes taken for data would be live without their references."""
    session.upload(session.node(b"node"))
    (path,) = session.box.packs()
    flip(path, 5, 0)
    flip(path, 5, 1)
    assert path.read_bytes()[5] == Kind.DATA
    with packs_of(session).open(name_of(path)) as pack:
        contents = pack.contents()
    assert (contents.whole, contents.directory.kind) == (False, Kind.NODE)


@pytest.mark.logs_warnings
def test_salvage_steps_over_damaged_records(session: Session) -> None:
    chunks = [session.data(FakeRandom(str(n))(500)) for n in range(5)]
    session.upload(*chunks)
    path, start = find(session.box, chunks[2])
    flip(path, start + 113)  # its length
    truncate(path, path.stat().st_size - 10)
    with packs_of(session).open(name_of(path)) as pack:
        places = pack.contents().directory.places
        found = [pack.read_record(place)[1] for place in places]
    assert found == [chunk.record for chunk in (*chunks[:2], *chunks[3:])]


@pytest.mark.logs_warnings
@pytest.mark.parametrize("size", [0, 10, 40, 60])
def test_a_pack_of_which_nothing_is_left_is_damaged(session: Session, size: int) -> None:
    session.upload(session.data(b"file"))
    (path,) = session.box.packs()
    truncate(path, size)
    with packs_of(session).open(name_of(path)) as pack, pytest.raises(Damaged):
        pack.contents()


def test_a_record_is_only_read_at_its_own_place(session: Session) -> None:
    chunks = [session.data(bytes([n]) * 500) for n in range(2)]
    session.upload(*chunks)
    (path,) = session.box.packs()
    with packs_of(session).open(name_of(path)) as pack:
        first, second = pack.contents().directory.places
        wrong = pack_format.Place(second.chunk, second.domain, first.offset, first.length)
        with pytest.raises(Damaged):
            pack.read_record(wrong)
