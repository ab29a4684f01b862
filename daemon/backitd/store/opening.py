"""What has to be right before a store is used: one process, its disk, its key, its databases.

Raises errors of ours, also for what the disk answers.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from typing import TYPE_CHECKING, Protocol, TypeVar

from backit.crypto.keys import SigningKey
from backit.crypto.primitives import KEY_BYTES, derive
from backit.errors import Damaged, NoSpace, Unavailable
from backit.ids import IncarnationId
from backitd.store.databases import delete, set_aside
from backitd.store.files import FOLDER_MODE, create_all, failure, make_folders, sweep
from backitd.store.objects import MARKER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backitd.store.files import Disk
    from backitd.store.objects import Objects
    from backitd.store.packs import Packs
    from backitd.store.values import Random

log = logging.getLogger(__name__)

STORE = "store"
CATALOG = "catalog.db"
INDEX = "index.db"
RECEIPT_KEY = "receipt.key"
PLACE = struct.Struct("<QQQ")


class Cache(Protocol):
    """A database that belongs to one life of one store."""

    def incarnation(self) -> bytes | None:
        """None for a new file."""
        ...

    def begin_life(self, incarnation: IncarnationId) -> None: ...

    def close(self) -> None: ...


C = TypeVar("C", bound=Cache)


def lock_state(state: Path, disk: Disk) -> int:
    """A descriptor that keeps other processes out until it is closed. Raises Unavailable."""
    fd = -1
    try:
        if not state.is_dir():
            state.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            disk.sync_folder(state.parent)
        fd = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Unavailable(f"opening the store in {state}: another process has it open") from None
    except OSError as error:
        raise failure(error, f"opening the store in {state}") from error
    return fd


def begin_store(
    state: Path, objects: Objects, packs: Packs, random: Random, *, moment: int
) -> IncarnationId:
    """The id that the store began with; makes an empty store where nothing has ever been.

    Raises Damaged where there has been a store: an empty mount point is no new one.
    """
    found = objects.incarnation()
    if found is None and (state / CATALOG).exists():
        raise Damaged(
            f"the store in {state} has a catalog, but no {STORE}/{MARKER}: "
            "its disk is not mounted, or its files were lost"
        )
    make_folders(packs.disk, state, [STORE])
    packs.create()
    if found is None:
        # The marker comes last: a store that has one has all its folders.
        found = IncarnationId(random(IncarnationId.LENGTH))
        objects.create(found, moment)
    _probe(packs.disk, state / STORE)
    return found


def incarnation_of(state: Path, disk: Disk, first: IncarnationId) -> IncarnationId:
    """Of this life of the store: from the id it began with, and where its marker lies.

    So a copied or restored store gets another without anybody's doing, and a restart the same. A
    file system that was put back as a whole keeps it: that is for the clients' counters to notice.
    """
    try:
        place = disk.place(state / STORE / MARKER)
    except OSError as error:
        raise failure(error, "looking where the store's marker lies") from error
    material = PLACE.pack(*(number % 2**64 for number in place))
    return IncarnationId(derive("incarnation", first.raw, material)[: IncarnationId.LENGTH])


def _probe(disk: Disk, folder: Path) -> None:
    """Learn how the file system makes files. Raises Internal where it cannot link them."""
    try:
        sweep(disk, folder)
        disk.probe(folder)
    except OSError as error:
        ours = failure(error, f"trying to link files in {folder}")
        if not isinstance(ours, NoSpace):
            raise ours from error
        # What is there can still be read, and that may be what the disk is full of.
        log.warning("%s", ours)


def load_receipt_key(state: Path, disk: Disk, random: Random, *, moment: int) -> SigningKey:
    """Signs receipts; made at the first start. Not an object: a new one would do as well."""
    try:
        name = make_folders(disk, state, ["keys"]) / RECEIPT_KEY
        if not name.exists():
            create_all(disk, [(name, random(KEY_BYTES))], moment)
            name.chmod(0o600)
        seed, _moment = disk.read_file(name)
    except OSError as error:
        raise failure(error, "reading the receipt key") from error
    if len(seed) != KEY_BYTES:
        raise Damaged(f"the receipt key {name} has {len(seed)} bytes, not {KEY_BYTES}")
    return SigningKey(seed)


def open_cache(path: Path, make: Callable[[Path], C], incarnation: IncarnationId) -> C:
    """A database of this life of the store: a damaged one is set aside, another's is deleted."""
    try:
        cache = make(path)
    except Damaged as error:
        log.error("%s; it is set aside and made again", error)
        set_aside(path)
        cache = make(path)
    try:
        known = cache.incarnation()
        if known not in (None, incarnation.raw):
            log.error("%s is that of another store; it is made again", path.name)
            cache.close()
            delete(path)
            cache = make(path)
            known = None
        if known is None:
            cache.begin_life(incarnation)
    except BaseException:
        cache.close()
        raise
    return cache


def forget_caches(state: Path) -> None:
    """Delete both databases. Raises Damaged unless there is a store to make them again from."""
    if not (state / STORE / MARKER).exists():
        raise Damaged(f"rebuilding: {state} holds no store, or its disk is not mounted")
    delete(state / CATALOG)
    delete(state / INDEX)
