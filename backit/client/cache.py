"""What a device remembers between backups, sealed under its own key (FORMAT.md section 10).

The last tree of each series, so that an unchanged file is not read; and the seen index, so that a
file that was moved or copied is not stored again. Replaced only after a commit. Any damage is the
same as absence: the next backup reads more and writes the cache anew.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from google.protobuf.message import DecodeError

from backit.client.excludes import TAG_NAME, TAG_SIGNATURE
from backit.crypto import primitives
from backit.crypto.primitives import Suite
from backit.engine.levels import ChildInfo, Sealable
from backit.engine.tree import Leaf
from backit.errors import BackitError, Damaged
from backit.format import message
from backit.format.magic import KIB, MIB
from backit.format.node import Node
from backit.format.v1 import cache_pb2 as pb
from backit.format.v1 import tree_pb2
from backit.ids import ChunkId, SeriesId, SnapshotId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

LABEL = b"BackIT v1 cache\0"
LENGTH = struct.Struct("<I")
BLOCK_LIMIT = 8 * MIB
HEAD_BYTES = LENGTH.size + primitives.NONCE_BYTES
NO_SERIES = SeriesId(bytes(16))
ROW = struct.Struct("<16s40s")
PLACE = struct.Struct("<32sII")
ROWS_A_BLOCK = 16_384
# At 200 to 400 bytes of memory a row: with 500,000 a backup of ten million files held 293 MiB.
SEEN_MAX = 300_000
# Rows that leave memory together.
SPILL_ROWS = 30_000
TAG_TEXT = b"\n# Made by BackIT. What is here can be made again.\n"


class Box:
    """Seals and opens the blocks of one device's cache."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._name_key = primitives.derive("cache name", key)

    def blind(self, name: bytes) -> bytes:
        """What stands for a name of 16 bytes where it must be found again and not be seen."""
        return primitives.keyed_digest(self._name_key, name)[: len(name)]

    def seal(self, series: SeriesId, plain: bytes) -> bytes:
        nonce = os.urandom(primitives.WRAP_NONCE_BYTES).ljust(primitives.NONCE_BYTES, b"\0")
        sealed = primitives.seal(
            Suite.XCHACHA20_POLY1305, self._key, nonce, plain, LABEL + series.raw
        )
        return LENGTH.pack(len(sealed)) + nonce + sealed

    def blocks(self, series: SeriesId, file: BinaryIO) -> Iterator[bytes]:
        """The plaintext of each block. Raises Damaged."""
        for _sealed, plain in self.both(series, file):
            yield plain

    def both(self, series: SeriesId, file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
        """Each block as it is stored, and its plaintext. Raises Damaged."""
        associated = LABEL + series.raw
        while head := file.read(HEAD_BYTES):
            if len(head) < HEAD_BYTES or (length := LENGTH.unpack_from(head)[0]) > BLOCK_LIMIT:
                raise Damaged("the cache: a block is cut off or too long")
            nonce, sealed = head[LENGTH.size :], file.read(length)
            unused = nonce[primitives.WRAP_NONCE_BYTES :]
            if len(sealed) < length or any(unused):
                raise Damaged("the cache: a block is cut off, or its nonce too long")
            plain = primitives.unseal(
                Suite.XCHACHA20_POLY1305, self._key, nonce, sealed, associated
            )
            yield head + sealed, plain


@dataclass(frozen=True, slots=True)
class CachedHead:
    """The newest committed snapshot of a series, and the bundles that the next run should move.

    `size` and `died` are bytes of content: below the root, and since what lives was last counted.
    """

    snapshot: SnapshotId
    root: ChunkId
    size: int = 0
    died: int = 0
    worn: frozenset[ChunkId] = frozenset()


class SeriesCache:
    """The last tree of one series: one file named by its root, and `head`, which says which file is
    right.
    """

    def __init__(self, folder: Path, box: Box, series: SeriesId) -> None:
        self._folder = folder / series.hex
        self._box = box
        self._series = series

    def head(self) -> CachedHead | None:
        """The newest committed snapshot and its root; None if there is none, or not readable."""
        try:
            with (self._folder / "head").open("rb") as file:
                (plain,) = self._box.blocks(self._series, file)
            head = message.decode(pb.CachedHead, plain)
            root, worn = ChunkId(head.root), frozenset(ChunkId(raw) for raw in head.worn)
            snapshot = SnapshotId(head.snapshot_id)
            found = CachedHead(snapshot, root, head.size, head.died, worn)
        except (OSError, ValueError, BackitError):
            return None
        return found if self._tree(root).exists() else None

    def saved_ns(self, head: CachedHead | None) -> int:
        """When the tree of the head was written (ns), as this machine's clock says; 0 if never."""
        try:
            return self._tree(head.root).stat().st_mtime_ns if head is not None else 0
        except OSError:
            return 0

    def leaves(self, root: ChunkId) -> Iterator[Leaf]:
        """The tree's leaves in key order. Raises Damaged or OSError in the middle."""
        previous: tuple[ChildInfo, Node] | None = None
        kept = b""
        with self._tree(root).open("rb", buffering=MIB) as file:
            for sealed, plain in self._box.both(self._series, file):
                if previous is not None:
                    yield Leaf(*previous, is_last=False, kept=kept)
                previous, kept = _decode_leaf(plain), sealed
        if previous is not None:
            yield Leaf(*previous, is_last=True, kept=kept)

    def writer(self) -> TreeWriter:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _tag(self._folder.parent)
        return TreeWriter(self._folder / "growing", self._box, self._series)

    def commit(self, head: CachedHead, writer: TreeWriter) -> None:
        """Make the written tree the one that the next backup compares with, and drop the others.

        Raises OSError if it could not be written.
        """
        writer.finish()
        (self._folder / "growing").replace(self._tree(head.root))
        self._write_head(head)
        for file in self._folder.iterdir():
            if file.name not in ("head", head.root.hex):
                file.unlink(missing_ok=True)

    def advise(self, worn: Sequence[ChunkId]) -> None:
        """What lives has been counted: tell the next run which bundles to move."""
        head = self.head()
        if head is not None:
            self._write_head(replace(head, died=0, worn=frozenset(worn)))

    def _write_head(self, head: CachedHead) -> None:
        worn = sorted(chunk.raw for chunk in head.worn)
        encoded = pb.CachedHead(
            snapshot_id=head.snapshot.raw,
            root=head.root.raw,
            worn=worn,
            size=head.size,
            died=head.died,
        )
        _replace(self._folder / "head", [self._box.seal(self._series, message.encode(encoded))])

    def _tree(self, root: ChunkId) -> Path:
        return self._folder / root.hex


class TreeWriter:
    """Writes the leaves of a growing tree, in key order. Ends with `finish` or `discard`.

    A full disk costs the next run time, not this run its backup: it is told of at the end.
    """

    def __init__(self, path: Path, box: Box, series: SeriesId) -> None:
        self._file = path.open("wb", buffering=256 * KIB)
        self._box = box
        self._series = series
        self._failure: OSError | None = None

    def add(self, info: ChildInfo, leaf: Sealable | Leaf) -> None:
        if self._failure is not None:
            return
        # What was read from the cache of this series goes there again as it is.
        block = leaf.kept if isinstance(leaf, Leaf) else b""
        try:
            self._file.write(block or self._box.seal(self._series, _encode_leaf(info, leaf)))
        except OSError as error:
            self._failure = error

    def finish(self) -> None:
        """Raises OSError if anything could not be written."""
        if self._failure is not None:
            self.discard()
            raise self._failure
        self._file.close()

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


class Older(Protocol):
    """Where rows of the seen index go that memory has no room for: archive.py."""

    def get(self, content: bytes) -> bytes | None: ...
    def put(self, rows: Iterable[tuple[bytes, bytes]]) -> None: ...
    def forget(self) -> None: ...


class SeenCache:
    """The seen index: read when it is first asked, which a run without anything new never does.

    Without `older`, rows that memory has no room for are forgotten.
    """

    def __init__(self, folder: Path, box: Box, older: Older | None = None) -> None:
        self._path = folder / "seen"
        self._box = box
        self._older = older
        # Places are kept packed: as tuples they would take twice the memory.
        self._rows: dict[bytes, bytes] | None = None

    def get(self, content: bytes) -> tuple[bytes, int, int] | None:
        """(chunk, offset, length) of a content hash's first 16 bytes."""
        rows = self._rows if self._rows is not None else self._loaded()
        place = rows.get(content)
        if place is None and self._older is not None:
            place = self._older.get(content)
        if place is None:
            return None
        chunk, at, length = PLACE.unpack(place)
        return chunk, at, length

    def reaches(self) -> Iterator[tuple[ChunkId, int]]:
        """(chunk, a length that it has at least) of every row."""
        for chunk, at, length in map(PLACE.unpack, self._loaded().values()):
            yield ChunkId(chunk), at + length

    def forget(self) -> None:
        """Rely on nothing."""
        self._rows = {}
        if self._older is not None:
            self._older.forget()

    def put(self, content: bytes, place: tuple[bytes, int, int]) -> None:
        rows = self._loaded()
        rows.pop(content, None)  # the newest come last
        rows[content] = PLACE.pack(*place)
        if len(rows) >= SEEN_MAX + SPILL_ROWS:
            self._spill()

    def save(self) -> None:
        """Replace the file: the newest SEEN_MAX rows. Raises OSError."""
        self._spill()
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _replace(self._path, self._sealed())

    def _spill(self) -> None:
        """Make room by giving the oldest rows away."""
        rows = self._loaded()
        if len(rows) > SEEN_MAX:
            spilt = len(rows) - SEEN_MAX
            if self._older is not None:
                self._older.put(islice(rows.items(), spilt))
            # In one go: taking the oldest out of a large dict one by one is slow.
            self._rows = dict(islice(rows.items(), spilt, None))

    def _sealed(self) -> Iterator[bytes]:
        rows = iter(self._loaded().items())
        while block := b"".join(ROW.pack(*row) for row in islice(rows, ROWS_A_BLOCK)):
            yield self._box.seal(NO_SERIES, block)

    def _loaded(self) -> dict[bytes, bytes]:
        if self._rows is None:
            self._rows = {}
            with contextlib.suppress(OSError, struct.error, BackitError):
                self._rows.update(self._read())
        return self._rows

    def _read(self) -> Iterator[tuple[bytes, bytes]]:
        with self._path.open("rb") as file:
            for plain in self._box.blocks(NO_SERIES, file):
                yield from ROW.iter_unpack(plain)


class WatermarkCache:
    """What the appliance has shown this device: its store, and the newest of each series."""

    def __init__(self, folder: Path, box: Box) -> None:
        self._path = folder / "watermarks"
        self._box = box

    def load(self) -> pb.Watermarks:
        """Empty if there is none, or it cannot be read."""
        try:
            with self._path.open("rb") as file:
                (plain,) = self._box.blocks(NO_SERIES, file)
            return message.decode(pb.Watermarks, plain)
        except (OSError, ValueError, BackitError):
            return pb.Watermarks()

    def save(self, watermarks: pb.Watermarks) -> None:
        """Raise the marks, and lower none that another run has raised meanwhile. Raises OSError."""
        newest = {row.series_id: row.counter for row in self.load().series}
        for row in watermarks.series:
            newest[row.series_id] = max(row.counter, newest.get(row.series_id, 0))
        rows = [pb.CachedSeries(series_id=each, counter=newest[each]) for each in sorted(newest)]
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        marks = pb.Watermarks(series=rows, incarnation_id=watermarks.incarnation_id)
        sealed = self._box.seal(NO_SERIES, message.encode(marks))
        _replace(self._path, [sealed])


def as_far_as_readable(leaves: Iterator[Leaf]) -> Iterator[Leaf]:
    """A tree that is damaged in the middle is good up to there."""
    with contextlib.suppress(BackitError, OSError, ValueError):
        yield from leaves


def _encode_leaf(info: ChildInfo, leaf: Sealable | Leaf) -> bytes:
    if isinstance(leaf, Leaf):
        references, plaintext = leaf.node.references, message.encode(leaf.node.message)
    else:
        references, plaintext = leaf.references, leaf.plaintext
    cached = pb.CachedLeaf(
        chunk=info.chunk.raw,
        first_key=info.first_key,
        count=info.count,
        size=info.size,
        references=b"".join(reference.raw for reference in references),
        plaintext=plaintext,
    )
    return message.encode(cached)


def _decode_leaf(plain: bytes) -> tuple[ChildInfo, Node]:
    """No check of the node: the seal is this device's own. Raises Damaged."""
    try:
        return _parse_leaf(plain)
    except DecodeError:
        raise Damaged("the cache: a leaf is no protobuf message") from None


def _parse_leaf(plain: bytes) -> tuple[ChildInfo, Node]:
    cached = pb.CachedLeaf.FromString(plain)
    table = cached.references
    references = tuple(ChunkId(table[i : i + 32]) for i in range(0, len(table), 32))
    info = ChildInfo(ChunkId(cached.chunk), cached.first_key, cached.count, cached.size)
    return info, Node(tree_pb2.Node.FromString(cached.plaintext), references)


def _tag(folder: Path) -> None:
    """Say that the folder is a cache, so that a backup of it leaves it out."""
    tag = folder / os.fsdecode(TAG_NAME)
    if not tag.exists():
        tag.write_bytes(TAG_SIGNATURE + TAG_TEXT)


def _replace(path: Path, blocks: Iterable[bytes]) -> None:
    """Write new, sync, then switch. Another run on this device may do the same at any time."""
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with open(handle, "wb") as file:  # noqa: PTH123 - an open descriptor, not a path
            file.writelines(blocks)
            file.flush()
            os.fsync(file.fileno())
        Path(fresh).replace(path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
