"""`status`: how the appliance stands, as far as it concerns this account."""

from __future__ import annotations

import click

from backit.v1 import appliance_pb2
from backitctl import opening, output
from backitctl.options import Command, Settings


@click.command("status", cls=Command)
@click.pass_obj
def command(settings: Settings) -> None:
    """Show how the appliance stands.

    Says how much room there is and when the newest snapshot was taken.

    Example: backitctl status
    """
    with opening.anyone(settings) as (appliance, _book):
        found = appliance.appliance.GetStatus(appliance_pb2.GetStatusRequest())
        address = str(appliance.address)
    last = found.last_snapshot_time.seconds if found.HasField("last_snapshot_time") else None
    settings.output.answer(
        {
            "address": address,
            "version": found.version,
            "uptime_seconds": found.uptime.seconds,
            "free_bytes": found.free_bytes,
            "disk_bytes": found.disk_bytes,
            "stored_bytes": found.stored_bytes,
            "quota_bytes": found.quota_bytes or None,
            "snapshots": found.snapshots,
            "chunks": found.chunks,
            "last_snapshot": output.iso_time(last),
        },
        [
            f"appliance      {address}, version {output.printable(found.version)}",
            f"running for    {_duration(found.uptime.seconds)}",
            f"free           {_room(found)}",
            f"stored for you {_stored(found)}",
            f"snapshots      {found.snapshots}",
            f"last snapshot  {output.shown_time(last)}",
        ],
    )


def _room(found: appliance_pb2.Status) -> str:
    return f"{output.shown_size(found.free_bytes)} of {output.shown_size(found.disk_bytes)}"


def _stored(found: appliance_pb2.Status) -> str:
    quota = f", your quota is {output.shown_size(found.quota_bytes)}" if found.quota_bytes else ""
    return f"{output.shown_size(found.stored_bytes)} in {found.chunks} chunks{quota}"


def _duration(seconds: int) -> str:
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
