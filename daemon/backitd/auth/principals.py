"""Who can be logged in, and who is calling right now. No decisions about rights."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backit.errors import LoginNeeded, NotADevice, NotTheOwner

if TYPE_CHECKING:
    from collections.abc import Callable

    from backit.ids import AccountId, DeviceId, SlotId


@dataclass(frozen=True, slots=True)
class Person:
    """Whoever opened the account's slot `slot`."""

    account: AccountId
    slot: SlotId

    @property
    def name(self) -> str:
        return self.slot.name


@dataclass(frozen=True, slots=True)
class Device:
    """A machine of the account."""

    account: AccountId
    device: DeviceId

    @property
    def name(self) -> str:
        return self.device.name


Principal = Person | Device


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes the call at hand.

    `key` is the hash of the token that was shown. `renew` keeps a long call's login alive; it
    raises LoginNeeded once the login has ended, so that a revoked device's streams end too.
    """

    principal: Principal
    key: bytes = field(repr=False)
    renew: Callable[[], object] = field(repr=False)

    @property
    def account(self) -> AccountId:
        return self.principal.account

    def as_person(self) -> Person:
        """Raises NotTheOwner."""
        if not isinstance(self.principal, Person):
            raise NotTheOwner("a device asked for what only the person may do")
        return self.principal

    def as_device(self) -> Device:
        """Raises NotADevice."""
        if not isinstance(self.principal, Device):
            raise NotADevice("a person asked for what only a device may do")
        return self.principal


_CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)


def set_caller(caller: Caller | None) -> None:
    """Say who makes the call that this thread is about to serve."""
    _CALLER.set(caller)


def current_caller() -> Caller:
    """Who makes the call that this thread serves. Raises LoginNeeded."""
    found = _CALLER.get()
    if found is None:
        raise LoginNeeded("nobody is logged in")
    return found
