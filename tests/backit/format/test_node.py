"""What passes `decode` is sound; whatever else comes in is damaged, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backit.errors import Damaged
from backit.format import message, node
from backit.format.magic import DIRECTORY_LIMIT, Kind
from backit.format.record import Plain
from backit.format.v1 import tree_pb2 as pb
from backit.ids import ChunkId
from tests.backit.format.samples import flipped

CHUNK = ChunkId(b"c" * 32)
TABLE = tuple(ChunkId(bytes([number]) * 32) for number in range(4))
NAMES = st.binary(min_size=1, max_size=3).filter(
    lambda name: name not in (b".", b"..") and not {0, 47} & set(name)
)
DIRECTORIES = st.lists(NAMES, max_size=3).map(lambda names: b"".join(n + b"\0" for n in names))


def decode(plaintext: bytes, references: int = 0) -> node.Node:
    return node.decode(Plain(Kind.NODE, TABLE[:references], plaintext), CHUNK)


def leaf(keys: set[tuple[bytes, bytes]]) -> pb.Node:
    """A leaf of named pipes."""
    found = pb.Node()
    for directory, name in sorted(keys, key=lambda key: node.entry_key(*key)):
        if not found.parts or found.parts[-1].directory != directory:
            found.parts.add(directory=directory)
        found.parts[-1].entries.add(name=name, type=pb.FILE_TYPE_FIFO)
    return found


@given(keys=st.sets(st.tuples(DIRECTORIES, NAMES), max_size=20))
def test_entries_come_out_in_the_order_of_their_keys(keys: set[tuple[bytes, bytes]]) -> None:
    found = decode(message.encode(leaf(keys)))
    listed = [(directory, entry.name) for directory, entry in node.entries(found)]
    ordered = sorted(keys, key=lambda key: node.entry_key(*key))
    assert listed == ordered == sorted(keys)
    ends = (node.entry_key(*ordered[0]), node.entry_key(*ordered[-1])) if keys else (b"", b"")
    assert (node.first_key(found), node.last_key(found)) == ends


@given(directory=DIRECTORIES, name=NAMES)
def test_a_key_can_be_split_again(directory: bytes, name: bytes) -> None:
    assert node.split_key(node.entry_key(directory, name)) == (directory, name)


@given(keys=st.sets(st.tuples(DIRECTORIES, NAMES), min_size=1, max_size=10), bit=st.integers(0))
def test_a_flipped_bit_gives_another_sound_node_or_none(
    keys: set[tuple[bytes, bytes]], bit: int
) -> None:
    changed = flipped(message.encode(leaf(keys)), bit)
    try:
        found = decode(changed)
    except Damaged:
        return
    assert message.encode(found.message) == changed


NUMBERS = st.one_of(st.just(0), st.integers(0, 8), st.sampled_from([2**22, 2**32 - 1]))
LONG_NUMBERS = st.one_of(NUMBERS, st.just(2**64 - 1))
BYTES = st.one_of(
    NAMES, st.binary(max_size=3), st.sampled_from([b"", b".", b"..", b"a\0", b"/", b"x" * 32])
)
EXTENTS = st.lists(st.builds(pb.Extent, chunk=NUMBERS, offset=NUMBERS, length=NUMBERS), max_size=2)
HOLES = st.lists(st.builds(pb.Hole, offset=LONG_NUMBERS, length=LONG_NUMBERS), max_size=2)
ATTRIBUTES = st.lists(st.builds(pb.Attribute, name=BYTES, value=BYTES), max_size=2)
ENTRIES = st.builds(
    pb.Entry,
    name=BYTES,
    type=st.one_of(st.integers(0, 7), st.just(2**31 - 1)),
    mode=NUMBERS,
    size=LONG_NUMBERS,
    links=NUMBERS,
    link_device=LONG_NUMBERS,
    target=BYTES,
    device_major=NUMBERS,
    attributes=ATTRIBUTES,
    flags=NUMBERS,
    content_hash=BYTES,
    extents=EXTENTS,
    extent_tree=NUMBERS,
    holes=HOLES,
    inconsistent=st.booleans(),
)
PARTS = st.builds(pb.DirectoryPart, directory=BYTES, entries=st.lists(ENTRIES, max_size=2))
OWNERS = st.lists(st.builds(pb.OwnerName, id=NUMBERS, name=st.text(max_size=2)), max_size=2)
CHILDREN = st.lists(
    st.builds(pb.Child, node=NUMBERS, first_key=BYTES, count=LONG_NUMBERS), max_size=3
)
NODES = st.builds(
    pb.Node,
    level=st.sampled_from([0, 0, 0, 1, 15, 16, 2**32 - 1]),
    parts=st.lists(PARTS, max_size=2),
    users=OWNERS,
    groups=OWNERS,
    children=CHILDREN,
    extents=EXTENTS,
)


@given(hostile=st.one_of(NODES, st.builds(pb.Node, parts=st.lists(PARTS, max_size=2))))
def test_whatever_somebody_encodes_is_damaged_or_sound(hostile: pb.Node) -> None:
    for references in range(3):
        try:
            found = decode(message.encode(hostile), references)
        except Damaged:
            continue
        check_sound(found)


def check_sound(found: node.Node) -> None:
    """The promises that others rely on, asked for in another way than they are kept."""
    keys = [node.entry_key(directory, entry.name) for directory, entry in node.entries(found)]
    keys = keys or [child.first_key for child in found.message.children if child.first_key]
    assert keys == sorted(set(keys))
    for directory, entry in node.entries(found):
        for name in [*directory.split(b"\0")[:-1], entry.name]:
            assert name
            assert name not in (b".", b"..")
            assert b"/" not in name
            assert b"\0" not in name
        data = sum(extent.length for extent in entry.extents)
        assert entry.extent_tree or data == node.data_size(entry)
        assert node.data_size(entry) >= 0
        assert entry.type in set(pb.FileType.values()) - {pb.FILE_TYPE_UNSPECIFIED}


@given(plaintext=st.binary(max_size=80), references=st.integers(0, 4))
def test_garbage_is_damaged_or_sound(plaintext: bytes, references: int) -> None:
    for data in (plaintext, b"\x12" + plaintext, b"\x08\x01\x2a" + plaintext):
        try:
            check_sound(decode(data, references))
        except Damaged:
            continue


def test_damage_is_named() -> None:
    with pytest.raises(Damaged, match=f"node {CHUNK}: Node: not a protobuf message"):
        decode(b"\xff")


def test_data_where_a_node_should_be_is_damaged() -> None:
    with pytest.raises(Damaged, match="a data chunk where a node should be"):
        node.decode(Plain(Kind.DATA, (), b""), CHUNK)


def test_a_path_has_an_end() -> None:
    component = b"x" * 255 + b"\0"
    whole = component * (DIRECTORY_LIMIT // len(component))
    entries = [pb.Entry(name=b"a", type=pb.FILE_TYPE_FIFO)]
    fits = pb.Node(parts=[pb.DirectoryPart(directory=whole, entries=entries)])
    assert decode(message.encode(fits)).message == fits
    longer = pb.Node(parts=[pb.DirectoryPart(directory=whole + b"x\0", entries=entries)])
    with pytest.raises(Damaged, match="is not a directory"):
        decode(message.encode(longer))


# What names are made wrong of, often enough.
PATHS = st.lists(st.sampled_from([b"a", b".", b"/", b"\0", b"\n", b"x" * 127]), max_size=8)


@given(parts=PATHS)
def test_a_directory_is_names_with_a_zero_byte_behind_each(parts: list[bytes]) -> None:
    directory = b"".join(parts)
    *components, rest = directory.split(b"\0")
    is_right = not rest and all(is_name(component) for component in components)
    entries = [pb.Entry(name=b"a", type=pb.FILE_TYPE_FIFO)]
    encoded = message.encode(
        pb.Node(parts=[pb.DirectoryPart(directory=directory, entries=entries)])
    )
    if is_right:
        assert decode(encoded).message.parts[0].directory == directory
    else:
        with pytest.raises(Damaged, match="is not a directory"):
            decode(encoded)


def is_name(text: bytes) -> bool:
    return 0 < len(text) <= 255 and b"/" not in text and text not in (b".", b"..")


@given(nanoseconds=st.integers(-node.TIME_OFFSET, node.TIME_LIMIT - node.TIME_OFFSET))
def test_times_come_back(nanoseconds: int) -> None:
    assert node.decode_time(node.encode_time(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(("nanoseconds", "stored"), [(-(2**63), 0), (2**65, node.TIME_LIMIT)])
def test_times_outside_are_moved_to_the_nearest_end(nanoseconds: int, stored: int) -> None:
    assert node.encode_time(nanoseconds) == stored
