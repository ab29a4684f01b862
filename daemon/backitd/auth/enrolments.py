"""Machines that wait to become devices.

In memory: an enrolment ends with the daemon, or after an hour.

Unknown users are waited for like known ones, so that asking tells nothing. What a person approves
is stored by whoever calls `approve`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.errors import EnrolmentNotFound, TooManyEnrolments
from backit.ids import EnrolmentId
from backitd.store.rules import user_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backit.format.statement import Statement
    from backit.ids import AccountId
    from backitd.store import Clock

LIFETIME = 3600
MOST_PER_USER = 8
MOST = 4096


@dataclass(frozen=True, slots=True)
class Wish:
    """What a machine asks for."""

    user: str
    label: str
    device_key: bytes
    box_key: bytes
    poll_key: bytes = field(repr=False)

    @property
    def user_key(self) -> str:
        """The same for all spellings of a name."""
        return user_key(self.user)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A wish and what became of it.

    `account` is None for an unknown user; `statements` once approved.
    """

    id: EnrolmentId
    account: AccountId | None
    wish: Wish
    ends: float
    expires: float
    statements: tuple[Statement, ...] = ()
    sealed_secrets: bytes = field(default=b"", repr=False)


class Enrolments:
    """Those that wait or were approved lately."""

    def __init__(self, *, clock: Clock, random: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random = random
        self._lock = threading.Lock()
        self._all: dict[EnrolmentId, Enrolment] = {}  # oldest first

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._all)

    def create(self, wish: Wish, account: AccountId | None) -> Enrolment:
        """The same wish again gets the same enrolment. Raises TooManyEnrolments."""
        now = self._clock.monotonic()
        with self._lock:
            self._all = {key: e for key, e in self._all.items() if e.ends > now}
            same_user = [e for e in self._all.values() if e.wish.user_key == wish.user_key]
            for enrolment in same_user:
                if enrolment.wish == wish:
                    return enrolment
            waiting = sum(1 for e in same_user if not e.statements)
            if waiting >= MOST_PER_USER or len(self._all) >= MOST:
                raise TooManyEnrolments(f"{waiting} machines wait to be enrolled for this user")
            enrolment = Enrolment(
                id=EnrolmentId(self._random(EnrolmentId.LENGTH)),
                account=account,
                wish=wish,
                ends=now + LIFETIME,
                expires=self._clock.now() + LIFETIME,
            )
            self._all[enrolment.id] = enrolment
            return enrolment

    def poll(self, enrolment: EnrolmentId, poll_key: bytes) -> Enrolment:
        """For the machine that asked. Raises EnrolmentNotFound, also for a wrong key."""
        found = self._find(enrolment)
        expected = bytes(32) if found is None else found.wish.poll_key
        if not primitives.equal(expected, poll_key) or found is None:
            raise EnrolmentNotFound(f"{enrolment.name} does not wait, or not for this machine")
        return found

    def waiting(self, account: AccountId) -> list[Enrolment]:
        """Those that the account's person has yet to approve, oldest first."""
        now = self._clock.monotonic()
        with self._lock:
            mine = [e for e in self._all.values() if e.account == account]
        return [e for e in mine if e.ends > now and not e.statements]

    def of_account(self, enrolment: EnrolmentId, account: AccountId) -> Enrolment:
        """For the account's person. Raises EnrolmentNotFound."""
        found = self._find(enrolment)
        if found is None or found.account != account:
            raise EnrolmentNotFound(f"{enrolment.name} does not wait")
        return found

    def approve(
        self, enrolment: Enrolment, statements: Sequence[Statement], sealed_secrets: bytes
    ) -> Enrolment:
        """Hand these to the machine when it asks next."""
        approved = replace(enrolment, statements=tuple(statements), sealed_secrets=sealed_secrets)
        with self._lock:
            self._all[enrolment.id] = approved
        return approved

    def _find(self, enrolment: EnrolmentId) -> Enrolment | None:
        with self._lock:
            found = self._all.get(enrolment)
        return found if found is not None and found.ends > self._clock.monotonic() else None
