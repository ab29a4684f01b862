"""`whoami`: what this machine knows of itself. Asks nobody."""

from __future__ import annotations

import click

from backit.client import pairing
from backit.client.device import KeyFile
from backit.client.login import KeptLogin
from backitctl import clock, opening, output
from backitctl.options import Command, Settings


@click.command("whoami", cls=Command)
@click.pass_obj
def command(settings: Settings) -> None:
    """Show who this machine is to the appliance.

    Needs neither a password nor the appliance.

    Example: backitctl whoami
    """
    profile = opening.profile_of(settings)
    kept = KeptLogin.load(settings.home, profile.name, clock.now())
    role = None
    if profile.device is not None:
        is_full = KeyFile.load(settings.home, profile.name) is not None
        role = "full" if is_full else "write-only"
    ends = kept.ends if kept else None
    settings.output.answer(
        {
            "profile": profile.name,
            "address": str(profile.address),
            "fingerprint": profile.ca_fingerprint.hex(),
            "user": profile.user or None,
            "account": profile.account.hex if profile.account else None,
            "device": profile.device.hex if profile.device else None,
            "label": profile.label or None,
            "role": role,
            "login_ends": output.iso_time(ends),
        },
        [
            f"profile      {profile.name}",
            f"appliance    {profile.address}",
            f"fingerprint  {pairing.show(profile.ca_fingerprint)}",
            f"user         {profile.user or 'none yet'}",
            f"device       {f'{profile.label} ({role})' if role else 'this machine is none'}",
            f"login        {f'open until {output.shown_time(ends)}' if ends else 'none'}",
        ],
    )
