"""One small tree with a specimen of everything, and one way to spoil each thing in it.

They show that the oracles notice; nothing here looks for differences itself.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from pathlib import Path

from tests.fidelity import generate_xattrs, inode_flags
from tests.fidelity.generate_xattrs import usual_acl
from tests.fidelity.registry import Need

_MIB = 1 << 20
_COMPOSED, _DECOMPOSED = "\u00e9", "e\u0301"


@dataclass(frozen=True, slots=True)
class Mutation:
    """A way to spoil the specimen."""

    name: str
    spoil: Callable[[Path], None]
    expected: frozenset[str]
    """The differences that `manifest.compare` has to find, each as `field of path`."""
    needs: frozenset[Need]
    rsync_sees: bool
    changes_times: bool


MUTATIONS: list[Mutation] = []


def _mutation(
    *expected: str,
    needs: Collection[Need] = (),
    rsync_sees: bool = True,
    changes_times: bool = False,
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    def register(spoil: Callable[[Path], None]) -> Callable[[Path], None]:
        name, fields, wants = spoil.__name__, frozenset(expected), frozenset(needs)
        MUTATIONS.append(Mutation(name, spoil, fields, wants, rsync_sees, changes_times))
        return spoil

    return register


def plant_specimen(root: Path, offers: Collection[Need]) -> None:
    """Make one of each thing that `offers` allows in the empty directory `root`."""
    (root / "file").write_bytes(b"content" * 10_000)
    (root / "even").write_bytes(b"x" * 8192)
    (root / "script").write_bytes(b"#!/bin/true\n")
    (root / "script").chmod(0o4755)
    (root / "folder").mkdir()
    (root / "folder" / "inside").write_bytes(b"inside")
    (root / "empty_folder").mkdir()
    (root / "symlink").symlink_to("target")
    (root / "plain_symlink").symlink_to("target")
    os.mkfifo(root / "fifo")
    os.mknod(root / "socket", stat.S_IFSOCK | 0o755)
    (root / "linked").write_bytes(b"linked")
    (root / "linked_again").hardlink_to(root / "linked")
    for name in ("twin_a", "twin_b"):
        (root / name).write_bytes(b"equal")
    os.utime(root / "twin_b", ns=(0, (root / "twin_a").stat().st_mtime_ns))
    (root / _COMPOSED).write_bytes(b"composed")
    with (root / "sparse").open("wb") as file:
        file.truncate(4 * _MIB)
        file.write(b"only the first block holds data")
    _plant_attributes(root, offers)


def _plant_attributes(root: Path, offers: Collection[Need]) -> None:
    if Need.USER_XATTRS in offers:
        for name in ("file", "folder"):
            os.setxattr(root / name, "user.long", b"\0binary\xff" * 50)
            os.setxattr(root / name, "user.empty", b"")
    if Need.ACLS in offers:
        (root / "guarded").touch()
        os.setxattr(root / "guarded", generate_xattrs.ACCESS, usual_acl(1234, 5678, mask=6))
        os.setxattr(root / "folder", generate_xattrs.DEFAULT, usual_acl(1, 2, mask=7))
    if Need.TRUSTED_XATTRS in offers:
        os.setxattr(root / "symlink", "trusted.note", b"1", follow_symlinks=False)
    if Need.DEVICES in offers:
        os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    if Need.CAPABILITIES in offers:
        (root / "capable").touch()
        value = generate_xattrs.capability(1 << 10)
        os.setxattr(root / "capable", generate_xattrs.CAPABILITY, value)


@contextlib.contextmanager
def times_kept(root: Path) -> Generator[None]:
    """Give back to everything that is still there afterwards the time it had."""
    paths = [root, *root.rglob("*")]
    times = {path: path.lstat().st_mtime_ns for path in paths}
    yield
    for path, moment in times.items():
        if os.path.lexists(path):
            os.utime(path, ns=(0, moment), follow_symlinks=False)


@_mutation("content of 'file'")
def a_flipped_bit(root: Path) -> None:
    with (root / "file").open("r+b") as file:
        file.write(b"C")


@_mutation("content of 'file'", "size of 'file'")
def a_lost_end(root: Path) -> None:
    os.truncate(root / "file", 69_999)


@_mutation("size of 'even'")
def a_block_of_zeros_more(root: Path) -> None:
    os.truncate(root / "even", 8192 + 4096)


@_mutation("holes of 'sparse'", rsync_sees=False)
def a_filled_hole(root: Path) -> None:
    with (root / "sparse").open("r+b") as file:
        file.seek(_MIB)
        file.write(bytes(2 * _MIB))
        os.fsync(file.fileno())


@_mutation("name of 'file'")
def a_missing_file(root: Path) -> None:
    (root / "file").unlink()


@_mutation("name of 'empty_folder'")
def a_missing_empty_directory(root: Path) -> None:
    (root / "empty_folder").rmdir()


@_mutation("name of 'fifo'")
def a_missing_fifo(root: Path) -> None:
    (root / "fifo").unlink()


@_mutation("name of 'folder/extra'")
def an_extra_file(root: Path) -> None:
    (root / "folder" / "extra").touch()


@_mutation("name of 'extra'")
def an_extra_socket(root: Path) -> None:
    os.mknod(root / "extra", stat.S_IFSOCK | 0o755)


@_mutation(f"name of '{_COMPOSED}'", f"name of '{_DECOMPOSED}'")
def a_decomposed_name(root: Path) -> None:
    (root / _COMPOSED).rename(root / _DECOMPOSED)


@_mutation("name of 'script'", "name of 'Script'")
def a_name_in_another_case(root: Path) -> None:
    (root / "script").rename(root / "Script")


@_mutation("mode of 'script'")
def a_lost_set_user_id_bit(root: Path) -> None:
    (root / "script").chmod(0o755)


@_mutation("mode of 'folder'")
def a_sticky_directory(root: Path) -> None:
    (root / "folder").chmod((root / "folder").stat().st_mode | stat.S_ISVTX)


@_mutation("mode of 'fifo'")
def another_mode_of_a_fifo(root: Path) -> None:
    (root / "fifo").chmod(0o600)


@_mutation("uid of 'file'", needs={Need.ROOT})
def another_owner(root: Path) -> None:
    os.chown(root / "file", 1234, -1)


@_mutation("gid of 'folder'", needs={Need.ROOT})
def another_group_of_a_directory(root: Path) -> None:
    os.chown(root / "folder", -1, 1234)


@_mutation("gid of 'symlink'", "uid of 'symlink'", needs={Need.ROOT})
def another_owner_of_a_symlink(root: Path) -> None:
    os.lchown(root / "symlink", 1234, 1234)


def _shift_time(path: Path, by_ns: int) -> None:
    moment = path.lstat().st_mtime_ns + by_ns
    os.utime(path, ns=(0, moment), follow_symlinks=False)


@_mutation("mtime_ns of 'file'", changes_times=True)
def a_nanosecond_off(root: Path) -> None:
    _shift_time(root / "file", 1)


@_mutation("mtime_ns of 'folder'", changes_times=True)
def a_directory_a_microsecond_off(root: Path) -> None:
    _shift_time(root / "folder", -1_000)


@_mutation("mtime_ns of '.'", changes_times=True)
def a_root_a_second_off(root: Path) -> None:
    _shift_time(root, 10**9)


@_mutation("mtime_ns of 'symlink'", changes_times=True)
def a_symlink_a_second_off(root: Path) -> None:
    _shift_time(root / "symlink", 10**9)


@_mutation("target of 'plain_symlink'")
def another_target(root: Path) -> None:
    (root / "plain_symlink").unlink()
    (root / "plain_symlink").symlink_to("Target")


@_mutation("kind of 'symlink'")
def a_symlink_followed(root: Path) -> None:
    (root / "symlink").unlink()
    (root / "symlink").write_bytes(b"target")


@_mutation("kind of 'fifo'")
def a_fifo_made_a_file(root: Path) -> None:
    (root / "fifo").unlink()
    (root / "fifo").touch()


@_mutation("kind of 'socket'")
def a_socket_made_a_file(root: Path) -> None:
    (root / "socket").unlink()
    (root / "socket").touch()


@_mutation("rdev of 'device'", needs={Need.DEVICES})
def another_device(root: Path) -> None:
    (root / "device").unlink()
    os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))


@_mutation("kind of 'device'", needs={Need.DEVICES}, rsync_sees=False)
def a_device_of_the_other_kind(root: Path) -> None:
    (root / "device").unlink()
    os.mknod(root / "device", stat.S_IFBLK | 0o600, os.makedev(1, 3))


@_mutation("links of 'linked'", "links of 'linked_again'", "group of 'linked_again'")
def a_broken_hard_link(root: Path) -> None:
    (root / "linked_again").unlink()
    (root / "linked_again").write_bytes(b"linked")
    (root / "linked_again").chmod((root / "linked").stat().st_mode)


@_mutation("links of 'twin_a'", "links of 'twin_b'", "group of 'twin_b'")
def two_files_made_one(root: Path) -> None:
    (root / "twin_b").unlink()
    (root / "twin_b").hardlink_to(root / "twin_a")


@_mutation("links of 'file'", "name of 'stray'")
def a_stray_name_of_a_file(root: Path) -> None:
    (root / "stray").hardlink_to(root / "file")


@_mutation("xattrs of 'file'", needs={Need.USER_XATTRS})
def another_value_of_the_same_length(root: Path) -> None:
    os.setxattr(root / "file", "user.long", b"\1binary\xff" * 50)


@_mutation("xattrs of 'file'", needs={Need.USER_XATTRS})
def a_lost_attribute_without_a_value(root: Path) -> None:
    os.removexattr(root / "file", "user.empty")


@_mutation("xattrs of 'even'", needs={Need.USER_XATTRS})
def an_extra_attribute(root: Path) -> None:
    os.setxattr(root / "even", "user.extra", b"")


@_mutation("xattrs of 'folder'", needs={Need.USER_XATTRS})
def a_lost_attribute_of_a_directory(root: Path) -> None:
    os.removexattr(root / "folder", "user.long")


@_mutation("xattrs of 'symlink'", needs={Need.TRUSTED_XATTRS})
def a_lost_attribute_of_a_symlink(root: Path) -> None:
    os.removexattr(root / "symlink", "trusted.note", follow_symlinks=False)


@_mutation("xattrs of 'guarded'", needs={Need.ACLS})
def another_user_in_an_acl(root: Path) -> None:
    os.setxattr(root / "guarded", generate_xattrs.ACCESS, usual_acl(1235, 5678, mask=6))


@_mutation("mode of 'guarded'", "xattrs of 'guarded'", needs={Need.ACLS})
def another_mask_of_an_acl(root: Path) -> None:
    os.setxattr(root / "guarded", generate_xattrs.ACCESS, usual_acl(1234, 5678, mask=4))


@_mutation("xattrs of 'folder'", needs={Need.ACLS})
def a_lost_default_acl(root: Path) -> None:
    os.removexattr(root / "folder", generate_xattrs.DEFAULT)


@_mutation("xattrs of 'capable'", needs={Need.CAPABILITIES})
def a_lost_capability(root: Path) -> None:
    os.removexattr(root / "capable", generate_xattrs.CAPABILITY)


@_mutation("flags of 'file'", needs={Need.FLAGS}, rsync_sees=False)
def an_extra_flag(root: Path) -> None:
    inode_flags.change_path(root / "file", add=inode_flags.Flag.NODUMP)


@_mutation("flags of 'folder'", needs={Need.FLAGS}, rsync_sees=False)
def an_extra_flag_of_a_directory(root: Path) -> None:
    inode_flags.change_path(root / "folder", add=inode_flags.Flag.NOATIME)
