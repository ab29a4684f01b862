"""What a restore does with what is in the target already."""

import errno
import os
import random
import stat
from pathlib import Path

import pytest

from backit.client import linker, write
from backit.client.outcome import RestoreOptions
from backit.client.write import temporary_name
from backit.engine.plan import Action, Overwrite
from backit.format.magic import LARGE_FILE
from backit.format.node import encode_time
from backit.ids import ChunkId
from tests.backit.client.shelf import (
    Item,
    Saver,
    Shelf,
    directory_entry,
    file_entry,
    in_order,
    restore,
    symlink_entry,
)

pytestmark = pytest.mark.usefixtures("written_here_or_apart")

THEN = 10**18
NEVER = RestoreOptions(overwrite=Overwrite.NEVER)
OLDER = RestoreOptions(overwrite=Overwrite.OLDER)
ALWAYS = RestoreOptions(overwrite=Overwrite.ALWAYS)


def item(name: bytes, data: bytes, directory: bytes = b"", **fields: int) -> Item:
    return Item(directory, file_entry(name, data, mtime=encode_time(THEN), **fields), data)


def linked(name: bytes, data: bytes, directory: bytes = b"", links: int = 2) -> Item:
    return item(name, data, directory, links=links, link_device=1, inode=7)


def save(*items: Item) -> tuple[ChunkId, Shelf]:
    saver = Saver()
    return saver.save(in_order(items)), saver.shelf


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def put(path: Path, data: bytes, mtime: int) -> None:
    path.write_bytes(data)
    os.utime(path, ns=(mtime, mtime))


@pytest.mark.parametrize(
    ("options", "mtime", "action"),
    [
        (NEVER, THEN - 1, Action.KEEP),
        (NEVER, THEN + 1, Action.KEEP),
        (OLDER, THEN - 1, Action.REPLACE),
        (OLDER, THEN, Action.REPLACE),
        (OLDER, THEN + 1, Action.KEEP),
        (ALWAYS, THEN - 1, Action.REPLACE),
        (ALWAYS, THEN + 1, Action.REPLACE),
    ],
)
@pytest.mark.parametrize("local", [b"local", b"another length", b""])
def test_a_file_that_differs_is_replaced_as_far_as_it_may(
    target: Path, options: RestoreOptions, mtime: int, action: Action, local: bytes
) -> None:
    root, shelf = save(item(b"file", b"saved"))
    put(target / "file", local, mtime)
    same_time = mtime == THEN and len(local) == len(b"saved")
    result = restore(root, shelf, target, options=options)
    if same_time:
        # Size and time say that nothing changed: only reading would tell.
        assert result.actions in ({Action.NOTHING: 1}, {Action.METADATA: 1})
        assert (target / "file").read_bytes() == local
    elif action is Action.KEEP:
        assert (target / "file").read_bytes() == local
        assert (result.kept, result.is_whole) == (1, False)
        assert result.keeps[0].path == os.fsencode(target / "file")
    else:
        assert (target / "file").read_bytes() == b"saved"
        assert result.actions == {Action.REPLACE: 1}
    assert os.listdir(target) == ["file"]


def test_verify_reads_what_size_and_time_vouch_for(target: Path) -> None:
    root, shelf = save(item(b"file", b"saved"))
    put(target / "file", b"local", THEN)
    (target / "file").chmod(0o644)
    restore(root, shelf, target)
    assert (target / "file").read_bytes() == b"local"
    restore(root, shelf, target, options=RestoreOptions(verify=True))
    assert (target / "file").read_bytes() == b"saved"
    shelf.asked.clear()
    again = restore(root, shelf, target, options=RestoreOptions(verify=True))
    assert again.actions == {Action.NOTHING: 1}
    assert shelf.asked == []


# Of several pieces, and of one that is so large that its hash is that of the list of one piece.
@pytest.mark.parametrize("cut", [10_000, LARGE_FILE])
def test_a_large_file_is_known_by_its_chunks(target: Path, cut: int) -> None:
    data = random.Random(4).randbytes(LARGE_FILE)
    saver = Saver(cut=cut)
    root, shelf = saver.save([item(b"file", data)]), saver.shelf
    put(target / "file", data, THEN + 5)
    result = restore(root, shelf, target, options=ALWAYS)
    assert result.actions == {Action.METADATA: 1}
    assert shelf.asked == [], "nothing is fetched"
    for at in (0, cut - 1, len(data) - 1):
        put(target / "file", data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], THEN + 5)
        result = restore(root, shelf, target, options=ALWAYS)
        assert result.actions == {Action.REPLACE: 1}
        assert (target / "file").read_bytes() == data


