"""One operation of the disk fails, any one: what was acknowledged stays, and nothing by half."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backit.errors import BackitError, Internal, NoSpace
from backit.format.magic import KIB
from backitd.store import StoreSettings
from tests.backitd.clocks import FakeRandom
from tests.backitd.people import Person
from tests.backitd.store.boxes import Box, Chunk, Listener, Session, open_box, succession
from tests.backitd.store.failing_disks import OPERATIONS, FailingDisk, Killed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.logs_warnings

SETTINGS = StoreSettings(pack_bytes=32 * KIB)


@pytest.fixture
def disk() -> FailingDisk:
    return FailingDisk()


@pytest.fixture
def box(tmp_path: Path, disk: FailingDisk) -> Iterator[Box]:
    with open_box(tmp_path, settings=SETTINGS, disk=disk) as opened:
        yield opened


@pytest.fixture
def session(box: Box) -> Session:
    return box.new_session()


def tree(session: Session) -> list[Chunk]:
    """Enough for several packs; the root is the last."""
    random = FakeRandom("tree")
    chunks = [session.data(random(4 * KIB)) for _ in range(30)]
    return [*chunks, session.node(b"root", *chunks)]


def send(session: Session, chunks: list[Chunk]) -> tuple[int, BackitError | None]:
    """What was acknowledged, and what ended the upload."""
    upload = session.begin_upload()
    listener = Listener(upload)
    error: BackitError | None = None
    try:
        for chunk in chunks:
            upload.put([chunk.record])
        upload.finish()
    except BackitError as ended:
        error = ended
        upload.abort()
    numbers = listener.join()
    return (numbers[-1] if numbers else 0), error


def open_files() -> int:
    """Of this process, databases left out: they are opened when they are needed."""
    links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
    targets = [os.readlink(link) for link in links if link.is_symlink()]
    return sum("/packs/" in target or "deleted" in target for target in targets)


UPLOADING = [
    (operation, nth)
    for operation in ("draft", "allocate", "write", "sync_data", "link", "sync_folder", "truncate")
    for nth in (1, 2, 4, 5)
]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize(("operation", "nth"), UPLOADING)
def test_an_upload_that_fails_keeps_what_it_acknowledged(
    session: Session, disk: FailingDisk, operation: str, nth: int, number: int
) -> None:
    box, chunks = session.box, tree(session)
    disk.fail(operation, nth, number)
    files_before = open_files()
    acknowledged, error = send(session, chunks)
    assert open_files() == files_before
    assert (error is not None) == disk.failed
    if error is not None:
        assert isinstance(error, NoSpace if number == errno.ENOSPC else Internal)
        assert acknowledged < len(chunks)
    assert box.all_present(session.machine, chunks[:acknowledged])
    assert set(session.missing(*chunks)).isdisjoint(range(acknowledged))
    # Everything else keeps working, and the next upload goes on.
    assert send(session, chunks) == (len(chunks), None)
    session.commit(chunks[-1])
    for open_again in (box.reopen, box.rebuild):
        open_again()
        assert box.all_present(session.machine, chunks)


def test_a_pack_that_failed_to_sync_is_never_linked(session: Session, disk: FailingDisk) -> None:
    chunks = tree(session)
    disk.fail("sync_data", 1)
    acknowledged, error = send(session, chunks)
    assert (acknowledged, type(error)) == (0, Internal)
    assert session.box.packs() == []


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_commit_that_fails_may_be_tried_again(
    session: Session, disk: FailingDisk, operation: str
) -> None:
    box, owner = session.box, session.machine.owner
    chunks = tree(session)
    session.upload(*chunks)
    header, body = session.run.snapshot(chunks[-1].id)

    def commit() -> None:
        box.store.commit(session.lease.lease, session.machine.device, header, body)

    for nth in range(1, 10):
        disk.heal()
        disk.fail(operation, nth, errno.ENOSPC)
        if not fails(commit):
            break
        assert disk.failed
        assert box.store.snapshots(owner.account, trashed=True, after="", limit=10) == []
    else:
        raise AssertionError("it never came to an end")
    disk.heal()
    commit()
    (row,) = box.store.snapshots(owner.account, trashed=True, after="", limit=10)
    for store in (box.reopen(), box.rebuild()):
        assert store.snapshot(owner.account, row.snapshot).sealed_body == body


@pytest.mark.parametrize("operation", ["draft", "link"])
def test_a_disk_that_is_full_to_the_brim_can_still_be_restored_from(
    session: Session, disk: FailingDisk, operation: str
) -> None:
    row = session.backup(b"file")
    disk.fail(operation, 1, errno.ENOSPC)
    found = session.box.reopen().snapshot(session.machine.owner.account, row.snapshot)
    assert disk.failed
    assert found == row


def test_a_receipt_that_could_not_be_taken_back_is_used(
    session: Session, disk: FailingDisk
) -> None:
    """The commit was refused, its receipt stayed, the client tries again."""
    root = session.node(b"root")
    session.upload(root)
    header, body = session.run.snapshot(root.id)

    def commit() -> None:
        session.box.store.commit(session.lease.lease, session.machine.device, header, body)

    disk.fail("sync_folder", 3)  # folder of the snapshot, its files, its receipt
    disk.fail("remove", 1)
    assert fails(commit)
    assert disk.done["remove"]
    session.box.forward(100)
    commit()
    (row,) = session.box.store.snapshots(header.account, trashed=True, after="", limit=10)
    assert row.received == int(session.box.clock.now()) - 100


def test_statements_put_together_come_true_together_after_a_kill(
    session: Session, disk: FailingDisk
) -> None:
    """A new owner key without the slot that opens it would lock its person out."""
    owner, box = session.machine.owner, session.box
    new = succession(owner)
    disk.kill("link", 3)  # the journal's entry, one of the two, and not the other
    with pytest.raises(Killed):
        box.store.put_statements(owner.account, new)
    box.reopen()
    slot = box.store.password_slot(owner.account)
    assert slot is not None
    assert slot.number == 2
    assert box.store.account(owner.account).owner_key == owner.root.owner.public


def fails(action: Callable[[], object]) -> bool:
    try:
        action()
    except (NoSpace, Internal):
        return True
    return False


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_signup_that_fails_leaves_nothing_and_may_be_tried_again(
    box: Box, disk: FailingDisk, operation: str
) -> None:
    person = Person("bert")
    statements = person.first_statements()
    for nth in range(1, 40):
        disk.heal()
        disk.fail(operation, nth, errno.ENOSPC)
        if not fails(lambda: box.store.create_account(person.account, statements)):
            break
        assert box.store.find_user("bert") is None
        box.reopen()
        assert box.store.find_user("bert") is None
    else:
        raise AssertionError("it never came to an end")
    assert box.rebuild().find_user("bert") is not None


@pytest.mark.parametrize("operation", OPERATIONS)
def test_statements_that_fail_together_leave_none(
    session: Session, disk: FailingDisk, operation: str
) -> None:
    box, owner = session.box, session.machine.owner
    new = owner.machine("second").statements()
    before = box.store.statements(owner.account)
    for nth in range(1, 40):
        disk.heal()
        disk.fail(operation, nth)
        if not fails(lambda: box.store.put_statements(owner.account, new)):
            break
        assert box.store.statements(owner.account) == before
        box.reopen()
        assert box.store.statements(owner.account) == before
    else:
        raise AssertionError("it never came to an end")
    assert len(box.rebuild().statements(owner.account)) == len(before) + 2


@pytest.mark.parametrize("operation", ["draft", "write", "sync", "link", "sync_folder"])
def test_an_order_to_forget_that_fails_may_be_given_again(
    session: Session, disk: FailingDisk, operation: str
) -> None:
    box, owner = session.box, session.machine.owner
    row = session.backup(b"file")
    disk.fail(operation, 1)
    order = owner.order(row.snapshot.raw, 1, forgotten=True)
    assert fails(lambda: box.store.forget(owner.account, order))
    assert not box.reopen().snapshot(owner.account, row.snapshot).trashed
    box.forward(10)
    other = owner.order(row.snapshot.raw, 1, forgotten=True)
    assert box.store.forget(owner.account, other).trashed


@pytest.mark.parametrize("operation", ["draft", "write", "sync", "link", "sync_folder"])
def test_a_lease_that_fails_may_be_asked_for_again(
    box: Box, disk: FailingDisk, operation: str
) -> None:
    machine = box.machine(box.person())
    run = machine.run()
    disk.fail(operation, 1)
    assert fails(lambda: box.session(machine, run))
    box.session(machine, run)


def test_a_full_disk_is_told_before_a_pack_is_begun(session: Session, disk: FailingDisk) -> None:
    """The reserve is left for databases and collection; statements and orders may use it."""
    first = session.backup(b"file")
    disk.pretended = (1 << 40, 21 << 30)
    usage = session.box.store.usage(session.machine.owner.account)
    assert (usage.disk_bytes, usage.free_bytes) == (1 << 40, 21 * (1 << 30) - (1 << 40) * 2 // 100)
    disk.pretended = (1 << 40, 20 << 30)
    again = session.box.session(session.machine)
    drafts = disk.done["draft"]
    _acknowledged, error = send(again, tree(again))
    assert isinstance(error, NoSpace)
    assert disk.done["draft"] == drafts
    owner = session.machine.owner
    order = owner.order(first.snapshot.raw, 1, forgotten=True)
    assert session.box.store.forget(owner.account, order).trashed
