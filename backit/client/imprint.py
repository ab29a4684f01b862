"""Puts owner, mode, ACLs, attributes, times and flags on what a restore has made.

The order matters: an owner takes set-user-id and capabilities away, a mode rewrites an ACL's mask,
and the immutable flag forbids all the rest. What cannot be set, for lack of rights or because the
file system does not know it, is warned of and never stops a restore. What a file holds is
write.py's business.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat as st
import struct
from collections.abc import Callable
from fcntl import ioctl
from typing import TYPE_CHECKING, NamedTuple

from backit.client import metadata
from backit.client.handles import ENCODING
from backit.format.node import FLAGS_MASK, Node, decode_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backit.client.metadata import Attributes
    from backit.format.v1 import tree_pb2 as pb

Warn = Callable[[str], None]

# linux/fs.h: _IOW('f', 2, long)
_SET_FLAGS = 0x40006602 | struct.calcsize("l") << 16
# btrfs takes these only while a file is empty: no copy-on-write, compression.
EARLY_FLAGS = 0x800000 | 0x4
# These forbid what else is done to a file: immutable, append-only.
LOCKING_FLAGS = 0x10 | 0x20
# What new files take over from their directory.
_INHERITED_FLAGS = EARLY_FLAGS | 0x40 | 0x80 | 0x8 | 0x10000 | 0x20000000

ACCESS_ACL, DEFAULT_ACL = b"system.posix_acl_access", b"system.posix_acl_default"
CAPABILITY = b"security.capability"
# Attributes that are taken away if the snapshot does not have them; others are the system's own.
_OURS = (b"user.", b"trusted.", ACCESS_ACL, DEFAULT_ACL, CAPABILITY)


class Metadata(NamedTuple):
    """What a restored file should have, in this machine's terms. `mtime` is in Unix nanoseconds.

    A named tuple because there is one for each entry, and frozen dataclasses are slow to make.
    """

    mode: int
    uid: int
    gid: int
    mtime: int
    flags: int
    attributes: Attributes


class Owners:
    """Who the owners of a snapshot are here: by name where both machines know it, else by number.

    For one thread.
    """

    def __init__(self, *, numeric: bool) -> None:
        self._numeric = numeric
        self._leaf: Node | None = None
        self._users: dict[int, int] = {}
        self._groups: dict[int, int] = {}
        self._known_users: dict[str, int | None] = {}
        self._known_groups: dict[str, int | None] = {}

    def metadata(self, entry: pb.Entry, leaf: Node) -> Metadata:
        """What `entry`, which stands in `leaf`, should have here."""
        uid, gid = entry.uid, entry.gid
        if not self._numeric:
            if leaf is not self._leaf:
                self._learn(leaf)
            uid, gid = self._users.get(uid, uid), self._groups.get(gid, gid)
        attributes: Attributes = ()
        if entry.attributes:
            attributes = tuple((each.name, each.value) for each in entry.attributes)
        return Metadata(entry.mode, uid, gid, decode_time(entry.mtime), entry.flags, attributes)

    def _learn(self, leaf: Node) -> None:
        self._leaf = leaf
        self._users = _translate(leaf.message.users, self._known_users, _find_user)
        self._groups = _translate(leaf.message.groups, self._known_groups, _find_group)


def _translate(
    names: Iterable[pb.OwnerName], known: dict[str, int | None], find: Callable[[str], int | None]
) -> dict[int, int]:
    here: dict[int, int] = {}
    for each in names:
        if each.name not in known:
            known[each.name] = find(each.name)
        number = known[each.name]
        if number is not None:
            here[each.id] = number
    return here


def _find_user(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        return None


def _find_group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None


def differs(found: os.stat_result, wanted: Metadata) -> bool:
    """Whether mode, owner or time, as stat shows them, are not as wanted."""
    is_link = st.S_ISLNK(found.st_mode)
    return (
        found.st_mtime_ns != wanted.mtime
        or found.st_uid != wanted.uid
        or found.st_gid != wanted.gid
        or (found.st_mode & 0o7777 != wanted.mode and not is_link)
    )


def imprint_plain(fd: int, wanted: Metadata) -> bool:
    """The same of a new file in the usual case, with as few calls as that needs.

    False if more is wanted than the system gave it by itself; then nothing was done.
    """
    found = os.fstat(fd)
    if (
        wanted.attributes
        or found.st_mode & 0o7777 != wanted.mode
        or found.st_uid != wanted.uid
        or found.st_gid != wanted.gid
    ):
        return False
    os.utime(fd, ns=(wanted.mtime, wanted.mtime))
    return True


def imprint(target: int | bytes, wanted: Metadata, warn: Warn, *, is_fresh: bool) -> None:
    """Everything but flags, on an open file or through a path that the kernel resolves to an open
    one.

    `is_fresh` is a promise that the file has no attributes but those that the system itself gives.
    """
    found = os.stat(target)  # noqa: PTH116  # a handle
    mode = _imprint_owner(target, found, wanted, warn)
    owner_changed = (found.st_uid, found.st_gid) != (wanted.uid, wanted.gid)
    if not st.S_ISLNK(found.st_mode) and (owner_changed or mode != found.st_mode & 0o7777):
        try:
            os.chmod(target, mode)  # noqa: PTH101  # a handle
        except OSError as error:
            warn(f"mode {mode:04o} could not be set: {reason(error)}")
    if wanted.attributes or not is_fresh:
        _imprint_attributes(target, wanted.attributes, warn, is_fresh=is_fresh)
    try:
        os.utime(target, ns=(wanted.mtime, wanted.mtime))
    except OSError as error:
        warn(f"time could not be set: {reason(error)}")


def _imprint_owner(target: int | bytes, found: os.stat_result, wanted: Metadata, warn: Warn) -> int:
    """Returns the mode that may be set: without set-id bits that would lend the wrong rights."""
    if found.st_uid == wanted.uid and found.st_gid == wanted.gid:
        return wanted.mode
    try:
        os.chown(target, wanted.uid, wanted.gid)
    except OSError as error:
        warn(f"owner {wanted.uid}:{wanted.gid} could not be set: {reason(error)}")
    else:
        return wanted.mode
    group_is_right = found.st_gid == wanted.gid
    if not group_is_right:
        # A person may give a file to any group of theirs.
        with contextlib.suppress(OSError):
            os.chown(target, -1, wanted.gid)
            group_is_right = True
    mode = wanted.mode
    if found.st_uid != wanted.uid:
        mode &= ~st.S_ISUID
    if not group_is_right and not st.S_ISDIR(found.st_mode):
        mode &= ~st.S_ISGID
    return mode


def _imprint_attributes(
    target: int | bytes, wanted: Attributes, warn: Warn, *, is_fresh: bool
) -> None:
    here: dict[bytes, bytes] = {}
    if not is_fresh:
        here = dict(_attributes(target))
        names = {name for name, _value in wanted}
        for name in here:
            if name.startswith(_OURS) and name not in names:
                try:
                    os.removexattr(target, name)
                except OSError as error:
                    warn(f"attribute {_show(name)} could not be taken away: {reason(error)}")
    for name, value in sorted(wanted, key=_turn):
        if here.get(name) != value:
            try:
                os.setxattr(target, name, value)
            except OSError as error:
                warn(f"attribute {_show(name)} could not be set: {reason(error)}")


def _turn(attribute: tuple[bytes, bytes]) -> tuple[int, bytes]:
    """ACLs first, capabilities last."""
    name = attribute[0]
    turn = 0 if name in (ACCESS_ACL, DEFAULT_ACL) else 2 if name == CAPABILITY else 1
    return turn, name


def _attributes(target: int | bytes) -> Attributes:
    if isinstance(target, int):
        return metadata.read_attributes(target)
    return metadata.read_attributes_of(target)


def attributes_differ(found: Attributes, wanted: Attributes) -> bool:
    """Whether attributes are missing or other than wanted, or there are some that nobody wants."""
    if found == wanted:
        return False
    names = {name for name, _value in wanted}
    here = dict(found)
    return any(here.get(name) != value for name, value in wanted) or any(
        name.startswith(_OURS) and name not in names for name in here
    )


def is_as_wanted(directory: int, wanted: Metadata) -> bool:
    """Whether an open directory has all its metadata. Raises OSError."""
    return not (
        differs(os.fstat(directory), wanted)
        or attributes_differ(metadata.read_attributes(directory), wanted.attributes)
        or metadata.read_flags(directory) != wanted.flags
    )


def inherits(directory: int) -> bool:
    """Whether what is made in an open directory gets an ACL or flags from it."""
    try:
        os.getxattr(directory, DEFAULT_ACL)
    except OSError:
        return bool(metadata.all_flags(directory) & _INHERITED_FLAGS)
    return True


def imprint_flags(fd: int, wanted: int, warn: Warn, *, among: int = FLAGS_MASK) -> None:
    """Set those inode flags of `wanted` that are `among` these, take the others of these away, and
    look again.
    """
    here = metadata.all_flags(fd)
    aim = here & ~among | wanted & among
    if aim == here:
        return
    why = "the file system does not keep them"
    try:
        _set_flags(fd, aim)
    except OSError as error:
        why = reason(error)
        _set_each_flag(fd, here, aim)
    # A file system may refuse a flag without a word.
    if lacking := aim & ~metadata.all_flags(fd):
        warn(f"inode flags {lacking:#x} could not be set: {why}")


def _set_each_flag(fd: int, here: int, aim: int) -> None:
    """One by one: a flag that this file system does not know must not keep the others out."""
    for bit in range(32):
        flag = 1 << bit
        if (here ^ aim) & flag:
            with contextlib.suppress(OSError):
                _set_flags(fd, here ^ flag)
                here ^= flag


def _set_flags(fd: int, flags: int) -> None:
    ioctl(fd, _SET_FLAGS, struct.pack("=I4x", flags))


def _show(name: bytes) -> str:
    return name.decode(ENCODING, "backslashreplace")


def reason(error: OSError) -> str:
    """Why the system refused, as an error's text says it."""
    return (error.strerror or str(error)).lower()
