"""Cases of section 6: nodes, each rule of the page broken once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.vectors.case import Case
from tests.vectors.record_cases import SECRET, id_of
from tests.vectors.wire import NODE, field, fixed64, message, secret, varint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vectors.case import Value

TABLE = sorted(secret(f"reference {number}") for number in range(4))
HASH = secret("content hash")
REGULAR, DIRECTORY, SYMLINK, FIFO, CHARACTER, BLOCK = range(1, 7)
# tree.proto, message Entry.
NUMBERS = {
    "name": 1,
    "type": 2,
    "mode": 3,
    "uid": 4,
    "gid": 5,
    "mtime": 6,
    "ctime": 7,
    "size": 8,
    "inode": 9,
    "links": 10,
    "link_device": 11,
    "target": 12,
    "device_major": 13,
    "device_minor": 14,
    "attributes": 15,
    "flags": 16,
    "content_hash": 17,
    "extents": 18,
    "extent_tree": 19,
    "holes": 20,
    "inconsistent": 21,
}
TIME = 3_958_988_800 * 10**9


def entry(name: bytes, kind: int = FIFO, **fields: int | bytes | list[bytes]) -> bytes:
    """An entry's encoding; lists are repeated messages."""
    parts = (field(1, name) if name else b"") + (field(2, kind) if kind else b"")
    for key, value in sorted(fields.items(), key=lambda item: NUMBERS[item[0]]):
        number = NUMBERS[key]
        if isinstance(value, list):
            parts += b"".join(field(number, each) for each in value)
        elif key in ("mtime", "ctime"):
            parts += fixed64(number, value) if isinstance(value, int) else b""
        elif value:
            parts += field(number, value)
    return parts


def file(name: bytes, size: int, *extents: bytes, **fields: int | bytes | list[bytes]) -> bytes:
    full = {"size": size, "content_hash": HASH, "extents": list(extents), **fields}
    return entry(name, REGULAR, **full)


def extent(chunk: int, offset: int, length: int) -> bytes:
    return message({1: chunk, 2: offset, 3: length})


def hole(offset: int, length: int) -> bytes:
    return message({1: offset, 2: length})


def attribute(name: bytes, value: bytes) -> bytes:
    return message({1: name, 2: value})


def part(directory: bytes, *entries: bytes) -> bytes:
    return (field(1, directory) if directory else b"") + b"".join(field(2, e) for e in entries)


def leaf(*parts: bytes, users: tuple[bytes, ...] = (), groups: tuple[bytes, ...] = ()) -> bytes:
    return b"".join(
        [
            *(field(2, each) for each in parts),
            *(field(3, each) for each in users),
            *(field(4, each) for each in groups),
        ]
    )


def child(node: int, key: bytes, count: int = 1, size: int = 0) -> bytes:
    return message({1: node, 2: key, 3: count, 4: size})


def inner(level: int, *children: bytes) -> bytes:
    return field(1, level) + b"".join(field(5, each) for each in children)


def extents_leaf(*extents: bytes) -> bytes:
    return b"".join(field(6, each) for each in extents)


def owner(number: int, name: str) -> bytes:
    return message({1: number, 2: name})


def cases() -> Iterator[Case]:
    yield from _good()
    for name, about, used, plaintext in (
        *_wrong_inner(),
        *_wrong_leaves(),
        *_wrong_names(),
        *_wrong_entries(),
        *_wrong_contents(),
        *_not_canonical(),
    ):
        yield _case(name, about, "Damaged", plaintext, used)
    yield _case(
        "kind",
        "A data chunk where a node should be.",
        "Damaged",
        leaf(part(b"", entry(b"a"))),
        0,
        kind=1,
    )


def _case(name: str, about: str, expect: str, plaintext: bytes, used: int, **more: Value) -> Case:
    table = TABLE[:used]
    fields: dict[str, Value] = {
        "expect": expect,
        "references": table,
        "plaintext": plaintext,
        "domain_secret": SECRET,
        "id": id_of(plaintext, NODE, table),
        **more,
    }
    return Case(f"node/{name}", about, fields)


