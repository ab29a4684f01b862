"""A disk that is really full: the upload stops, what was acknowledged stays, it goes on later."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from backit.errors import NoSpace
from backit.format.magic import KIB, MIB
from backitd.store import StoreSettings
from backitd.store.files import Disk
from tests.backitd.clocks import FakeRandom
from tests.backitd.store.boxes import Chunk, Listener, Session, open_box

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.logs_warnings]

SETTINGS = StoreSettings(pack_bytes=MIB)


class BlindDisk(Disk):
    """Believes that there is always room, so that the disk itself has to say no."""

    def capacity(self, folder: Path) -> tuple[int, int]:
        total, _free = super().capacity(folder)
        return total, total


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "small", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(session: Session) -> list[Chunk]:
    """Upload until the disk is full; what was acknowledged."""
    random = FakeRandom("fill")
    upload = session.begin_upload()
    listener = Listener(upload)
    sent: list[Chunk] = []
    with pytest.raises(NoSpace):
        while len(sent) < 1000:
            sent.append(session.data(random(64 * KIB)))
            upload.put([sent[-1].record])
        upload.finish()
    upload.abort()
    numbers = listener.join()
    assert isinstance(listener.error, NoSpace)
    return sent[: numbers[-1]]


@pytest.mark.parametrize("disk", [Disk, BlindDisk])
def test_a_full_disk_stops_the_upload_and_nothing_else(small: Path, disk: type[Disk]) -> None:
    filler = small / "filler"
    filler.write_bytes(bytes(8 * MIB))
    with open_box(small / "state", settings=SETTINGS, disk=disk()) as box:
        session = box.new_session()
        snapshot = session.backup(b"before it was full")
        session = box.session(session.machine)
        stored = fill(session)
        assert len(stored) > 20
        assert box.all_present(session.machine, stored)
        account = session.machine.owner.account
        assert box.store.snapshot(account, snapshot.snapshot) == snapshot
        assert session.missing(*stored) == []
        filler.unlink()
        # The same run goes on where it stopped.
        root = session.node(b"root", *stored)
        more = session.data(b"more")
        session.upload(more, root)
        session.commit(root)
        for open_again in (box.reopen, box.rebuild):
            open_again()
            assert box.all_present(session.machine, [*stored, more, root])
            assert box.store.usage(account).snapshots == 2


def test_a_box_that_is_full_when_it_starts_can_be_restored_from(small: Path) -> None:
    (small / "filler").write_bytes(bytes(512 * KIB))
    with open_box(small / "state", settings=SETTINGS) as box:
        session = box.new_session()
        snapshot = session.backup(b"file")
        session = box.session(session.machine)
        stored = fill(session)
        box.store.close()
        with (small / "filler").open("ab") as filler:
            try:
                while True:
                    filler.write(bytes(64 * KIB))
                    filler.flush()
            except OSError:
                pass
        os.truncate(small / "filler", (small / "filler").stat().st_size - 512 * KIB)
        box.reopen()
        assert box.all_present(session.machine, stored)
        account = session.machine.owner.account
        assert box.store.snapshot(account, snapshot.snapshot) == snapshot
        order = session.machine.owner.order(snapshot.snapshot.raw, 1, forgotten=True)
        assert box.store.forget(account, order).trashed
