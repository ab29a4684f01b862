"""`password`: replace the password by another."""

from __future__ import annotations

import click

from backit.client import account
from backitctl import opening, prompts
from backitctl.options import Command, Settings


@click.command("password", cls=Command)
@click.pass_obj
def command(settings: Settings) -> None:
    """Change the password.

    Asks for the old one and the new one. Nothing needs to be backed up again. If somebody else
    knows the old password, this is not enough: `keys rotate` is the remedy.

    In scripts, BACKIT_PASSWORD_FILE or _COMMAND gives the old one and BACKIT_NEW_PASSWORD_FILE or
    _COMMAND the new one.

    Example: backitctl password
    """
    with opening.person_with_password(settings) as (person, _old):
        new = prompts.new_password("New password: ", first=False)
        account.change_password(person, new)
        opening.adopt(settings, opening.account_profile(settings), person.ledger)
    settings.output.answer({"changed": True}, ["the password is changed"])
