"""`signup`: make an account, and make this machine its first device."""

from __future__ import annotations

import socket
import unicodedata
from dataclasses import replace

import click

from backit.client import account, devices
from backit.errors import AlreadyExists
from backitctl import clock, opening, prompts
from backitctl.options import Command, Settings


@click.command("signup", cls=Command)
@click.argument("user")
@click.option("--invite", metavar="CODE", default="", help="The invite of the administrator.")
@click.option("--label", metavar="NAME", help="What to call this machine. [default: its host name]")
@click.pass_obj
def command(settings: Settings, user: str, invite: str, label: str | None) -> None:
    """Make an account on the paired appliance.

    Asks for a new password. It never leaves this machine and nobody can replace it: make a recovery
    kit next. This machine becomes a device that backs up by itself from now on.

    Example: backitctl signup anna --invite ABCD-EFGH-IJKL-MNOP
    """
    profile = opening.profile_of(settings)
    if profile.user:
        raise AlreadyExists(
            f"profile {profile.name!r} is {profile.user}'s already; "
            "another --profile can be somebody else's"
        )
    user = unicodedata.normalize("NFC", user).strip()
    name = devices.checked_label(label or socket.gethostname())
    with opening.connected(profile) as appliance:
        password = prompts.new_password(f"New password for {user}: ", first=True)
        person = account.sign_up(appliance, user, password, invite=invite, now=clock.now())
        # From here on there is an account: what fails below can be done again after `login`.
        profile = opening.adopt(settings, profile, person.ledger)
        keys = devices.enrol(person, name, now=clock.now())
        keys.save(settings.home, profile.name)
        profile = replace(profile, device=keys.device, label=name)
        profile.save(settings.home)
        opening.adopt(settings, profile, person.ledger)
        appliance.logout()
    settings.output.answer(
        {
            "user": user,
            "account": person.account.hex,
            "device": keys.device.hex,
            "label": name,
        },
        [
            f"signed up as {user}; this machine backs up as device {name!r}",
            "nobody can replace a lost password: `backitctl recovery-kit` prints what can",
        ],
    )
