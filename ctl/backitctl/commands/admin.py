"""`admin`: what only whoever may open the appliance's admin socket can do."""

from __future__ import annotations

from pathlib import Path

import click
import grpc

from backit.client.border import DEADLINE_SECONDS
from backit.client.channel import open_channel
from backit.client.profile import Address
from backit.client.status import error_of
from backit.v1 import appliance_pb2, appliance_pb2_grpc
from backitctl import output
from backitctl.interrupts import INTERRUPTS
from backitctl.options import Group, Settings

STATE = Path("/var/lib/backit")
SOCKET = "admin.sock"
DAY_SECONDS = 86_400
LONGEST_DAYS = 90


@click.group("admin", cls=Group)
def command() -> None:
    """Manage an appliance, on the appliance itself.

    Example: backitctl admin invite
    """


@command.command("invite")
@click.option(
    "--state",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=STATE,
    show_default=True,
    help="The daemon's state folder, in which its admin socket lies.",
)
@click.option(
    "--socket",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="The admin socket, if it is configured elsewhere.",
)
@click.option(
    "--days",
    type=click.IntRange(1, LONGEST_DAYS),
    default=7,
    show_default=True,
    help="How long the invite is good for.",
)
@click.pass_obj
def invite(settings: Settings, state: Path, socket: Path | None, days: int) -> None:
    """Make an invite for one new person.

    Prints a code for `backitctl signup USER --invite CODE`.

    Example: backitctl admin invite --days 1
    """
    address = Address(path=str((socket or state / SOCKET).absolute()))
    request = appliance_pb2.CreateInviteRequest()
    request.lifetime.FromSeconds(days * DAY_SECONDS)
    with open_channel(address, "") as channel:
        stub = appliance_pb2_grpc.AdminServiceStub(channel)
        try:
            with INTERRUPTS.at_once():
                found = stub.CreateInvite(request, timeout=DEADLINE_SECONDS)
        except grpc.RpcError as error:
            raise error_of(error, f"asking {address} for an invite") from None
    ends = found.expire_time.seconds
    settings.output.answer({"code": found.code, "ends": output.iso_time(ends)}, [found.code])
    settings.output.note(f"good until {output.shown_time(ends)}")
