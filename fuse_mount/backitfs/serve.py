"""One mount from beginning to end: caches, operations, the kernel's requests, and the way out."""

from __future__ import annotations

import logging
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyfuse3
import trio

from backit.errors import Refused
from backitfs import mountpoint, turns
from backitfs.attributes import Owner
from backitfs.cache import Cache
from backitfs.operations import Operations
from backitfs.reader import Reader
from backitfs.roster import Roster
from backitfs.things import Things

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backit.crypto.primitives import Buffer
    from backitfs.account import Account
    from backitfs.catalogue import Listed
    from backitfs.view import Opened

log = logging.getLogger(__name__)

# Requests that are worked on at once; the kernel has at most a dozen of its own under way.
TASKS = 128
# What nodes get of the cache.
NODES_SHARE = 4
# Seconds for which requests may still be answered when the mount has to end.
LAST_WORDS = 1.0
OPTIONS = {"ro", "nosuid", "nodev", "default_permissions"}
NAMES = {"fsname=backit", "subtype=backitfs"}


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to mount. `cache` in bytes, `patience` in seconds."""

    place: Path
    snapshot: str | None
    allow_other: bool
    owns_all: bool
    cache: int
    patience: float


def serve(account: Account, wishes: Wishes, ready: Callable[[], None]) -> None:
    """Mount, say `ready`, answer until the mount is taken away or a signal comes, and clean up.

    Raises Refused if mounting is not allowed.
    """
    first = [account.resolve(wishes.snapshot)] if wishes.snapshot else account.snapshots()
    trio.run(_serve, account, wishes, first, ready)


async def _serve(
    account: Account, wishes: Wishes, first: list[Listed], ready: Callable[[], None]
) -> None:
    async with trio.open_nursery() as background:
        operations = _operations(account, wishes, first, background)
        guard = mountpoint.Guard(wishes.place)
        try:
            _mount(operations, wishes)
        except BaseException:
            guard.dismiss()
            raise
        try:
            await _answer(wishes.place, ready)
        finally:
            # Also detaches a mount that somebody still uses.
            pyfuse3.close(unmount=True)
            guard.dismiss()
            calls = ", ".join(f"{name} {count}" for name, count in operations.calls.most_common())
            log.debug("calls answered: %s", calls)
        background.cancel_scope.cancel()


def _operations(
    account: Account, wishes: Wishes, first: list[Listed], background: trio.Nursery
) -> Operations:
    share = wishes.cache // NODES_SHARE
    nodes: Cache[Opened] = Cache(share, background, wishes.patience)
    data: Cache[Buffer] = Cache(wishes.cache - share, background, wishes.patience)

    reader = Reader(
        nodes,
        data,
        lambda volume: account.nodes(volume.listed.domain),
        lambda volume: account.data(volume.listed.domain),
    )
    again = None if wishes.snapshot else account.snapshots
    roster = Roster(nodes.get, first, again, background)
    turns.install(
        quiet=lambda: not (nodes.is_busy or data.is_busy or roster.is_busy),
        urgent=lambda: nodes.is_awaited or data.is_awaited,
    )
    owner = Owner(os.getuid(), os.getgid(), wishes.owns_all)
    return Operations(Things(roster, reader, owner), reader)


def _mount(operations: Operations, wishes: Wishes) -> None:
    options = OPTIONS | NAMES
    if wishes.allow_other:
        mountpoint.let_others_in()
        options.add("allow_other")
    try:
        pyfuse3.init(operations, str(wishes.place), options)
    except RuntimeError as error:
        # What fusermount3 has to say it has said on standard error.
        raise Refused(f"mounting over {wishes.place}: {error}") from None


async def _answer(place: Path, ready: Callable[[], None]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_on_signal, nursery)
        nursery.start_soon(_announce, place, ready)
        await pyfuse3.main(max_tasks=TASKS)
        nursery.cancel_scope.cancel()


async def _announce(place: Path, ready: Callable[[], None]) -> None:
    """Say `ready` as soon as the mount answers.

    The first answer is to what the kernel wants to agree on; how far it reads ahead can be set only
    after that, as it then takes what libfuse says.
    """
    try:
        await trio.to_thread.run_sync(os.statvfs, place, abandon_on_cancel=True)
    except OSError as error:
        log.warning("looking at %s: %s", place, error)
    if mountpoint.read_further_ahead(place):
        log.debug("read-ahead is %d KiB", mountpoint.READ_AHEAD_KIB)
    ready()


async def _end_on_signal(nursery: trio.Nursery) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            log.info("ending on %s", signal.Signals(number).name)
            pyfuse3.terminate()
            nursery.cancel_scope.deadline = trio.current_time() + LAST_WORDS