@pytest.mark.parametrize("options", [OLDER, ALWAYS])
def test_of_a_file_of_the_same_content_only_metadata_are_set(
    target: Path, options: RestoreOptions
) -> None:
    root, shelf = save(item(b"file", b"saved", mode=0o640))
    put(target / "file", b"saved", THEN + 5)
    os.setxattr(target / "file", "user.extra", b"x")
    inode = (target / "file").stat().st_ino
    result = restore(root, shelf, target, options=options)
    assert result.actions == {Action.METADATA: 1}
    found = (target / "file").stat()
    assert (found.st_ino, found.st_mtime_ns, stat.S_IMODE(found.st_mode)) == (inode, THEN, 0o640)
    assert os.listxattr(target / "file") == []
    assert shelf.asked == [], "nothing is fetched"


def test_a_file_with_foreign_names_is_not_changed_in_place(target: Path, tmp_path: Path) -> None:
    """What is linked into the target from elsewhere keeps its mode and its owner."""
    root, shelf = save(item(b"file", b"saved", mode=0o666))
    put(tmp_path / "outside", b"saved", THEN - 5)
    (tmp_path / "outside").chmod(0o600)
    os.link(tmp_path / "outside", target / "file")
    restore(root, shelf, target)
    assert stat.S_IMODE((tmp_path / "outside").stat().st_mode) == 0o600
    assert stat.S_IMODE((target / "file").stat().st_mode) == 0o666
    assert (tmp_path / "outside").stat().st_nlink == 1


def test_a_sparse_file_that_got_data_in_a_hole_is_another(target: Path) -> None:
    entry = file_entry(b"file", mtime=encode_time(THEN), size=8192)
    entry.holes.add(offset=0, length=8192)
    root, shelf = save(Item(b"", entry))
    put(target / "file", bytes(8191) + b"x", THEN - 1)
    result = restore(root, shelf, target)
    assert result.actions == {Action.REPLACE: 1}
    assert (target / "file").read_bytes() == bytes(8192)


def test_links_and_pipes_are_compared_and_replaced(target: Path) -> None:
    items = [
        Item(b"", symlink_entry(b"a", b"to")),
        Item(b"", symlink_entry(b"b", b"to")),
        Item(b"", symlink_entry(b"c", b"to")),
    ]
    root, shelf = save(*items)
    (target / "a").symlink_to("to")
    (target / "b").symlink_to("elsewhere")
    put(target / "c", b"a file", THEN - 1)
    for name in "ab":
        os.utime(target / name, ns=(THEN, THEN), follow_symlinks=False)
    result = restore(root, shelf, target)
    assert {name: os.readlink(target / name) for name in "abc"} == dict.fromkeys("abc", "to")
    assert result.actions == {Action.NOTHING: 1, Action.REPLACE: 2}


def test_a_directory_that_is_not_empty_is_never_deleted(target: Path) -> None:
    root, shelf = save(item(b"empty", b"saved"), item(b"full", b"saved"))
    (target / "empty").mkdir()
    (target / "full").mkdir()
    (target / "full" / "mine").write_bytes(b"mine")
    result = restore(root, shelf, target, options=ALWAYS)
    assert (target / "empty").read_bytes() == b"saved"
    assert (target / "full" / "mine").read_bytes() == b"mine"
    ((path, why),) = ((note.path, note.why) for note in result.failures)
    assert path == os.fsencode(target / "full")
    assert why == "a directory that is not empty is in its place"


@pytest.mark.parametrize("options", [NEVER, ALWAYS])
def test_a_file_where_a_directory_belongs_is_replaced_only_if_it_may(
    target: Path, options: RestoreOptions
) -> None:
    root, shelf = save(
        Item(b"", directory_entry(b"sub")), item(b"file", b"saved", b"sub\0"), item(b"z", b"")
    )
    put(target / "sub", b"mine", THEN + 1)
    result = restore(root, shelf, target, options=options)
    if options is NEVER:
        assert (target / "sub").read_bytes() == b"mine"
        assert result.keeps[0].why == "it is no directory; nothing below it was restored"
    else:
        assert (target / "sub" / "file").read_bytes() == b"saved"
        assert result.is_whole


def test_a_directory_that_was_there_keeps_its_mode_if_nothing_may_change(target: Path) -> None:
    root, shelf = save(Item(b"", directory_entry(b"sub", mode=0o700)), item(b"x", b"1", b"sub\0"))
    (target / "sub").mkdir(0o755)
    (target / "sub").chmod(0o2755)
    restore(root, shelf, target, options=NEVER)
    assert stat.S_IMODE((target / "sub").stat().st_mode) == 0o2755
    assert (target / "sub" / "x").read_bytes() == b"1"
    restore(root, shelf, target, options=OLDER)
    assert stat.S_IMODE((target / "sub").stat().st_mode) == 0o700


