"""Pack files (FORMAT.md section 8): writing, reading, and what is left of a damaged one.

Knows files and bytes, no database. Which record is worth keeping, and when, is decided by who
calls.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from backit.errors import BackitError, Damaged, Internal, Unavailable
from backit.format import record
from backit.format.magic import MIB, PACK_LIMIT, RECORD_MAGIC, Kind
from backit.format.pack import (
    FOOT,
    HEAD,
    Directory,
    Naming,
    Place,
    directory_range,
    encode_end,
    encode_head,
    parse_directory,
)
from backit.ids import AccountId, PackName
from backitd.store.files import LOSSES, failure, make_folders, sweep
from backitd.store.objects import MARKER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from backit.crypto.primitives import Buffer
    from backit.format.record import Header
    from backit.ids import ChunkId
    from backitd.store.files import Disk

log = logging.getLogger(__name__)

SALT_BYTES = 16
# Writing back begins in steps of this many bytes.
STEP = 8 * MIB


class Packs:
    """STATE/store/packs."""

    def __init__(self, disk: Disk, root: Path) -> None:
        self.disk = disk
        self.folder = root / "packs"
        # Folders that survive a power cut. Asked for by several uploads at a time.
        self._durable: set[Path] = set()
        self._lock = threading.Lock()

    def create(self) -> None:
        """The folder that all is in."""
        make_folders(self.disk, self.folder.parent, [self.folder.name])

    def require_folder(self, folder: Path) -> None:
        """One of the 256 folders, durable when this returns. Raises NoSpace or Internal."""
        with self._lock:
            if folder not in self._durable:
                make_folders(self.disk, self.folder, [folder.name])
                self._durable.add(folder)

    def path(self, name: PackName) -> Path:
        return self.folder / name.hex[:2] / name.hex

    def names(self, first: int) -> list[PackName]:
        """Every pack whose name begins with this byte."""
        folder = f"{first:02x}"
        try:
            found = self.disk.names(self.folder / folder)
        except OSError as error:
            raise failure(error, f"listing the packs in {folder}") from error
        packs = [_pack_name(folder, name) for name in found]
        return [pack for pack in packs if pack is not None]

    def sweep(self) -> None:
        """Remove drafts that a killed process has left."""
        try:
            sweep(self.disk, self.folder)
        except OSError as error:
            raise failure(error, "sweeping the packs' folder") from error

    def open(self, name: PackName) -> PackFile:
        """Raises OSError."""
        return PackFile(self.disk, name, self.disk.open(self.path(name)))

    def check_loss(self, error: OSError, doing: str) -> None:
        """Returns, and logs, if the error means that something is lost.

        Raises Unavailable if the store's disk is gone as a whole, else what the error is.
        """
        if error.errno not in LOSSES:
            raise failure(error, doing) from error
        # A disk that is not mounted has lost nothing.
        if not (self.folder.parent / MARKER).exists():
            raise Unavailable(f"{doing}: the store's disk is gone") from error
        log.error("%s: %s", doing, error)

    def remove(self, name: PackName) -> None:
        """Unlink, durably. Raises Internal."""
        path = self.path(name)
        try:
            self.disk.remove(path)
            self.disk.sync_folder(path.parent)
        except OSError as error:
            raise failure(error, f"removing pack {name}") from error


class PackWriter:
    """A pack that is being written. It has no name, and is nothing, until `publish`.

    Any failure of the disk ends it: after a failed sync the kernel may call the pages clean, so the
    file is thrown away, never synced again.
    """

    def __init__(
        self, packs: Packs, account: AccountId, kind: Kind, salt: bytes, *, target: int
    ) -> None:
        """`target`: about how many bytes it will have when it is full."""
        self.kind = kind
        self.places: list[Place] = []
        self.size = 0
        self._packs = packs
        self._disk = packs.disk
        self._target = target
        self._allocated = 0
        self._written_back = 0
        self._head = encode_head(account, kind, salt)
        self._naming = Naming(self._head)
        self._name: PackName | None = None
        try:
            self._draft = self._disk.draft(packs.folder)
        except OSError as error:
            raise failure(error, "beginning a pack") from error
        self._open = True
        self._write([self._head])

    def append(self, records: Sequence[tuple[Header, Buffer]]) -> None:
        """Whole records, checked before. Raises NoSpace or Internal, and is over then."""
        start = self.size
        for header, encoded in records:
            self.places.append(Place(header.chunk, header.domain, start, len(encoded)))
            start += len(encoded)
        self._write([encoded for _header, encoded in records])
        for _header, encoded in records:
            self._naming.add(encoded)

    def finish(self, sessions: Sequence[bytes]) -> None:
        """Write directory and foot. Not durable yet."""
        end = encode_end(sessions, self.places, self.size)
        # What is sealed is read again first: a directory that does not parse would hide the whole
        # pack.
        directory, foot = end[: -FOOT.size], end[-FOOT.size :]
        directory_range(foot, self.size + len(end))
        if parse_directory(self._head, directory, foot).places != tuple(self.places):
            raise Internal("closing a pack: its directory does not say what was written")
        self._write([end])
        self._name = self._naming.finish(end)

    def publish(self, moment: int) -> PackName:
        """Make it durable, then visible, then its name durable: it survives a power cut then.

        It must be finished. `moment` (Unix seconds) becomes its time: when it was received.
        """
        name = self._name
        if name is None:
            raise Internal("storing a pack that has not been finished")
        path = self._packs.path(name)
        disk, draft = self._disk, self._draft
        try:
            self._packs.require_folder(path.parent)
            # Blocks that were reserved and not needed go back; content and size become durable;
            if self._allocated > self.size:
                disk.truncate(draft.fd, self.size)
            disk.stamp(draft.fd, moment)
            disk.sync_data(draft.fd)
            # content is hardly ever read soon, and would push out what is: nodes and the index;
            if self.kind is Kind.DATA:
                disk.forget(draft.fd)
            # only then it gets its name: a name never stands for less than the whole pack;
            disk.link(draft, path)
            # and the name becomes durable.
            disk.sync_folder(path.parent)
        except OSError as error:
            log.exception("pack %s could not be made durable; it is thrown away", name)
            self._take_back(path)
            raise failure(error, f"storing pack {name}") from error
        finally:
            self.discard()
        return name

    def _take_back(self, path: Path) -> None:
        """In case it has its name already. If this fails too, the next start finds a sound pack."""
        try:
            self._disk.remove(path)
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("removing pack %s failed: %s", path.name, error)

    def discard(self) -> None:
        """Let go of the file. Without a name it is gone; with one this only closes it."""
        if self._open:
            self._open = False
            self._disk.discard(self._draft)

    def _write(self, buffers: Sequence[Buffer]) -> None:
        length = sum(len(buffer) for buffer in buffers)
        disk, fd = self._disk, self._draft.fd
        try:
            # Ahead, so that a full disk shows early; not beyond what a full pack is sure to need.
            while self._allocated < min(self.size + length, self._target):
                step = min(max(3 * self._allocated, MIB), self._target - self._allocated)
                disk.allocate(fd, self._allocated, step)
                self._allocated += step
            self.size += disk.write(fd, buffers)
            if self.size - self._written_back >= STEP:
                disk.start_writing_back(fd, self._written_back, self.size - self._written_back)
                self._written_back = self.size
        except OSError as error:
            self.discard()
            raise failure(error, "writing a pack") from error


@dataclass(frozen=True, slots=True)
class Contents:
    """What a pack holds. `whole` is False where its records had to be looked for."""

    directory: Directory
    whole: bool


class PackFile:
    """A pack, open for reading."""

    def __init__(self, disk: Disk, name: PackName, fd: int) -> None:
        self.name = name
        self._disk = disk
        self._fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._disk.close(self._fd)

    def read(self, start: int, length: int) -> bytes:
        """Raises OSError; less than asked for only where the file ends."""
        return self._disk.read(self._fd, start, length)

    def size(self) -> int:
        return self._disk.size(self._fd)

    def received(self) -> int:
        """When it was made (Unix seconds), by the box's clock. Raises OSError."""
        return self._disk.moment(self._fd)

    def read_record(self, place: Place) -> tuple[Header, bytes]:
        """The record at that place, if every byte of it is right. Raises Damaged or OSError."""
        encoded = self.read(place.offset, place.length)
        where = f"pack {self.name} at {place.offset}"
        if len(encoded) != place.length:
            raise Damaged(f"{where}: the pack ends inside of chunk {place.chunk}")
        try:
            header = record.parse(encoded)
        except BackitError as error:
            # Another version, too: what was stored was checked, and a store that a newer program
            # has written is not opened.
            raise Damaged(f"{where}: chunk {place.chunk}: {error}") from None
        if (header.chunk, header.domain) != (place.chunk, place.domain):
            raise Damaged(f"{where}: chunk {header.chunk} lies where {place.chunk} should be")
        return header, encoded

    def contents(self) -> Contents:
        """By its directory, or if that is damaged by looking. Raises Damaged or OSError."""
        try:
            return Contents(self._directory(), whole=True)
        except BackitError as error:
            log.error("pack %s: %s; looking for its records", self.name, error)
            return Contents(self._salvage(), whole=False)

    def _directory(self) -> Directory:
        size = self.size()
        foot = self.read(max(0, size - FOOT.size), FOOT.size)
        offset, length = directory_range(foot, size)
        head = self.read(0, HEAD.size + record.HEAD.size)
        directory = parse_directory(head[: HEAD.size], self.read(offset, length), foot)
        # The head has no hash of its own: the first record has to agree with it.
        if directory.places:
            first = min(directory.places, key=lambda place: place.offset)
            found = record.parse_header(self.read(first.offset, record.HEAD.size))
            if (found.chunk, found.kind) != (first.chunk, directory.kind):
                raise Damaged("head and first record disagree")
        return directory

    def _salvage(self) -> Directory:
        """Every record whose own hash is right, wherever it lies."""
        data = self.read(0, min(self.size(), PACK_LIMIT))
        places: dict[ChunkId, Place] = {}
        kinds: set[Kind] = set()
        for header, start in _records_in(data):
            kinds.add(header.kind)
            place = Place(header.chunk, header.domain, start, header.record_bytes)
            places.setdefault(header.chunk, place)
        if len(kinds) != 1 or len(data) < HEAD.size:
            raise Damaged(f"pack {self.name}: records of {len(kinds)} kinds are left")
        # The head has no hash: of it only the account is used, and who reads has to compare the
        # domain's.
        account = AccountId(HEAD.unpack_from(data)[4])
        return Directory(account, kinds.pop(), (), tuple(places.values()))


def _records_in(data: bytes) -> Iterator[tuple[Header, int]]:
    """Sound records in the order in which they lie, and where; skips what is none."""
    at = data.find(RECORD_MAGIC)
    while at >= 0:
        try:
            header = record.parse_header(memoryview(data)[at : at + record.HEAD.size])
            record.parse(memoryview(data)[at : at + header.record_bytes])
        except BackitError:
            at = data.find(RECORD_MAGIC, at + 1)
        else:
            yield header, at
            at = data.find(RECORD_MAGIC, at + header.record_bytes)


def _pack_name(folder: str, name: str) -> PackName | None:
    """None for a file that is no pack, which is named and left alone."""
    try:
        pack = PackName.from_hex(name)
    except BackitError:
        pack = None
    if pack is None or pack.hex != name or name[:2] != folder:
        log.warning("packs/%s/%s is no pack of ours", folder, name)
        return None
    return pack
