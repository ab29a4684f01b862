"""The command line of `backitfs`, and how `backitctl` starts it: what comes in, where words go.

A program that starts this one passes two open descriptors: `--login-fd`, from which the login is
read to its end (where there is none, nothing is done), and `--ready-fd`, to which one JSON line is
written: {"mounted": DIR} or {"reason", "message"}. Nothing secret is ever an argument, in the
environment or in the log.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backit import process
from backit.client.home import DEFAULT_PROFILE, Home, make_private_folder
from backit.errors import BackitError
from backit.format.magic import MIB
from backitfs import mountpoint

if TYPE_CHECKING:
    from collections.abc import Generator

log = logging.getLogger("backitfs")

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
LOG_BYTES = MIB
LOGIN_BYTES = MIB
FAILED = 1


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="backit", message="backitfs %(version)s")
def main() -> None:
    """Snapshots as a read-only file system.

    `backitctl mount` and `backitctl umount` are made for people; this is the program behind them.
    """


@main.command("mount")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("snapshot", required=False)
@click.option("--profile", default=DEFAULT_PROFILE, show_default=True, help="Whose snapshots.")
@click.option("--allow-other", is_flag=True, help="Let other users in, as far as modes allow.")
@click.option("--owner", type=click.Choice(["original", "me"]), default="original")
@click.option("--cache", default=256 * MIB, show_default=True, help="Bytes of chunks to keep.")
@click.option("--patience", default=60.0, show_default=True, help="Seconds to wait for the box.")
@click.option("--login-fd", type=int, help="An open descriptor to read the login from.")
@click.option("--ready-fd", type=int, help="An open descriptor to say on how it went.")
@click.option("--log", "log_file", type=click.Path(path_type=Path), help="Not on standard error.")
@click.option("--debug", is_flag=True, help="Log more; among it, at the end, the calls answered.")
def mount(  # noqa: PLR0913 - one for each option
    folder: Path,
    snapshot: str | None,
    *,
    profile: str,
    allow_other: bool,
    owner: str,
    cache: int,
    patience: float,
    login_fd: int | None,
    ready_fd: int | None,
    log_file: Path | None,
    debug: bool,
) -> None:
    """Mount the snapshots over DIR, and answer until they are unmounted.

    Without a login handed over, takes the one that was kept, or a full device's key file.
    """
    not_done = process.harden()
    # It writes of handshakes that fail; people get our own words for that. Read at its import.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with _failures_told(ready_fd):
        # Before the login is read: who started us needs a while to get it.
        from backitfs.account import Account
        from backitfs.serve import Wishes, serve

        login = None if login_fd is None else _read_all(login_fd)
        if login == b"":
            sys.exit(FAILED)  # who started us has given up, and knows why
        _log_to(log_file, debug=debug)
        for failure in not_done:
            log.warning("%s", failure)
        # Chunks stay for long, and come from several threads: what each would keep to itself of the
        # memory that it gave back is 60 MB more than the cache may hold.
        process.tune_memory(arenas=1)
        place = mountpoint.prepare(folder)
        if allow_other:
            mountpoint.let_others_in()
        wishes = Wishes(place, snapshot, allow_other, owner == "me", cache, patience)
        account = Account.open(Home.find(os.environ), profile, login, _now())
        try:
            serve(account, wishes, lambda: _say(ready_fd, {"mounted": os.fsdecode(place)}))
        finally:
            account.close()


@main.command("umount")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--ready-fd", type=int, help="An open descriptor to say on how it went.")
def umount(folder: Path, *, ready_fd: int | None) -> None:
    """Unmount what is mounted over DIR, alive or not."""
    with _failures_told(ready_fd):
        mountpoint.unmount(folder)
        _say(ready_fd, {"unmounted": os.fsdecode(folder)})


@contextmanager
def _failures_told(ready_fd: int | None) -> Generator[None]:
    """To whoever started us, else on standard error; and the program ends with 1."""
    try:
        yield
    except (BackitError, OSError) as error:
        reason = error.reason if isinstance(error, BackitError) else "LOCAL"
        if ready_fd is None:
            raise click.ClickException(str(error)) from None
        _say(ready_fd, {"reason": reason, "message": str(error)})
        log.debug("ending: %s", error)
        sys.exit(FAILED)


def _say(ready_fd: int | None, document: dict[str, str]) -> None:
    if ready_fd is None:
        log.info("%s", " ".join(document.values()))
        return
    try:
        os.write(ready_fd, json.dumps(document).encode() + b"\n")
        os.close(ready_fd)
    except OSError:  # whoever started us has gone, or has heard enough
        log.debug("nobody listens to %s", document)


def _read_all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read(LOGIN_BYTES)


def _log_to(file: Path | None, *, debug: bool) -> None:
    """Names of files stand in the log, so it is for its owner alone, and it is bounded."""
    handler: logging.Handler = logging.StreamHandler()
    if file is not None:
        make_private_folder(file.parent)
        handler = RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=1)
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    log.setLevel(logging.DEBUG if debug else logging.INFO)


def _now() -> int:
    """Unix seconds."""
    return time.time_ns() // 1_000_000_000