def _good() -> Iterator[Case]:
    everything = leaf(
        part(
            b"",
            file(
                b"file",
                12,
                extent(0, 0, 5),
                extent(1, 7, 7),
                mode=0o4755,
                uid=1000,
                gid=100,
                mtime=TIME,
                ctime=TIME + 1,
                inode=17,
                flags=0x10,
            ),
            entry(b"home", DIRECTORY, mode=0o755, mtime=TIME, flags=0x20),
            file(b"huge", 5 << 30, extent_tree=3, inconsistent=1),
            entry(b"link", SYMLINK, mode=0o777, target=b"../\xff\n"),
            file(b"linked", 1, extent(1, 0, 1), links=2, link_device=64769),
            entry(b"null", CHARACTER, mode=0o666, device_major=1, device_minor=3),
            entry(b"pipe", FIFO),
            entry(b"sda", BLOCK, device_major=8),
            file(b"sparse", 100, extent(1, 0, 30), holes=[hole(0, 10), hole(40, 60)]),
            entry(b"void", REGULAR, size=9, holes=[hole(0, 9)]),
            entry(b"zero", REGULAR),
        ),
        part(
            b"home\0",
            entry(
                b"anna",
                DIRECTORY,
                uid=1000,
                attributes=[attribute(b"user.a", b""), attribute(b"user.b", b"\0\1")],
            ),
        ),
        part(b"home\0anna\0", entry(b"\xff" * 255)),
        users=(owner(0, "root"), owner(1000, "anna")),
        groups=(owner(100, "users"),),
    )
    yield _case(
        "leaf", "One of everything.", "ok", everything, 3,
        keys=[
            *(b"\0" + name for name in (
                b"file", b"home", b"huge", b"link", b"linked", b"null", b"pipe", b"sda",
                b"sparse", b"void", b"zero",
            )),
            b"home\0\0anna",
            b"home\0anna\0\0" + b"\xff" * 255,
        ],
    )  # fmt: skip
    empty: list[bytes] = []
    yield _case("empty", "The tree of no entries.", "ok", b"", 0, keys=empty)
    children = [child(1, b"\0a", 100, 5), child(0, b"\0b", 3), child(1, b"a\0\0c", 1, 1 << 40)]
    keys = [b"\0a", b"\0b", b"a\0\0c"]
    yield _case("inner", "An inner node.", "ok", inner(2, *children), 2, keys=keys)
    many = extents_leaf(extent(1, 0, 4 << 20), extent(0, (4 << 20) - 1, 1), extent(1, 0, 9))
    yield _case("extents", "A leaf of extents.", "ok", many, 2, keys=empty)
    above = inner(1, child(0, b"", 32, 4096), child(1, b"", 33, 9))
    yield _case("extents-inner", "An inner node of extents.", "ok", above, 2, keys=empty)
    full = leaf(part(b"", *(entry(b"%03d" % number) for number in range(400))))
    keys = [b"\0%03d" % number for number in range(400)]
    yield _case("leaf-full", "As many entries as fit.", "ok", full, 0, keys=keys)


Wrong = tuple[str, str, int, bytes]


def _wrong_inner() -> Iterator[Wrong]:
    a, b = child(0, b"\0a"), child(1, b"\0b")
    yield "level", "Higher than any tree.", 1, inner(16, a)
    yield "inner-alone", "An inner node without children.", 0, inner(1)
    yield (
        "inner-parts",
        "With entries.",
        1,
        field(1, 1) + field(2, part(b"", entry(b"a"))) + field(5, a),
    )
    yield "inner-users", "With owners.", 1, field(1, 1) + field(3, owner(0, "root")) + field(5, a)
    yield "inner-groups", "With groups.", 1, field(1, 1) + field(4, owner(0, "root")) + field(5, a)
    yield "inner-extents", "With extents.", 1, inner(1, a) + field(6, extent(0, 0, 1))
    yield "inner-order", "Keys that are not ascending.", 2, inner(1, b, a)
    yield "inner-twice", "A key that stands there twice.", 2, inner(1, a, child(1, b"\0a"))
    yield "inner-mixed", "A child of an extent tree among others.", 2, inner(1, a, child(1, b""))
    yield "inner-mixed-first", "The other way round.", 2, inner(1, child(0, b""), b)
    yield "inner-index", "A child that the table does not have.", 1, inner(1, a, b)
    yield "inner-unused", "A reference that is not used.", 3, inner(1, a, b)
    many = (child(0, b"\0%04d" % number) for number in range(1025))
    yield "inner-many", "More children than a node has.", 1, inner(1, *many)
    yield "inner-huge", "A level that wraps around nothing.", 1, inner(2**32 - 1, a)


