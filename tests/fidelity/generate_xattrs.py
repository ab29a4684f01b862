"""Trees whose difficulty is in extended attributes: values, namespaces, ACLs, capabilities.

ACLs and capabilities are written as the raw attributes that the kernel keeps them in.
"""

import os
import random
import struct
from pathlib import Path

from tests.fidelity.registry import Need, generator

ACCESS = "system.posix_acl_access"
DEFAULT = "system.posix_acl_default"
CAPABILITY = "security.capability"

# linux/posix_acl_xattr.h and linux/posix_acl.h
_ACL_VERSION = 2
OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID = 2**32 - 1

AclEntry = tuple[int, int, int]
"""Tag, permission bits, user or group id (_NO_ID where the tag says it all)."""


def acl(*entries: AclEntry) -> bytes:
    """Encode an ACL as the kernel stores it: entries sorted by tag, then id."""
    return struct.pack("<I", _ACL_VERSION) + b"".join(
        struct.pack("<HHI", *entry)
        for entry in sorted(entries, key=lambda each: (each[0], each[2]))
    )


def usual_acl(user: int, group: int, *, mask: int) -> bytes:
    """Give a named user all rights and a named group some, under a mask."""
    return acl(
        (OWNER, 7, _NO_ID),
        (USER, 7, user),
        (OWNING_GROUP, 5, _NO_ID),
        (GROUP, 6, group),
        (MASK, mask, _NO_ID),
        (OTHER, 4, _NO_ID),
    )


def capability(permitted: int, *, effective: bool = True, root_id: int | None = None) -> bytes:
    """Encode file capabilities (linux/capability.h): version 2, or 3 when they have a root id."""
    version = 0x02000000 if root_id is None else 0x03000000
    low, high = permitted & 0xFFFFFFFF, permitted >> 32
    head = struct.pack("<IIIII", version | effective, low, 0, high, 0)
    return head if root_id is None else head + struct.pack("<I", root_id)


@generator(Need.USER_XATTRS)
def xattrs_of_users(root: Path, rng: random.Random) -> None:
    """Empty, binary and long values, odd names, many at once; on files and directories."""
    values: dict[str, dict[bytes, bytes]] = {
        "empty_value": {b"user.empty": b""},
        "one_byte": {b"user.one": b"\0"},
        "binary": {b"user.binary": bytes(range(256)), b"user.not_utf8": b"\xff\xfe"},
        "long_value": {b"user.long": rng.randbytes(3_900)},
        "long_name": {b"user." + b"n" * 250: b"name of 255 bytes"},
        "odd_names": {b"user.\xff\xfe": b"1", b"user. space": b"2", "user.é".encode(): b"3"},
        "dotted": {b"user.a.b.c": b"x", b"user.a": b"y", b"user.A": b"z"},
        "many": {b"user.n%02d" % n: rng.randbytes(8) for n in range(60)},
        "text": {b"user.mime_type": b"text/plain", b"user.xdg.origin.url": b"http://[::1]/"},
    }
    for name, attributes in values.items():
        path, folder = root / name, root / f"{name}_folder"
        path.write_bytes(rng.randbytes(20))
        folder.mkdir()
        for each in (path, folder):
            _set(each, attributes)
    (root / "empty_file").touch()
    _set(root / "empty_file", {b"user.on_nothing": b"there"})
    os.link(root / "binary", root / "binary_second_name")
    _set(root / "text", {b"user.read_only": b"yes"})
    (root / "text").chmod(0o444)


@generator(Need.USER_XATTRS, Need.BIG_XATTRS)
def xattrs_of_64k(root: Path, rng: random.Random) -> None:
    """Values as long as the kernel lets them be."""
    for length in (4_096, 32_768, 64_000, 65_536):
        path = root / f"of_{length}"
        path.touch()
        _set(path, {b"user.big": rng.randbytes(length)})
    (root / "folder").mkdir()
    _set(root / "folder", {b"user.big": rng.randbytes(64_000), b"user.small": b"1"})


