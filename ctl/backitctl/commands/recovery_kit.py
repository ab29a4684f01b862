"""`recovery-kit`: make a sheet that gets back into the account, and get back in with one."""

from __future__ import annotations

from pathlib import Path

import click

from backit.client import account, kit
from backit.client.home import write_private
from backit.errors import AlreadyExists
from backitctl import clock, opening, prompts
from backitctl.options import Command, Settings


@click.command("recovery-kit", cls=Command)
@click.option("--replace", "replaces", is_flag=True, help="End all earlier kits.")
@click.option("--use", is_flag=True, help="Get back in with a kit's words, and set a new password.")
@click.option(
    "--output",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the sheet to a new file instead of standard output.",
)
@click.pass_obj
def command(settings: Settings, *, replaces: bool, use: bool, file: Path | None) -> None:
    """Print a recovery kit, or get back in with one.

    A kit is 24 words and a QR code of them. With it, a lost password is replaced; without either,
    nobody can open the backups. Print it and keep it away from the computer.

    With --use, asks for the words (or reads them from standard input) and for a new
    password. The machine must be paired.

    Example: backitctl recovery-kit | lp
    """
    if use and (replaces or file):
        raise click.UsageError("--use goes with neither --replace nor --output")
    if use:
        _use(settings)
    else:
        _make(settings, replaces=replaces, file=file)


def _make(settings: Settings, *, replaces: bool, file: Path | None) -> None:
    if file is not None and file.exists():
        raise AlreadyExists(f"{file} exists already")
    profile = opening.account_profile(settings)
    with opening.person(settings) as person:
        secret = account.make_kit(person, replace=replaces)
        opening.adopt(settings, profile, person.ledger)
    sheet = kit.Kit(secret, profile.user, str(profile.address), profile.ca_fingerprint)
    text = sheet.text(clock.today())
    document = {
        "user": sheet.user,
        "address": sheet.address,
        "fingerprint": sheet.ca_fingerprint.hex(),
        "words": sheet.words(),
    }
    if file is None:
        settings.output.answer(document, text.splitlines())
    else:
        write_private(file.absolute(), text.encode())
        settings.output.answer(
            {"file": str(file)}, [f"the kit is in {file}: print it, then delete it"]
        )


def _use(settings: Settings) -> None:
    profile = opening.profile_of(settings)
    with opening.connected(profile) as appliance:
        secret = kit.parse(prompts.recovery_words(kit.is_complete))
        person = account.open_with_kit(appliance, secret)
        profile = opening.adopt(settings, profile, person.ledger)
        new = prompts.new_password(f"New password for {profile.user}: ", first=True)
        account.change_password(person, new)
        opening.adopt(settings, profile, person.ledger)
        appliance.logout()
    settings.output.answer(
        {"user": profile.user, "account": person.account.hex},
        [f"back in as {profile.user}; the new password is set, the kit still works"],
    )
