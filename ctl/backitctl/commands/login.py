"""`login`: open an account on this machine and keep it open."""

from __future__ import annotations

import click

from backit.client import account
from backit.client.login import LIFETIME_SECONDS, KeptLogin
from backit.errors import AlreadyExists
from backitctl import clock, opening, output, prompts
from backitctl.options import Command, Settings


@click.command("login", cls=Command)
@click.argument("user")
@click.pass_obj
def command(settings: Settings, user: str) -> None:
    """Keep an account open on this machine.

    Asks for the password; after that, commands that read backups do not, until `logout` or for
    twelve hours. Meanwhile the account's key lies in a file in memory that only this user can read.

    Example: backitctl login anna
    """
    profile = opening.profile_of(settings)
    if profile.user and profile.user.casefold() != user.casefold():
        raise AlreadyExists(
            f"profile {profile.name!r} is {profile.user}'s; "
            "another --profile can be somebody else's"
        )
    with opening.connected(profile) as appliance:
        password = prompts.password(f"Password of {user}: ")
        person = account.open_with_password(appliance, user, password)
        opening.adopt(settings, profile, person.ledger)
        kept = KeptLogin.of(person, clock.now())
        kept.save(settings.home, profile.name)
    settings.output.answer(
        {"user": kept.user, "account": person.account.hex, "ends": output.iso_time(kept.ends)},
        [f"logged in as {kept.user} for {LIFETIME_SECONDS // 3600} hours"],
    )
