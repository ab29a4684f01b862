"""A login that was kept: an account that stays open on this machine until logout, or for twelve
hours.

The file lies in memory where the machine has a folder for that (`home`), readable by its user
alone. It holds the root key, so whoever reads it reads the backups; that is what being logged in
means.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backit.client import profile as files
from backit.client.home import read_private, remove_private, write_private
from backit.client.remote import Credential
from backit.crypto.keys import RootKey, SigningKey
from backit.errors import Damaged, Invalid, NotFound
from backit.ids import SlotId

if TYPE_CHECKING:
    from pathlib import Path

    from backit.client.account import Person
    from backit.client.home import Home

LIFETIME_SECONDS = 12 * 60 * 60


@dataclass(frozen=True, slots=True)
class KeptLogin:
    """What `login` keeps; `ends` in Unix seconds."""

    user: str
    slot: SlotId
    credential: Credential
    root: RootKey
    token: str = field(repr=False)
    ends: int

    @classmethod
    def of(cls, person: Person, now: int) -> KeptLogin:
        return cls(
            person.ledger.user,
            person.slot,
            person.credential,
            person.root,
            person.appliance.token,
            now + LIFETIME_SECONDS,
        )

    def save(self, home: Home, profile: str) -> None:
        write_private(home.login(profile), self.encode())

    def encode(self) -> bytes:
        """As it is kept in the file, or handed to another program of the same person."""
        document = {
            "version": files.VERSION,
            "user": self.user,
            "slot": self.slot.hex,
            "credential": self.credential.name,
            "login_seed": self.credential.key.seed.hex(),
            "root_key": self.root.secret.hex(),
            "token": self.token,
            "ends": self.ends,
        }
        return files.encode(document)

    @classmethod
    def decode(cls, path: Path, content: bytes) -> KeptLogin:
        """Undo encode. Raises Damaged or Unsupported, naming the path it came by."""
        document = files.decode(path, content)
        try:
            return cls(
                document["user"],
                SlotId.from_hex(document["slot"]),
                Credential(
                    document["credential"], SigningKey(bytes.fromhex(document["login_seed"]))
                ),
                RootKey(bytes.fromhex(document["root_key"])),
                document["token"],
                int(document["ends"]),
            )
        except (KeyError, TypeError, ValueError, Invalid):
            raise Damaged(f"{path} does not hold a login") from None

    @classmethod
    def load(cls, home: Home, profile: str, now: int) -> KeptLogin | None:
        """None if nobody is logged in; a login that has ended is taken away."""
        path = home.login(profile)
        try:
            kept = cls.decode(path, read_private(path))
        except NotFound:
            return None
        # A clock that was set back does not make a login last longer than it was meant to.
        if not now < kept.ends <= now + LIFETIME_SECONDS:
            remove_private(path)
            return None
        return kept


def forget(home: Home, profile: str) -> bool:
    """Nobody is logged in any more; False if nobody was."""
    return remove_private(home.login(profile))
