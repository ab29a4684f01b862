"""`device`: enrol, list and revoke the machines of an account."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import click

from backit.client import device as keys_of_device
from backit.client import devices
from backit.client.device import DeviceKeys
from backit.client.home import remove_private
from backit.crypto import primitives
from backit.errors import AlreadyExists, EnrolmentNotFound, Invalid, NotFound, Untrusted
from backit.format.v1 import statement_pb2 as pb
from backitctl import clock, opening, output, prompts
from backitctl.interrupts import INTERRUPTS
from backitctl.missing import NotConfirmed
from backitctl.options import Group, Settings

if TYPE_CHECKING:
    from backit.client.profile import Profile
    from backit.client.remote import Appliance

POLL_SECONDS = 2.0


@click.group("device", cls=Group)
def command() -> None:
    """Manage the machines of an account.

    Example: backitctl device list
    """


@command.command("enrol")
@click.option("--label", metavar="NAME", help="What to call this machine. [default: its host name]")
@click.option("--full", is_flag=True, help="Let this machine also read the backups, unattended.")
@click.option("--request", metavar="USER", help="Ask to be approved elsewhere: no password here.")
@click.option(
    "--owner", metavar="CODE", help="With --request: the owner code that approving shows."
)
@click.option("--trust-first-use", is_flag=True, help="With --request: believe whoever approves.")
@click.option("--no-wait", is_flag=True, help="With --request: do not wait for the approval.")
@click.option("--approve", metavar="CODE", help="Approve the machine that shows this code.")
@click.pass_obj
def enrol(  # noqa: PLR0913 - one for each option
    settings: Settings,
    *,
    label: str | None,
    full: bool,
    request: str | None,
    owner: str | None,
    trust_first_use: bool,
    no_wait: bool,
    approve: str | None,
) -> None:
    """Make a machine a device of the account.

    On a machine where the password may be typed: `device enrol`. It can back up by itself from then
    on, and read nothing; with --full it can also restore without a password.

    On a machine that must never see the password: `device enrol --request USER`. It shows a code
    and waits. `device enrol --approve CODE` on another machine, after comparing the codes, approves
    it and shows the owner code, which is compared on the first one. Run again, --request goes on
    waiting.

    Example: backitctl device enrol --label laptop
    """
    if approve is not None:
        if full or request or label:
            raise click.UsageError("--approve stands alone")
        _approve(settings, approve)
    elif request is not None:
        if full:
            raise click.UsageError(
                "a machine that asks is approved as write-only: leave out --full"
            )
        _ask(settings, request, label, no_wait=no_wait, owner=owner, trusts=trust_first_use)
    elif owner or trust_first_use or no_wait:
        raise click.UsageError("--owner, --trust-first-use and --no-wait go with --request")
    else:
        _enrol_here(settings, label, full=full)


def _enrol_here(settings: Settings, label: str | None, *, full: bool) -> None:
    profile = opening.account_profile(settings)
    has_keys = settings.home.device(profile.name).exists()
    if has_keys and not full:
        raise AlreadyExists(f"this machine is device {profile.label!r} already")
    name = profile.label if has_keys else devices.checked_label(label or socket.gethostname())
    with opening.person(settings) as person:
        if has_keys:
            keys = DeviceKeys.load(settings.home, profile.name)
        else:
            keys = devices.enrol(person, name, now=clock.now())
            profile = _keep(settings, profile, keys, name)
        if full:
            devices.make_full(person, keys.device).save(settings.home, profile.name)
        opening.adopt(settings, profile, person.ledger)
    role = "full" if full else "write-only"
    settings.output.answer(
        {"device": keys.device.hex, "label": name, "role": role},
        [f"this machine is device {name!r} ({role})"],
    )


def _ask(
    settings: Settings,
    user: str,
    label: str | None,
    *,
    no_wait: bool,
    owner: str | None,
    trusts: bool,
) -> None:
    profile = opening.profile_of(settings)
    if settings.home.device(profile.name).exists():
        raise AlreadyExists(f"this machine is device {profile.label!r} already")
    with opening.connected(profile) as appliance:
        wish = _wish(settings, appliance, user, label)
        settings.output.event({"event": "waiting", "code": wish.code, "label": wish.label})
        settings.output.line(f"code  {wish.code}")
        settings.output.note(f"approve it elsewhere: backitctl device enrol --approve {wish.code}")
        granted = _poll(settings, appliance, wish, waits=not no_wait)
    if granted is None:
        settings.output.note("run the same command again once it is approved")
        return
    _confirm_owner(settings, granted, owner, trusts=trusts)
    remove_private(settings.home.request(profile.name))
    profile = profile.belongs_to(granted.user, granted.keys.account, granted.keys.owner_key)
    _keep(settings, profile, granted.keys, granted.label)
    settings.output.answer(
        {
            "event": "enrolled",
            "device": granted.keys.device.hex,
            "label": granted.label,
            "user": granted.user,
            "owner_code": granted.owner_code,
        },
        [f"this machine is device {granted.label!r} of {granted.user}'s account"],
    )


def _wish(
    settings: Settings, appliance: Appliance, user: str, label: str | None
) -> devices.Request:
    """The wish that waits already, or a new one; it is kept before anybody can grant it."""
    try:
        wish = devices.Request.load(settings.home, settings.profile)
        if wish.user == user:
            devices.poll(appliance, wish)
            return wish
    except (NotFound, EnrolmentNotFound):
        pass  # none, or one that ended: ask anew
    wish = devices.ask(appliance, user, devices.checked_label(label or socket.gethostname()))
    wish.save(settings.home, settings.profile)
    return wish


def _poll(
    settings: Settings, appliance: Appliance, wish: devices.Request, *, waits: bool
) -> devices.Granted | None:
    while True:
        try:
            granted = devices.poll(appliance, wish)
        except EnrolmentNotFound:
            remove_private(settings.home.request(settings.profile))
            raise
        if granted is not None or not waits:
            return granted
        with INTERRUPTS.at_once():
            time.sleep(POLL_SECONDS)


def _confirm_owner(
    settings: Settings, granted: devices.Granted, owner: str | None, *, trusts: bool
) -> None:
    """Whoever approved must be the person: the appliance alone could have done it as well."""
    if owner is not None:
        typed = "".join(c for c in owner.lower() if c.isalnum())
        if not primitives.equal(granted.owner_code.replace("-", "").encode(), typed.encode()):
            raise Untrusted(
                f"this machine was approved by owner {granted.owner_code}, not {owner[:40]}"
            )
    elif not trusts:
        settings.output.note(f"owner code  {granted.owner_code}")
        if not prompts.confirmed("Does the machine that approved show the same owner code?"):
            raise NotConfirmed("enrolling: nobody confirmed the owner code")


def _approve(settings: Settings, code: str) -> None:
    with opening.person(settings) as person:
        wish = devices.find_waiting(person, code)
        device = devices.approve(person, wish, now=clock.now())
        opening.adopt(settings, opening.account_profile(settings), person.ledger)
        shown = devices.owner_code(person.ledger.owner_key)
    settings.output.answer(
        {"device": device.hex, "label": wish.label, "owner_code": shown},
        [f"approved {output.printable(wish.label)!r}", f"owner code  {shown}"],
    )


def _keep(settings: Settings, profile: Profile, keys: DeviceKeys, label: str) -> Profile:
    """The keys first: a profile that names a device has its keys."""
    keys.save(settings.home, profile.name)
    profile = replace(profile, device=keys.device, label=label)
    profile.save(settings.home)
    return profile


@command.command("list")
@click.pass_obj
def list_devices(settings: Settings) -> None:
    """List the machines of the account.

    Example: backitctl device list
    """
    with opening.anyone(settings) as (appliance, book):
        found = devices.listed(appliance, book)
    head = ("LABEL", "ID", "ROLE", "ENROLLED", "LAST SNAPSHOT", "STATE")
    rows = [head, *(_row(each) for each in found)]
    document = {"devices": [_document(each) for each in found]}
    settings.output.answer(document, output.columns(rows))


def _row(each: devices.Listed) -> tuple[str, ...]:
    return (
        output.printable(each.label),
        each.device.hex[:8],
        "full" if each.is_full else "write-only",
        output.shown_time(each.enrolled.timestamp()),
        output.shown_time(each.last_snapshot.timestamp() if each.last_snapshot else None),
        "revoked" if each.revoked else "trusted",
    )


def _document(each: devices.Listed) -> dict[str, object]:
    last, revoked = each.last_snapshot, each.revoked
    return {
        "device": each.device.hex,
        "label": each.label,
        "role": "full" if each.is_full else "write-only",
        "enrolled": each.enrolled.isoformat(),
        "last_snapshot": last.isoformat() if last else None,
        "revoked_since": revoked.isoformat() if revoked else None,
    }


@command.command("revoke")
@click.argument("device")
@click.option(
    "--since",
    metavar="TIME",
    help="Rely on nothing it sent after this time, such as 2026-03-01. [default: now]",
)
@click.pass_obj
def revoke(settings: Settings, device: str, since: str | None) -> None:
    """Trust a machine no more.

    DEVICE is a label, an id, or the beginning of an id. It can neither log in nor back up again;
    its snapshots stay. If it was a full device, `keys rotate` as well: it knew the account's keys.

    Example: backitctl device revoke old-laptop
    """
    moment = clock.now() if since is None else _moment(since)
    profile = opening.account_profile(settings)
    with opening.person(settings) as person:
        found = person.ledger.find_device(device)
        certificate = person.ledger.device(found).body
        devices.revoke(person, found, since=moment)
        opening.adopt(settings, profile, person.ledger)
    if found == profile.device:
        keys_of_device.forget(settings.home, profile.name)
        replace(profile, device=None, label="").save(settings.home)
    lines = [f"device {output.printable(certificate.label)!r} is revoked"]
    if certificate.role == pb.DEVICE_ROLE_FULL:
        lines.append("it was a full device and knew the account's keys: `backitctl keys rotate`")
    settings.output.answer(
        {"device": found.hex, "label": certificate.label, "since": output.iso_time(moment)}, lines
    )


def _moment(text: str) -> int:
    """Raises Invalid."""
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp())
    except ValueError:
        raise Invalid(f"{text[:40]!r} is no time such as 2026-03-01 or 2026-03-01T12:00") from None
