"""From a profile to an open account: whose keys are at hand, and when the password must be asked
for.

A person's account opens with the login that was kept, else with a full device's key file, else with
the password. A device acts by itself. The password is asked for only after the pinned appliance has
answered.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from backit.client import account, devices, seen
from backit.client.device import DeviceKeys, KeyFile
from backit.client.login import KeptLogin
from backit.client.profile import Profile
from backit.client.remote import Appliance
from backit.errors import NotFound
from backitctl import clock, prompts
from backitctl.interrupts import INTERRUPTS
from backitctl.missing import NoAccount, NotEnrolled, NotPaired

if TYPE_CHECKING:
    from collections.abc import Generator

    from backit.client.account import Person
    from backit.client.ledger import Ledger
    from backit.client.remote import Credential
    from backitctl.options import Settings


def profile_of(settings: Settings) -> Profile:
    """The profile in use. Raises NotPaired."""
    try:
        return Profile.load(settings.home, settings.profile)
    except NotFound as error:
        raise NotPaired(str(error)) from None


def account_profile(settings: Settings) -> Profile:
    """The profile in use, with an account in it. Raises NotPaired, NoAccount."""
    found = profile_of(settings)
    if not found.user:
        raise NoAccount(f"profile {found.name!r} has no account")
    return found


@contextmanager
def connected(
    profile: Profile, key: Credential | None = None, *, token: str = ""
) -> Generator[Appliance]:
    """As Appliance.connect; an interrupt does not wait for what hangs."""
    with (
        Appliance.of(profile, INTERRUPTS.check) as appliance,
        INTERRUPTS.hurrying(appliance),
    ):
        appliance.begin(key, token=token)
        yield appliance


@contextmanager
def person(settings: Settings) -> Generator[Person]:
    """The person's open account, for a command."""
    profile = account_profile(settings)
    kept = KeptLogin.load(settings.home, profile.name, clock.now())
    if kept is not None:
        with connected(profile, kept.credential, token=kept.token) as appliance:
            opened = account.reopen(appliance, kept.credential, kept.slot, kept.root)
            adopt(settings, profile, opened.ledger)
            yield opened
            # The appliance may have forgotten the token; and the keys may have been rotated.
            if (appliance.token, opened.root) != (kept.token, kept.root):
                KeptLogin.of(opened, clock.now()).save(settings.home, profile.name)
        return
    with connected(profile) as appliance:
        key_file = KeyFile.load(settings.home, profile.name)
        if key_file is not None:
            opened = account.open_with(appliance, key_file.credential, key_file.keys)
        else:
            opened = _ask(appliance, profile.user)
        adopt(settings, profile, opened.ledger)
        try:
            yield opened
        finally:
            appliance.logout()


@contextmanager
def person_with_password(settings: Settings) -> Generator[tuple[Person, str]]:
    """As `person`, but the password is always asked for; for what an open screen must not be
    enough.
    """
    profile = account_profile(settings)
    with connected(profile) as appliance:
        password = prompts.password(f"Password of {profile.user}: ")
        opened = account.open_with_password(appliance, profile.user, password)
        adopt(settings, profile, opened.ledger)
        yield opened, password
        kept = KeptLogin.load(settings.home, profile.name, clock.now())
        if kept is not None:
            KeptLogin.of(opened, clock.now()).save(settings.home, profile.name)
        else:
            appliance.logout()


@contextmanager
def device(settings: Settings) -> Generator[tuple[Appliance, DeviceKeys, Ledger]]:
    """This machine as a device: nobody is asked anything."""
    profile = account_profile(settings)
    keys = _device_keys(settings, profile)
    with connected(profile, keys.credential) as appliance:
        keys, book = devices.follow_owner(appliance, keys)
        adopt(settings, profile, book, is_person=False)
        try:
            yield appliance, keys, book
        finally:
            appliance.logout()


@contextmanager
def anyone(settings: Settings) -> Generator[tuple[Appliance, Ledger]]:
    """Whoever is at hand without asking, the device first; else the person with the password."""
    profile = account_profile(settings)
    if settings.home.device(profile.name).exists():
        keys = _device_keys(settings, profile)
        with connected(profile, keys.credential) as appliance:
            _keys, book = devices.follow_owner(appliance, keys)
            try:
                yield appliance, book
            finally:
                appliance.logout()
        return
    with person(settings) as opened:
        yield opened.appliance, opened.ledger


def adopt(settings: Settings, profile: Profile, book: Ledger, *, is_person: bool = True) -> Profile:
    """Hold the appliance to what it shows now, and pin who owns the account. Raises Untrusted."""
    seen.check(settings.home, profile.name, book, is_person=is_person)
    if (profile.user, profile.account, profile.owner_key) != (
        book.user,
        book.account,
        book.owner_key,
    ):
        profile = profile.belongs_to(book.user, book.account, book.owner_key)
        profile.save(settings.home)
    if settings.home.device(profile.name).exists():
        keys = DeviceKeys.load(settings.home, profile.name)
        if keys.account == book.account and keys.owner_key != book.owner_key:
            keys.trust(book.owner_key).save(settings.home, profile.name)
    return profile


def _ask(appliance: Appliance, user: str) -> Person:
    password = prompts.password(f"Password of {user}: ")
    return account.open_with_password(appliance, user, password)


def _device_keys(settings: Settings, profile: Profile) -> DeviceKeys:
    try:
        return DeviceKeys.load(settings.home, profile.name)
    except NotFound as error:
        raise NotEnrolled(str(error)) from None