def _wrong_leaves() -> Iterator[Wrong]:
    one = part(b"", entry(b"a"))
    data = extent(0, 0, 1)
    yield "leaf-children", "A leaf with children.", 1, field(2, one) + field(5, child(0, b"\0b"))
    yield "children-level", "Children, but of level 0.", 1, field(5, child(0, b"\0b"))
    yield "leaf-mixed", "Entries and extents.", 1, field(2, one) + field(6, data)
    yield "leaf-unused", "A reference that is not used.", 1, leaf(one)
    yield "empty-unused", "A tree of no entries that uses something.", 1, b""
    yield "empty-users", "A tree of no entries with owners.", 0, field(3, owner(0, "root"))
    yield (
        "part-empty",
        "A directory without entries.",
        0,
        leaf(part(b"a\0"), part(b"b\0", entry(b"b"))),
    )
    yield (
        "parts-order",
        "Directories that are not ascending.",
        0,
        leaf(part(b"b\0", entry(b"a")), one),
    )
    yield (
        "parts-twice",
        "A directory that stands there twice.",
        0,
        leaf(one, part(b"", entry(b"b"))),
    )
    many = (entry(b"%03d" % number) for number in range(401))
    yield "leaf-many", "More entries than a leaf has.", 0, leaf(part(b"", *many))
    root, anna = owner(0, "root"), owner(1, "anna")
    yield "users-order", "Owners that are not ascending.", 0, leaf(one, users=(anna, root))
    yield "groups-twice", "A group that stands there twice.", 0, leaf(one, groups=(anna, anna))
    yield "users-nameless", "An owner without a name.", 0, leaf(one, users=(owner(1, ""),))
    yield "groups-zero", "A zero byte in a group's name.", 0, leaf(one, groups=(owner(1, "a\0"),))
    yield "extents-index", "A chunk that the table does not have.", 1, extents_leaf(extent(1, 0, 1))
    yield "extents-empty", "An extent of no bytes.", 1, extents_leaf(data, extent(0, 0, 0))
    yield "extents-beyond", "An extent beyond 4 MiB.", 1, extents_leaf(extent(0, 1, 4 << 20))
    yield "extents-users", "A leaf of extents with owners.", 1, field(3, root) + field(6, data)
    yield "extents-many", "More extents than a leaf has.", 1, extents_leaf(*[data] * 1025)


def _wrong_names() -> Iterator[Wrong]:
    for name, about, found in (
        ("empty", "no name", b""),
        ("dot", "the directory itself", b"."),
        ("dots", "the directory above", b".."),
        ("slash", "a path", b"a/b"),
        ("zero", "with a zero byte", b"a\0b"),
        ("long", "256 bytes", b"a" * 256),
    ):
        yield f"name-{name}", f"An entry's name: {about}.", 0, leaf(part(b"", entry(found)))
        inside = leaf(part(found + b"\0", entry(b"a")))
        if name != "zero":
            yield f"directory-{name}", f"A directory: {about}.", 0, inside
    yield "directory-open", "A directory without its last byte.", 0, leaf(part(b"a", entry(b"a")))
    yield "directory-zeros", "Two zero bytes together.", 0, leaf(part(b"a\0\0", entry(b"a")))
    a, b = entry(b"a"), entry(b"b")
    yield "names-order", "Names that are not ascending.", 0, leaf(part(b"", b, a))
    yield "names-twice", "A name that stands there twice.", 0, leaf(part(b"", a, a))


def _wrong_entries() -> Iterator[Wrong]:
    def one(kind: int, **fields: int | bytes | list[bytes]) -> bytes:
        return leaf(part(b"", entry(b"a", kind, **fields)))

    yield "type-none", "Of no type.", 0, one(0)
    yield "type-unknown", "Of a type of the future.", 0, one(7)
    yield "size-directory", "A directory with a size.", 0, one(DIRECTORY, size=1)
    yield "hash-symlink", "A link with a content.", 0, one(SYMLINK, target=b"a", content_hash=HASH)
    yield "extents-fifo", "A pipe with extents.", 1, one(FIFO, extents=[extent(0, 0, 1)])
    yield "tree-fifo", "A pipe with an extent tree.", 1, one(FIFO, extent_tree=1)
    yield "holes-device", "A device with holes.", 0, one(BLOCK, holes=[hole(0, 1)])
    yield (
        "inconsistent-fifo",
        "A pipe that changed while it was read.",
        0,
        one(FIFO, inconsistent=1),
    )
    yield "target-missing", "A link to nowhere.", 0, one(SYMLINK)
    yield "target-file", "A file that points somewhere.", 0, one(REGULAR, target=b"a")
    yield "target-zero", "A link with a zero byte.", 0, one(SYMLINK, target=b"a\0b")
    yield "mode", "More than permissions.", 0, one(FIFO, mode=0o10644)
    yield "flags", "A flag that is not saved.", 0, one(FIFO, flags=0x1)
    yield "links-one", "A file of a single name.", 0, one(FIFO, links=1)
    yield "links-directory", "A directory of two names.", 0, one(DIRECTORY, links=2)
    yield "link-device", "A file system for no links.", 0, one(FIFO, link_device=1)
    yield "major-file", "A file with a device number.", 0, one(REGULAR, device_major=1)
    yield "minor-fifo", "A pipe with a device number.", 0, one(FIFO, device_minor=1)
    a, b = attribute(b"user.a", b"1"), attribute(b"user.b", b"2")
    yield "attributes-order", "Not ascending.", 0, one(FIFO, attributes=[b, a])
    yield "attributes-twice", "One twice.", 0, one(FIFO, attributes=[a, a])
    yield "attributes-nameless", "Without a name.", 0, one(FIFO, attributes=[attribute(b"", b"1")])
    zero = attribute(b"user.a\0", b"1")
    yield "attributes-zero", "With a zero byte.", 0, one(FIFO, attributes=[zero])


