"""Tokens: what a login gives.

In memory only, and only their hashes: a restart logs everybody out.
"""

from __future__ import annotations

import base64
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.errors import LoginNeeded
from backitd.auth.principals import Caller

if TYPE_CHECKING:
    from collections.abc import Callable

    from backitd.auth.principals import Principal
    from backitd.store import Clock

TOKEN_BYTES = 32
LONGEST_TOKEN = 256
MOST_PER_PRINCIPAL = 64


@dataclass(frozen=True, slots=True)
class Issued:
    """A token as its owner gets it, once. `expires`: Unix seconds, unless it is used before."""

    token: str = field(repr=False)
    expires: float
    caller: Caller


@dataclass(slots=True)
class _Login:
    principal: Principal
    ends: float


class Tokens:
    """Who holds which token. Each use moves its end on by `seconds`."""

    def __init__(self, *, seconds: float, clock: Clock, random: Callable[[int], bytes]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._random = random
        self._lock = threading.Lock()
        self._logins: dict[bytes, _Login] = {}  # oldest first

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._logins)

    def issue(self, principal: Principal) -> Issued:
        """A new token. If the principal has too many, its oldest one ends."""
        token = base64.urlsafe_b64encode(self._random(TOKEN_BYTES)).decode().rstrip("=")
        key = _key(token)
        now = self._clock.monotonic()
        with self._lock:
            self._logins = {k: login for k, login in self._logins.items() if login.ends > now}
            own = [k for k, login in self._logins.items() if login.principal == principal]
            for oldest in own[: max(0, len(own) - MOST_PER_PRINCIPAL + 1)]:
                del self._logins[oldest]
            self._logins[key] = _Login(principal, now + self._seconds)
        caller = Caller(principal, key, partial(self._use, key))
        return Issued(token, self._clock.now() + self._seconds, caller)

    def caller(self, token: str) -> Caller:
        """Who holds the token; counts as a use. Raises LoginNeeded."""
        if len(token) > LONGEST_TOKEN:
            raise LoginNeeded("this is no token")
        key = _key(token)
        return Caller(self._use(key), key, partial(self._use, key))

    def end(self, caller: Caller) -> None:
        """Make the caller's token worthless."""
        with self._lock:
            self._logins.pop(caller.key, None)

    def end_where(self, ended: Callable[[Principal], bool], *, spare: Caller | None = None) -> int:
        """End every login whose principal `ended` names, but not that of `spare`.

        Returns how many.
        """
        with self._lock:
            doomed = [
                key
                for key, login in self._logins.items()
                if ended(login.principal) and (spare is None or key != spare.key)
            ]
            for key in doomed:
                del self._logins[key]
        return len(doomed)

    def _use(self, key: bytes) -> Principal:
        now = self._clock.monotonic()
        with self._lock:
            login = self._logins.get(key)
            if login is None or login.ends <= now:
                self._logins.pop(key, None)
                raise LoginNeeded("the token is unknown or has ended")
            login.ends = now + self._seconds
            return login.principal


def _key(token: str) -> bytes:
    return primitives.digest(token.encode())
