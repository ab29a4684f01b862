"""The second opinion: rsync, which knows nothing of this suite or of what it judges.

Its blind spots, which `manifest` covers: inode flags, holes, trees deeper than PATH_MAX, and
whether a device is a block or a character one.
"""

from collections.abc import Collection
from pathlib import Path

from tests.fidelity.commands import run

# What the project promises to satisfy, made stricter: owners by number, and times to the
# nanosecond (without a negative window rsync compares whole seconds).
COMMAND = (
    "rsync",
    "-aHAXn",
    "--checksum",
    "--delete",
    "--itemize-changes",
    "--8-bit-output",
    "--numeric-ids",
    "--modify-window=-1",
)


def compare(source: Path, restored: Path, *, sockets: Collection[bytes] = ()) -> list[str]:
    """List what rsync would change in either tree to make it the other.

    Both directions are asked, because rsync does not notice names that are linked in its target
    but not in its source. `sockets` are paths of the source that `restored` may lack.
    """
    there = [each for each in _changes(source, restored) if not _absent(each, sockets, b"cS+")]
    back = [each for each in _changes(restored, source) if not _absent(each, sockets, b"*del")]
    return [
        *(f"to the restored tree: {each.decode(errors='replace')}" for each in there),
        *(f"to the source: {each.decode(errors='replace')}" for each in back),
    ]


def _changes(from_: Path, to: Path) -> list[bytes]:
    done = run(*COMMAND, f"{from_}/", f"{to}/", ok=(0, 23, 24))
    # Codes 23 and 24 mean that rsync could not look at everything: that is a difference too.
    return [*done.stdout.splitlines(), *done.stderr.splitlines()]


def _absent(line: bytes, sockets: Collection[bytes], what: bytes) -> bool:
    change, _, path = line.partition(b" ")
    return change.startswith(what) and path.lstrip() in sockets
