"""The program `backitd`: arguments, log, run. Nothing else."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backit import process
from backit.errors import BackitError
from backitd import config as configuration
from backitd import logs, systemd
from backitd.clock import SystemClock
from backitd.store import Store

if TYPE_CHECKING:
    from collections.abc import Generator

    from backitd.config import Config

log = logging.getLogger("backitd")

# gRPC offers no way to ask for TLS 1.3 alone. This list holds only suites of TLS 1.2, and they need
# an RSA certificate, which we never have: so nothing below TLS 1.3 (whose suites are not listed
# here) can be agreed on.
ONLY_TLS_1_3 = "ECDHE-RSA-AES256-GCM-SHA384"

CONFIG_FILE = "backitd.toml"
SOCKET = "backitd.sock"
STATE = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="STATE_DIRECTORY",
    show_envvar=True,
    help="Folder that holds everything: store, databases, keys, admin socket.",
)
CONFIG = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Configuration in TOML; what is given as an option counts more.",
)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@STATE
@click.option(
    "--listen",
    multiple=True,
    metavar="ADDRESS",
    help="unix:PATH, or tcp:HOST:PORT with TLS. May be given several times.",
)
@CONFIG
@click.option("--open-signup", is_flag=True, help="Let people sign up without an invite.")
@click.version_option(package_name="backit")
@click.pass_context
def main(
    context: click.Context,
    state: Path | None,
    listen: tuple[str, ...],
    config_file: Path | None,
    *,
    open_signup: bool,
) -> None:
    """Keep everyone's backups, and be able to read none of them.

    Without a command it serves until it is told to stop (SIGTERM, SIGINT).
    """
    if context.invoked_subcommand is not None:
        return
    _harden()
    with _failures_reported():
        config = _config(config_file)
        config = replace(
            config,
            listen=listen or config.listen or _default_listen(),
            open_signup=open_signup or config.open_signup,
        )
        _serve(_folder(state), config)


@main.command()
@STATE
@CONFIG
def rebuild(state: Path | None, config_file: Path | None) -> None:
    """Make the databases again from the objects in the store; the daemon must not run."""
    _harden()
    with _failures_reported():
        config = _config(config_file)
        logs.set_up(config.log_level)
        folder = _folder(state)
        Store.rebuild(
            folder, clock=SystemClock(), random=secrets.token_bytes, settings=config.store
        ).close()


def _harden() -> None:
    """Also TLS 1.3 alone: first, because gRPC reads the environment once."""
    for failure in process.harden():
        log.warning("%s", failure)
    os.environ["GRPC_SSL_CIPHER_SUITES"] = ONLY_TLS_1_3
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def _serve(state: Path, config: Config) -> None:
    logs.set_up(config.log_level)
    memory = config.memory
    for failure in process.tune_memory(
        mmap_threshold=memory.mmap_threshold,
        trim_threshold=memory.trim_threshold,
        arenas=memory.arenas,
    ):
        log.warning("%s", failure)
    # gRPC reads the environment that _harden() has set, so it is imported only now.
    from backitd.server import Daemon

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())
    daemon = Daemon(state, config, clock=SystemClock(), random=secrets.token_bytes)
    watchdog: systemd.Watchdog | None = None
    try:
        for address in daemon.start():
            log.info("listening on %s", address)
        if socket := daemon.invites_first():
            # Not the code itself: logs are copied to places where it has no business.
            log.info(
                "no account yet; for the first person's code: backitctl admin invite --socket %s",
                socket,
            )
        seconds = systemd.watchdog_seconds(os.environ, os.getpid())
        if seconds is not None:
            watchdog = systemd.Watchdog(seconds, daemon.healthy)
            watchdog.start()
        systemd.notify("READY=1")
        log.info("ready")
        stopping.wait()
    finally:
        systemd.notify("STOPPING=1")
        log.info("stopping")
        if watchdog is not None:
            watchdog.stop()
        daemon.stop()
        # Python gives signals back to the system before it ends: told twice is no other end.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    log.info("stopped")


def _config(file: Path | None) -> Config:
    """From the file given, else from systemd's ConfigurationDirectory, else defaults alone."""
    folder = os.environ.get("CONFIGURATION_DIRECTORY")
    if file is None and folder is not None and (Path(folder) / CONFIG_FILE).exists():
        file = Path(folder) / CONFIG_FILE
    return configuration.Config() if file is None else configuration.read(file)


def _folder(state: Path | None) -> Path:
    if state is None:
        raise click.UsageError("--state is missing: which folder holds the backups?")
    return state.absolute()


def _default_listen() -> tuple[str, ...]:
    folder = os.environ.get("RUNTIME_DIRECTORY")
    if folder is None:
        raise click.UsageError("--listen is missing: unix:PATH or tcp:HOST:PORT")
    return (f"unix:{folder}/{SOCKET}",)


@contextmanager
def _failures_reported() -> Generator[None]:
    try:
        yield
    except BackitError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
