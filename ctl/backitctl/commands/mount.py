"""`mount`: snapshots as a folder."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path

import click

from backit.client.login import KeptLogin
from backitctl import clock, exits, mounting, opening
from backitctl.interrupts import INTERRUPTS
from backitctl.options import Command, Settings

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
CACHE_MIN = 16 << 20


class Size(click.ParamType[int]):
    """Bytes, as 300M or 2G."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        matched = re.fullmatch(r"(\d{1,12})([KMG]?)(i?B)?", str(value), re.IGNORECASE)
        if not matched:
            self.fail(f"{value!r} is no size such as 256M or 1G", param, ctx)
        size = int(matched[1]) * UNITS[matched[2].upper()]
        if size < CACHE_MIN:
            self.fail(f"{value!r} is less than {CACHE_MIN >> 20}M", param, ctx)
        return size


@click.command("mount", cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.argument("snapshot", required=False)
@click.option("--foreground", is_flag=True, help="Stay until Ctrl-C, and show the log here.")
@click.option(
    "--allow-other",
    is_flag=True,
    help="Let other users in, as far as the files' modes allow. For root, or with user_allow_other "
    "in /etc/fuse.conf.",
)
@click.option(
    "--owner",
    type=click.Choice(["original", "me"]),
    default="original",
    show_default=True,
    help="Whose files they are.",
)
@click.option(
    "--cache",
    type=Size(),
    default="256M",
    show_default=True,
    metavar="SIZE",
    help="Memory for what was read last.",
)
@click.option(
    "--patience",
    type=click.FloatRange(min=1),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long a read waits for an appliance that is out of reach.",
)
@click.pass_obj
def command(  # noqa: PLR0913 - one for each option
    settings: Settings,
    folder: Path,
    snapshot: str | None,
    *,
    foreground: bool,
    allow_other: bool,
    owner: str,
    cache: int,
    patience: float,
) -> int:
    """Show snapshots as a folder.

    DIR gets one folder for each machine and in it one for each snapshot, named by its time, and
    `latest`; with SNAPSHOT, DIR is that snapshot. Nothing in it can be changed. New snapshots
    appear by themselves. The account stays open in there until it is unmounted.

    Example: backitctl mount /mnt/backups
    """
    log = log_of(settings, folder)
    arguments = ["--profile", settings.profile, "--owner", owner]
    arguments += ["--cache", str(cache), "--patience", str(patience)]
    arguments += ["--allow-other"] * allow_other
    arguments += [] if foreground else ["--log", str(log)]
    arguments += ["--", os.fspath(folder), *([snapshot] if snapshot else [])]
    with mounting.Launch("mount", arguments, takes_login=True, with_words=foreground) as launch:
        with opening.person(settings) as person:
            # It logs in by itself: this command's login ends with this command.
            login = replace(KeptLogin.of(person, clock.now()), token="").encode()
        started = launch.finish(login)
    place = started.answer["mounted"]
    document = {"mounted": place, "process": started.process.pid}
    if not foreground:
        settings.output.answer(
            document | {"log": str(log)}, [f"mounted on {place}", f"problems are told in {log}"]
        )
        return exits.DONE
    try:
        # An interrupt may come while this is said, too.
        settings.output.answer(document, [f"mounted on {place}; Ctrl-C unmounts"])
        with INTERRUPTS.at_once():
            return started.process.wait()
    except KeyboardInterrupt:
        started.process.terminate()
        return started.process.wait()


def log_of(settings: Settings, folder: Path) -> Path:
    """Where a mount tells its problems: beside a login that is kept, in memory if there is such a
    place, because names of files stand in it.
    """
    name = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:12]
    return settings.home.runtime / "mounts" / f"{name}.log"
