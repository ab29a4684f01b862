"""Without the rights of root a restore brings back all it may, and says what it could not."""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from backit.client import metadata
from backit.client.outcome import RestoreOptions
from backit.engine.plan import Action, Overwrite
from backit.format.node import encode_time
from backit.format.v1 import tree_pb2 as pb
from tests.backit.client.shelf import (
    NUMERIC,
    Item,
    Saver,
    directory_entry,
    file_entry,
    in_order,
    restore,
    symlink_entry,
)

pytestmark = pytest.mark.usefixtures("written_here_or_apart")

NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of a person without rights, who runs the test."""
    path = Path(tempfile.mkdtemp(prefix="backit-test-"))
    was_root = os.geteuid() == 0
    groups = os.getgroups()
    if was_root:
        os.chown(path, NOBODY, NOBODY)
        os.setgroups([])
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        yield path
    finally:
        if was_root:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)
        for folder in [path, *path.rglob("*")]:
            if folder.is_dir() and not folder.is_symlink():
                folder.chmod(0o700)
        shutil.rmtree(path)


def file(name: bytes, data: bytes, directory: bytes = b"", **fields: int) -> Item:
    return Item(directory, file_entry(name, data, **fields), data)


def linked(name: bytes, directory: bytes = b"", **fields: int) -> Item:
    """One of two names of a file."""
    fields |= {"links": 2, "link_device": 1, "inode": 5}
    return Item(directory, file_entry(name, b"x", **fields), b"x")


def test_owners_devices_and_attributes_of_others_are_warnings(place: Path) -> None:
    plain = file(b"plain", b"x")
    theirs = file(b"theirs", b"content", uid=1, gid=1)
    theirs.entry.attributes.add(name=b"trusted.secret", value=b"1")
    theirs.entry.attributes.add(name=b"user.note", value=b"2")
    link = Item(b"", symlink_entry(b"link", b"to"))
    link.entry.uid = link.entry.gid = 1
    device = Item(b"", pb.Entry(name=b"device", type=pb.FILE_TYPE_CHARACTER, mode=0o600))
    device.entry.device_major, device.entry.device_minor = 1, 3
    folder = Item(b"", directory_entry(b"folder", uid=1, gid=1))
    saver = Saver()
    root = saver.save(in_order([plain, theirs, link, device, folder]))
    result = restore(root, saver.shelf, place / "target", options=NUMERIC)
    assert (place / "target" / "theirs").read_bytes() == b"content"
    assert os.getxattr(place / "target" / "theirs", "user.note") == b"2"
    assert (place / "target" / "link").is_symlink()
    warned = {(note.path.rpartition(b"/")[2], note.why) for note in result.warnings}
    denied = "operation not permitted"
    assert warned == {
        (b"theirs", f"owner 1:1 could not be set: {denied}"),
        (b"theirs", f"attribute trusted.secret could not be set: {denied}"),
        (b"link", f"owner 1:1 could not be set: {denied}"),
        (b"folder", f"owner 1:1 could not be set: {denied}"),
        (b"device", f"the device could not be made: {denied}"),
    }
    assert result.is_whole
    assert result.actions == {Action.MAKE: 4}


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6711])
def test_a_program_that_would_run_as_its_owner_does_not_run_as_another(
    place: Path, mode: int
) -> None:
    saver = Saver()
    root = saver.save([file(b"program", b"x", mode=mode, uid=1, gid=1)])
    restore(root, saver.shelf, place / "target")
    assert stat.S_IMODE((place / "target" / "program").stat().st_mode) == mode & 0o777


def test_modes_and_times_are_set_even_where_the_owner_is_not(place: Path) -> None:
    saver = Saver()
    items = [
        file(b"file", b"x", mode=0o604, uid=1, gid=1, mtime=encode_time(5)),
        Item(b"", directory_entry(b"sub", mode=0o750, uid=1, gid=1, mtime=encode_time(6))),
    ]
    root = saver.save(items)
    restore(root, saver.shelf, place / "target")
    for name, mode, mtime in (("file", 0o604, 5), ("sub", 0o750, 6)):
        found = (place / "target" / name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (mode, mtime)


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o500, 0o555, 0o300])
def test_what_is_in_a_closed_directory_comes_back(place: Path, mode: int) -> None:
    items = [
        Item(b"", directory_entry(b"closed", mode=mode)),
        Item(b"closed\0", directory_entry(b"inner", mode=mode)),
        file(b"file", b"content", b"closed\0", mode=0o000),
        file(b"deep", b"content", b"closed\0inner\0"),
    ]
    saver = Saver()
    root = saver.save(in_order(items))
    target = place / "target"
    result = restore(root, saver.shelf, target)
    assert (result.failures, result.warnings) == ((), ())
    assert stat.S_IMODE((target / "closed").stat().st_mode) == mode
    again = restore(root, saver.shelf, target)
    assert (again.failures, again.warnings) == ((), ())
    assert stat.S_IMODE((target / "closed").stat().st_mode) == mode
    (target / "closed").chmod(0o700)
    assert stat.S_IMODE((target / "closed" / "inner").stat().st_mode) == mode
    (target / "closed" / "inner").chmod(0o700)
    (target / "closed" / "file").chmod(0o600)
    assert (target / "closed" / "file").read_bytes() == b"content"
    (target / "closed" / "inner" / "deep").unlink()
    (target / "closed" / "inner").chmod(mode)
    (target / "closed").chmod(mode)
    assert restore(root, saver.shelf, target).is_whole
    (target / "closed").chmod(0o700)
    assert stat.S_IMODE((target / "closed" / "inner").stat().st_mode) == mode
    (target / "closed" / "inner").chmod(0o700)
    assert (target / "closed" / "inner" / "deep").read_bytes() == b"content"


def test_a_closed_directory_that_is_to_be_kept_is_closed_again(place: Path) -> None:
    items = [Item(b"", directory_entry(b"sub")), file(b"new", b"content", b"sub\0")]
    saver = Saver()
    root = saver.save(items)
    target = place / "target"
    (target / "sub").mkdir(parents=True)
    (target / "sub").chmod(0o500)
    options = RestoreOptions(overwrite=Overwrite.NEVER)
    assert restore(root, saver.shelf, target, options=options).is_whole
    assert stat.S_IMODE((target / "sub").stat().st_mode) == 0o500
    assert (target / "sub" / "new").read_bytes() == b"content"


def test_a_directory_of_somebody_else_fails_and_stops_nothing(place: Path) -> None:
    items = [
        Item(b"", directory_entry(b"theirs")),
        file(b"a", b"1", b"theirs\0"),
        file(b"b", b"2", b"theirs\0"),
        file(b"z", b"3"),
    ]
    saver = Saver()
    root = saver.save(in_order(items))
    target = place / "target"
    (target / "theirs").mkdir(parents=True)
    if os.getuid() != 0:
        pytest.skip("needs the rights of root to make somebody else's directory")
    os.seteuid(0)
    os.chown(target / "theirs", 1, 1)
    (target / "theirs").chmod(0o755)
    os.seteuid(NOBODY)
    result = restore(root, saver.shelf, target)
    assert {note.path.rpartition(b"/")[2] for note in result.failures} == {b"a", b"b"}
    assert {note.why for note in result.failures} == {"permission denied"}
    assert (target / "z").read_bytes() == b"3"


def test_links_are_made_of_files_of_others_as_well(place: Path) -> None:
    saver = Saver()
    root = saver.save([linked(b"a", uid=1, gid=1), linked(b"b", uid=1, gid=1)])
    result = restore(root, saver.shelf, place / "target")
    assert result.is_whole
    assert (place / "target" / "a").stat().st_ino == (place / "target" / "b").stat().st_ino


def test_owners_are_found_by_name_unless_numbers_are_asked_for(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs the rights of root to set owners")
    # Whoever has number 54321 there is called daemon; here daemon has number 1.
    for numeric, expected in ((False, 1), (True, 54321)):
        saver = Saver(users={54321: "daemon", 54322: "nobody knows this one"})
        items = [file(b"a", b"x", uid=54321), file(b"b", b"x", uid=54322)]
        root = saver.save(items)
        target = tmp_path / str(numeric)
        restore(root, saver.shelf, target, options=RestoreOptions(numeric_ids=numeric))
        assert (target / "a").stat().st_uid == expected
        assert (target / "b").stat().st_uid == 54322


@pytest.mark.root
def test_locking_flags_come_last_and_survive_a_second_run(tmp_path: Path) -> None:
    items = [
        Item(b"", directory_entry(b"locked", flags=0x10)),
        linked(b"a", b"locked\0", flags=0x10),
        linked(b"b", flags=0x10),
        file(b"log", b"line", flags=0x20),
    ]
    saver = Saver()
    root = saver.save(in_order(items))
    target = tmp_path / "target"
    try:
        for _ in range(2):
            result = restore(root, saver.shelf, target)
            assert (result.failures, result.warnings) == ((), ())
            for name, flags in (("locked", 0x10), ("locked/a", 0x10), ("b", 0x10), ("log", 0x20)):
                fd = os.open(target / name, os.O_RDONLY)
                assert metadata.read_flags(fd) == flags, name
                os.close(fd)
        assert (target / "b").stat().st_nlink == 2
    finally:
        unlock(target)


def unlock(target: Path) -> None:
    subprocess.run(["chattr", "-R", "-i", "-a", target], check=True)


@pytest.mark.root
def test_what_a_default_acl_would_add_is_taken_away(tmp_path: Path) -> None:
    no_id = 2**32 - 1
    entries = ((1, 7, no_id), (2, 7, 1234), (4, 5, no_id), (16, 7, no_id), (32, 0, no_id))
    acl = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + who.to_bytes(4, "little")
        for tag, bits, who in entries
    )
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").touch()
    os.setxattr(target, "system.posix_acl_default", acl)
    items = [
        Item(b"", directory_entry(b"sub")),
        file(b"file", b"x", mode=0o640),
        file(b"inner", b"x", b"sub\0", mode=0o600),
    ]
    saver = Saver()
    root = saver.save(in_order(items))
    restore(root, saver.shelf, target)
    for name, mode in (("file", 0o640), ("sub", 0o755), ("sub/inner", 0o600)):
        assert os.listxattr(target / name) == [], name
        assert stat.S_IMODE((target / name).stat().st_mode) == mode
