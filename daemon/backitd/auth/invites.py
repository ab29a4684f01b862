"""Invites: codes for one signup each. Files of their own, named by the hash of the code.

    invites/<hash>              a code that nobody has used; its content is when it ends (Unix
    seconds) invites/<hash>.<account>    the same, set aside for an account that is being made

The file goes once the account stands, so a crash in between leaves a name from which the next start
sees what happened (`settle`). The codes themselves are stored nowhere.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.errors import Invalid, InviteNeeded
from backit.ids import AccountId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backitd.folder import SmallFiles
    from backitd.store.values import Clock, Random

CODE_BYTES = 10  # 80 bits: sixteen letters and digits
GROUP = 4
DEFAULT_LIFETIME = 7 * 86_400
LONGEST_LIFETIME = 90 * 86_400
LOOKS_ALIKE = str.maketrans("018", "OIB")
NAME = re.compile(r"([0-9a-f]{64})(?:\.([0-9a-f]{32}))?")


@dataclass(frozen=True, slots=True)
class Claim:
    """An invite that is set aside for one account: to be spent or released."""

    free: str
    account: AccountId

    @property
    def claimed(self) -> str:
        return f"{self.free}.{self.account}"


class Invites:
    """The invites in one folder. Callers see to it that only one claims at a time."""

    def __init__(self, files: SmallFiles, *, clock: Clock, random: Random) -> None:
        self._files = files
        self._clock = clock
        self._random = random

    def create(self, lifetime: float = DEFAULT_LIFETIME) -> tuple[str, int]:
        """A code, and when it ends (Unix seconds).

        Durable. Raises Invalid for an absurd lifetime.
        """
        if not 1 <= lifetime <= LONGEST_LIFETIME:
            raise Invalid(f"an invite lives for 1 to {LONGEST_LIFETIME} s, not {lifetime:.0f}")
        self._sweep()
        letters = base64.b32encode(self._random(CODE_BYTES)).decode()
        code = "-".join(letters[i : i + GROUP] for i in range(0, len(letters), GROUP))
        expires = int(self._clock.now() + lifetime)
        self._files.create(_file_name(code), str(expires).encode())
        return code, expires

    def claim(self, code: str, account: AccountId) -> Claim:
        """Set an invite aside for `account`. Raises InviteNeeded if this is none that holds."""
        claim = Claim(_file_name(code), account)
        if (self._files.folder / claim.claimed).exists():  # the same signup once more
            return claim
        expires = self._expires(claim.free)
        if expires is None:
            raise InviteNeeded("signing up needs an invite, and this is none")
        if expires <= self._clock.now():
            raise InviteNeeded("signing up needs an invite, and this one has ended")
        self._files.rename(claim.free, claim.claimed)
        return claim

    def spend(self, claim: Claim) -> None:
        """The account stands: the invite is gone for good."""
        self._files.remove(claim.claimed)

    def release(self, claim: Claim) -> None:
        """There is no account: the invite holds as before."""
        self._files.rename(claim.claimed, claim.free)

    def settle(self, exists: Callable[[AccountId], bool]) -> None:
        """After a start: spend what made an account, release what did not."""
        for free, account in self._all():
            if account is None:
                continue
            claim = Claim(free, AccountId.from_hex(account))
            if exists(claim.account):
                self.spend(claim)
            else:
                self.release(claim)

    def _sweep(self) -> None:
        for free, account in self._all():
            if account is None and (self._expires(free) or 0) <= self._clock.now():
                self._files.remove(free)

    def _all(self) -> Iterator[tuple[str, str | None]]:
        """Name of the free invite, and the account it is set aside for."""
        for path in sorted(self._files.folder.iterdir()):
            if found := NAME.fullmatch(path.name):
                yield found[1], found[2]

    def _expires(self, name: str) -> int | None:
        """None if there is no such invite; 0, long ago, if it does not say."""
        try:
            text = (self._files.folder / name).read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return None
        return int(text) if text.isdecimal() else 0


def _file_name(code: str) -> str:
    """Case, spaces, dashes and look-alikes do not matter."""
    letters = re.sub(r"[\s-]", "", code).upper().translate(LOOKS_ALIKE)
    return primitives.digest(b"BackIT invite\0", letters.encode()).hex()
