"""`keys`: rotate an account's keys."""

from __future__ import annotations

import click

from backit.client import account, devices
from backit.client.device import KeyFile
from backitctl import clock, opening, prompts
from backitctl.options import Group, Settings


@click.group("keys", cls=Group)
def command() -> None:
    """Manage the keys of an account.

    Example: backitctl keys rotate
    """


@command.command("rotate")
@click.option("--epoch-only", is_flag=True, help="Only begin a new epoch.")
@click.option("--new-password", is_flag=True, help="Also set a new password, which is asked for.")
@click.pass_obj
def rotate(settings: Settings, *, epoch_only: bool, new_password: bool) -> None:
    """Make new keys for what is written from now on.

    Asks for the password. A new root key replaces the old one, and a new epoch begins. Recovery
    kits and the key files of full devices end: print a new kit, enrol full devices again. Devices
    go on backing up. What was written before stays readable to whoever had the old keys and has
    copied it.

    Example: backitctl keys rotate --new-password
    """
    if epoch_only and new_password:
        raise click.UsageError("--epoch-only keeps the password: leave out --new-password")
    profile = opening.account_profile(settings)
    with opening.person_with_password(settings) as (person, old):
        if epoch_only:
            epoch = account.rotate_epoch(person, now=clock.now())
        else:
            fresh = prompts.new_password("New password: ", first=False) if new_password else old
            epoch = account.rotate_root(person, fresh, now=clock.now())
        opening.adopt(settings, profile, person.ledger)
        if profile.device and KeyFile.load(settings.home, profile.name) and not epoch_only:
            # Ours is the one key file that can be made anew right here.
            devices.make_full(person, profile.device).save(settings.home, profile.name)
            opening.adopt(settings, profile, person.ledger)
    lines = [f"epoch {epoch} has begun"]
    if not epoch_only:
        lines.append("earlier recovery kits and key files have ended: `backitctl recovery-kit`")
    settings.output.answer({"epoch": epoch, "new_root_key": not epoch_only}, lines)