@generator(Need.ROOT, Need.TRUSTED_XATTRS)
def xattrs_of_root(root: Path, rng: random.Random) -> None:
    """The trusted namespace, which symlinks, FIFOs and sockets can carry too."""
    (root / "file").write_bytes(rng.randbytes(20))
    (root / "folder").mkdir()
    (root / "link").symlink_to("file")
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "fifo")
    for name in ("file", "folder", "link", "dangling", "fifo"):
        value = rng.randbytes(40)
        _set(root / name, {b"trusted.binary": value, b"trusted.empty": b""})
    _set(root / "file", {b"security.of_the_suite": b"\0\1"})


@generator(Need.ACLS)
def acls(root: Path, rng: random.Random) -> None:
    """Access ACLs whose mask is not what the group had; chmod at the wrong time rewrites them."""
    for mask in range(8):
        path, folder = root / f"mask_{mask}", root / f"mask_{mask}_folder"
        path.write_bytes(rng.randbytes(9))
        folder.mkdir()
        for each in (path, folder):
            os.setxattr(each, ACCESS, usual_acl(1234, 5678, mask=mask))
    crowd: list[AclEntry] = [(USER, rng.randrange(8), 10_000 + n) for n in range(40)]
    rest: list[AclEntry] = [
        (OWNER, 6, _NO_ID),
        (OWNING_GROUP, 4, _NO_ID),
        (MASK, 7, _NO_ID),
        (OTHER, 0, _NO_ID),
    ]
    (root / "crowd").write_bytes(rng.randbytes(9))
    os.setxattr(root / "crowd", ACCESS, acl(*crowd, *rest))
    (root / "largest_id").touch()
    os.setxattr(root / "largest_id", ACCESS, usual_acl(2**32 - 2, 2**31, mask=5))


@generator(Need.ACLS)
def acls_inherited(root: Path, rng: random.Random) -> None:
    """Default ACLs over things made before and after them: a restore must not inherit anew."""
    folder = root / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "without").write_bytes(rng.randbytes(9))
    (folder / "without").chmod(0o600)
    os.setxattr(folder, DEFAULT, usual_acl(1111, 2222, mask=7))
    (folder / "with").write_bytes(rng.randbytes(9))
    (folder / "inner_with").mkdir()
    (folder / "inner_with" / "grandchild").write_bytes(rng.randbytes(9))
    (folder / "stripped").write_bytes(rng.randbytes(9))
    os.removexattr(folder / "stripped", ACCESS)
    os.mkfifo(folder / "fifo")
    both = root / "both"
    both.mkdir()
    os.setxattr(both, ACCESS, usual_acl(3333, 4444, mask=5))
    os.setxattr(both, DEFAULT, usual_acl(5555, 6666, mask=1))
    (both / "child").touch()


@generator(Need.ROOT, Need.CAPABILITIES)
def capabilities(root: Path, rng: random.Random) -> None:
    """File capabilities, which a chown or a write takes away again; with other owners and modes."""
    bind, admin, newest = 1 << 10, 1 << 21, 1 << 40
    kinds = {
        "bind": capability(bind),
        "not_effective": capability(bind | admin, effective=False),
        "high_half": capability(newest | bind),
        "of_a_namespace": capability(bind, root_id=100_000),
    }
    for name, value in kinds.items():
        for suffix, owner, mode in (
            ("", 0, 0o755),
            ("_setuid", 0, 0o6755),
            ("_other", 1000, 0o700),
        ):
            path = root / (name + suffix)
            path.write_bytes(rng.randbytes(5_000))
            os.chown(path, owner, owner)
            path.chmod(mode)
            os.setxattr(path, CAPABILITY, value)
    os.link(root / "bind", root / "bind_second_name")


def _set(path: Path, attributes: dict[bytes, bytes]) -> None:
    for name, value in attributes.items():
        os.setxattr(path, name, value, follow_symlinks=False)