def test_an_interrupted_restore_goes_on_where_it_was(target: Path) -> None:
    names = [b"f%03d" % number for number in range(100)]
    root, shelf = save(*(item(name, b"saved" + name) for name in names))
    restore(root, shelf, target)
    for name in names[::3]:
        (target / os.fsdecode(name)).unlink()
    inodes = {path.name: path.stat().st_ino for path in target.iterdir()}
    result = restore(root, shelf, target)
    assert result.actions == {Action.MAKE: 34, Action.NOTHING: 66}
    for name in names:
        path = target / os.fsdecode(name)
        assert path.read_bytes() == b"saved" + name
        assert inodes.get(path.name, path.stat().st_ino) == path.stat().st_ino


def test_what_a_killed_restore_left_behind_is_swept(target: Path) -> None:
    root, shelf = save(Item(b"", directory_entry(b"sub")), item(b"file", b"1", b"sub\0"))
    (target / "sub").mkdir()
    for folder in (target, target / "sub"):
        (folder / os.fsdecode(temporary_name())).write_bytes(b"half")
        (folder / ".backit-restore-mine").write_bytes(b"mine")
    restore(root, shelf, target)
    assert sorted(os.listdir(target)) == [".backit-restore-mine", "sub"]
    assert sorted(os.listdir(target / "sub")) == [".backit-restore-mine", "file"]


def test_a_name_already_linked_is_left_and_others_are_linked_again(target: Path) -> None:
    root, shelf = save(*(linked(name, b"data", links=3) for name in (b"a", b"b", b"c")))
    restore(root, shelf, target)
    os.unlink(target / "b")
    put(target / "b", b"data", THEN)
    os.unlink(target / "c")
    result = restore(root, shelf, target)
    assert result.actions == {Action.NOTHING: 1, Action.LINK: 2}
    assert len({(target / name).stat().st_ino for name in "abc"}) == 1
    assert sorted(os.listdir(target)) == ["a", "b", "c"]


def test_where_the_first_name_is_kept_another_carries_the_file(target: Path) -> None:
    root, shelf = save(*(linked(name, b"saved", links=4) for name in (b"a", b"b", b"c", b"d")))
    put(target / "a", b"newer", THEN + 1)
    result = restore(root, shelf, target)
    assert (target / "a").read_bytes() == b"newer"
    assert [(target / name).read_bytes() for name in "bcd"] == [b"saved"] * 3
    assert len({(target / name).stat().st_ino for name in "bcd"}) == 1
    assert (target / "b").stat().st_nlink == 3
    assert (result.kept, result.actions) == (1, {Action.MAKE: 1, Action.LINK: 2})


def test_of_a_part_of_a_group_the_first_restored_carries_it(tmp_path: Path) -> None:
    root, shelf = save(
        linked(b"a", b"saved", links=4),
        Item(b"", directory_entry(b"sub")),
        linked(b"b", b"saved", b"sub\0", links=4),
        linked(b"c", b"saved", b"sub\0", links=4),
    )
    restore(root, shelf, tmp_path / "target", [b"sub"])
    found = (tmp_path / "target" / "b").stat()
    assert found.st_nlink == 2
    assert found.st_ino == (tmp_path / "target" / "c").stat().st_ino


def test_a_group_whose_content_is_lost_fails_for_every_name(target: Path) -> None:
    root, shelf = save(*(linked(name, b"saved") for name in (b"a", b"b")))
    (only,) = shelf.chunks_held
    shelf.chunks_held[only] = b"other"
    result = restore(root, shelf, target)
    assert {note.path for note in result.failures} == {
        os.fsencode(target / "a"),
        os.fsencode(target / "b"),
    }
    assert os.listdir(target) == []


def test_where_a_file_takes_no_more_names_another_copy_carries_the_rest(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ext4 stops at 65,000 names; here at three."""
    real = write.make_link

    def make_link(source: tuple[int, bytes], at: int, name: bytes, *, replace: bool) -> None:
        if os.stat(source[1], dir_fd=source[0]).st_nlink >= 3:
            raise OSError(errno.EMLINK, "Too many links")
        real(source, at, name, replace=replace)

    monkeypatch.setattr(linker, "make_link", make_link)
    names = [b"%02d" % number for number in range(8)]
    root, shelf = save(*(linked(name, b"data", links=8) for name in names))
    result = restore(root, shelf, target)
    assert result.is_whole
    assert {path.read_bytes() for path in target.iterdir()} == {b"data"}
    groups = {path.stat().st_ino: path.stat().st_nlink for path in target.iterdir()}
    assert sorted(groups.values()) == [2, 3, 3]
    assert len(list(target.iterdir())) == 8
    assert {note.why for note in result.warnings} == {
        "could not be linked to its other names: too many links"
    }
