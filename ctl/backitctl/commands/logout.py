"""`logout`: close the account that login opened."""

from __future__ import annotations

import click

from backit.client import login
from backit.errors import BackitError
from backitctl import clock, opening
from backitctl.options import Command, Settings


@click.command("logout", cls=Command)
@click.pass_obj
def command(settings: Settings) -> None:
    """Close the account that login opened.

    This machine goes on backing up if it is a device; a full device goes on reading, too.

    Example: backitctl logout
    """
    profile = opening.profile_of(settings)
    kept = login.KeptLogin.load(settings.home, profile.name, clock.now())
    login.forget(settings.home, profile.name)
    if kept is not None and kept.token:
        try:
            with opening.connected(profile, token=kept.token) as appliance:
                appliance.logout()
        except BackitError as error:
            # The key is gone from here, which is what counts; the token ends by itself.
            settings.output.warning(f"the appliance could not be told: {error}")
    settings.output.answer(
        {"logged_out": kept is not None}, ["logged out" if kept else "nobody was logged in"]
    )