def _wrong_contents() -> Iterator[Wrong]:
    def one(size: int, *extents: bytes, **fields: int | bytes | list[bytes]) -> bytes:
        return leaf(part(b"", file(b"a", size, *extents, **fields)))

    data = extent(0, 0, 10)
    yield "content-index", "A chunk that the table does not have.", 1, one(10, extent(1, 0, 10))
    yield "content-more", "More data than its size.", 1, one(9, data)
    yield "content-less", "Less data than its size.", 1, one(11, data)
    yield "content-empty", "An extent of no bytes.", 1, one(10, data, extent(0, 0, 0))
    long = extent(0, 1, 4 << 20)
    yield "content-beyond", "An extent beyond 4 MiB.", 1, one(4 << 20, long)
    yield "content-many", "65 extents in the entry.", 1, one(650, *[data] * 65)
    yield "content-hashless", "Data without a hash.", 1, one(10, data, content_hash=b"")
    yield "content-hash-short", "A hash of 31 bytes.", 1, one(10, data, content_hash=HASH[:31])
    empty = leaf(part(b"", entry(b"a", REGULAR, content_hash=HASH)))
    yield "content-hash-empty", "A hash of nothing.", 0, empty
    yield "tree-and-extents", "Extents and an extent tree.", 2, one(10, data, extent_tree=2)
    yield "tree-index", "A tree that the table does not have.", 1, one(10, extent_tree=2)
    none = entry(b"a", REGULAR, extent_tree=1)
    yield "tree-empty", "An extent tree for a file without data.", 1, leaf(part(b"", none))
    for name, about, holes in (
        ("order", "Not ascending.", [hole(15, 5), hole(0, 5)]),
        ("touching", "Two that are one.", [hole(0, 5), hole(5, 5)]),
        ("overlapping", "One in the other.", [hole(0, 8), hole(4, 6)]),
        ("empty", "Of no bytes.", [hole(0, 10), hole(12, 0)]),
        ("behind", "Behind the end.", [hole(0, 9), hole(20, 1)]),
        ("across", "Across the end.", [hole(0, 5), hole(16, 5)]),
    ):
        yield f"holes-{name}", about, 1, one(20, data, holes=holes)
    over = [hole(0, 2**64 - 1)]
    yield "holes-endless", "As long as a number can say.", 1, one(20, data, holes=over)


def _not_canonical() -> Iterator[Wrong]:
    one = entry(b"a", FIFO, mode=0o644)
    good = leaf(part(b"", one))
    yield "unknown", "A field that nobody knows.", 0, good + field(7, 1)
    yield "unknown-inside", "In an entry.", 0, leaf(part(b"", one + field(22, 1)))
    yield "default", "A default that is written out.", 0, field(1, 0) + good
    yield "default-inside", "In an entry.", 0, leaf(part(b"", one + field(4, 0)))
    swapped = field(1, b"a") + field(3, 0o644) + field(2, FIFO)
    yield "order", "Fields that have changed places.", 0, leaf(part(b"", swapped))
    twice = field(1, b"a") + one
    yield "twice", "A field twice: the last one would win.", 0, leaf(part(b"", twice))
    long = field(1, b"a") + varint(2 << 3) + b"\x84\x00"
    yield "varint", "A number longer than it needs.", 0, leaf(part(b"", long))
    yield "truncated", "The last byte is missing.", 0, good[:-1]
    yield "garbage", "No message at all.", 0, b"\xff" * 20
    group = b"\x0b" * 200 + b"\x0c" * 200
    yield "nested", "Groups in groups in groups.", 0, group
