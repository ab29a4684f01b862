"""`pair`: look at an appliance, have its fingerprint confirmed, pin its CA."""

from __future__ import annotations

from dataclasses import replace

import click

from backit.client import pairing
from backit.client.profile import Address, Profile
from backit.errors import NotFound
from backitctl import prompts
from backitctl.interrupts import INTERRUPTS
from backitctl.missing import NotConfirmed
from backitctl.options import Command, Settings


@click.command("pair", cls=Command)
@click.argument("address")
@click.option("--fingerprint", metavar="HEX", help="The fingerprint that the appliance must have.")
@click.option(
    "--trust-first-use",
    is_flag=True,
    help="Pin whatever answers now, unseen. Only safe on a network that nobody else is on.",
)
@click.pass_obj
def command(
    settings: Settings, address: str, fingerprint: str | None, *, trust_first_use: bool
) -> None:
    """Meet an appliance and pin its certificate.

    ADDRESS is tcp:HOST:PORT or unix:PATH. Compare the fingerprint that is shown with the one the
    appliance or its administrator shows: from then on, only that appliance can answer. Nothing is
    asked or sent before.

    Example: backitctl pair tcp:box.local:7443
    """
    if fingerprint is not None and trust_first_use:
        raise click.UsageError("--fingerprint and --trust-first-use exclude each other")
    expected = None if fingerprint is None else pairing.parse_fingerprint(fingerprint)
    where = Address.parse(address)
    with INTERRUPTS.at_once():
        found = pairing.look(where)
    if expected is not None:
        pairing.check(found, expected)
    elif not trust_first_use:
        settings.output.note(f"appliance    {found.address}")
        settings.output.note(f"fingerprint  {pairing.show(found.fingerprint)}")
        if not prompts.confirmed("Does the appliance show the same fingerprint?"):
            raise NotConfirmed(f"pairing with {found.address}: nobody confirmed its fingerprint")
    profile = _pinned(settings, found)
    profile.save(settings.home)
    settings.output.answer(
        {
            "profile": profile.name,
            "address": str(profile.address),
            "fingerprint": found.fingerprint.hex(),
            "open_signup": found.open_signup,
        },
        [f"paired with {profile.address}, fingerprint {pairing.show(found.fingerprint)}"],
    )


def _pinned(settings: Settings, found: pairing.Found) -> Profile:
    """A new profile, or the old one of this name with the new pin; its account stays."""
    try:
        profile = Profile.load(settings.home, settings.profile)
    except NotFound:
        profile = Profile(settings.profile, found.address, found.ca_certificate)
    return replace(
        profile,
        address=found.address,
        ca_certificate=found.ca_certificate,
        receipt_key=found.receipt_key,
    )
