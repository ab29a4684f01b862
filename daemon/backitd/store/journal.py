"""Makes several statements come true together, whatever happens between their files.

A new owner key without the slot that opens it would lock a person out for good. So statements that
are put together are first written into one file, STATE/journal/<account>. If it is still there at
start, all of them are written; it goes when they are. Only the next start reads it.
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.errors import BackitError, Damaged
from backit.format import statement as statements
from backit.ids import AccountId
from backitd.store.files import create_all, failure, make_folders, sweep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backit.format.statement import Statement
    from backitd.store.files import Disk

log = logging.getLogger(__name__)

LENGTH = struct.Struct("<I")


class Journal:
    """STATE/journal. One entry an account at most: writers hold the change lock."""

    def __init__(self, disk: Disk, state: Path) -> None:
        self._disk = disk
        self._folder = make_folders(disk, state, ["journal"])

    def write(self, account: AccountId, together: Sequence[Statement], moment: int) -> None:
        """When this returns, all of them will come true, unless the entry is removed."""
        parts: list[bytes] = []
        for statement in together:
            parts += (LENGTH.pack(len(statement.encoded)), statement.encoded)
        content = b"".join(parts)
        entry = content + primitives.digest(content)
        create_all(self._disk, [(self._folder / account.hex, entry)], moment)

    def remove(self, account: AccountId) -> None:
        """They are true, or were refused after all. Never fails: an entry may be applied twice."""
        try:
            self._disk.remove(self._folder / account.hex)
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("removing journal entry %s failed: %s", account, error)

    def entries(self) -> list[tuple[AccountId, list[Statement]]]:
        """What a crash has interrupted. Damaged entries are logged and left where they are."""
        found: list[tuple[AccountId, list[Statement]]] = []
        try:
            sweep(self._disk, self._folder)
            for name in self._disk.names(self._folder):
                try:
                    account = AccountId.from_hex(name)
                    entry, _moment = self._disk.read_file(self._folder / name)
                    found.append((account, _decode(entry)))
                except BackitError as error:
                    log.error("reading journal entry %s: %s", name, error)
        except OSError as error:
            raise failure(error, "reading the journal") from error
        return found


def _decode(entry: bytes) -> list[Statement]:
    content, digest = entry[: -primitives.HASH_BYTES], entry[-primitives.HASH_BYTES :]
    if primitives.digest(content) != digest:
        raise Damaged("it does not have the hash at its end")
    found: list[Statement] = []
    at = 0
    while at < len(content):
        (length,) = LENGTH.unpack_from(content, at)
        at += LENGTH.size
        found.append(statements.parse(content[at : at + length]))
        at += length
    return found
