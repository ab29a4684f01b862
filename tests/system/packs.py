"""What lies in a box's state folder: its packs, what is in them, and ways to spoil them.

Reads files by the format's own code; nothing here talks to a daemon.
"""

from dataclasses import dataclass
from pathlib import Path

from backit.format import pack, record, statement
from backit.format import snapshot as snapshots
from backit.format.magic import Kind
from backit.format.pack import FOOT, HEAD, Place
from backit.ids import SessionId


def pack_files(state: Path) -> dict[Path, int]:
    """Every pack with its size."""
    return {path: path.stat().st_size for path in sorted((state / "store/packs").glob("??/*"))}


@dataclass(frozen=True, slots=True)
class Stored:
    """One record where it lies."""

    file: Path
    kind: Kind
    place: Place
    session: SessionId

    def read(self) -> bytes:
        with self.file.open("rb") as opened:
            opened.seek(self.place.offset)
            return opened.read(self.place.length)

    def replace(self, record: bytes) -> None:
        """Put another record of the same length in its place."""
        assert len(record) == self.place.length
        with self.file.open("r+b") as opened:
            opened.seek(self.place.offset)
            opened.write(record)


def stored_records(state: Path) -> list[Stored]:
    """Every record of every pack."""
    return [each for file in pack_files(state) for each in _records(file)]


def _records(file: Path) -> list[Stored]:
    data = file.read_bytes()
    foot = data[-FOOT.size :]
    start, length = pack.directory_range(foot, len(data))
    directory = pack.parse_directory(data[: HEAD.size], data[start : start + length], foot)
    return [
        Stored(file, directory.kind, place, _session(data, place)) for place in directory.places
    ]


def _session(data: bytes, place: Place) -> SessionId:
    return record.parse_header(data[place.offset : place.offset + place.length]).session


def flip_bit(file: Path, at: int) -> None:
    """Change one bit of a file in place."""
    with file.open("r+b") as opened:
        opened.seek(at)
        (old,) = opened.read(1)
        opened.seek(at)
        opened.write(bytes([old ^ 0x10]))


def session_of(state: Path, snapshot: str) -> SessionId:
    """Whose records a snapshot's run sent."""
    (header,) = (state / "store" / "accounts").glob(f"*/snapshots/{snapshot}/header")
    fields = snapshots.header_body(statement.parse(header.read_bytes()))
    return SessionId(fields.session_id)


def stored_bytes(state: Path) -> int:
    """The length of all records; each chunk of a domain may lie there once."""
    found = stored_records(state)
    assert len({(each.place.domain, each.place.chunk) for each in found}) == len(found)
    return sum(each.place.length for each in found)
