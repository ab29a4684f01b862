"""Snapshots: compare and swap, the order of writing, listing and the trash."""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from backit.crypto import primitives
from backit.crypto.keys import SigningKey
from backit.errors import (
    Damaged,
    HeadMoved,
    LeaseEnded,
    ReferencesMissing,
    SnapshotNotFound,
    StatementInvalid,
    StatementOutdated,
)
from backit.format import snapshot as snapshot_format
from backit.format import statement as statements
from backit.format.statement import StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import SnapshotId
from tests.backitd.store.spoiling import flip

if TYPE_CHECKING:
    from collections.abc import Callable

    from backitd.store import SnapshotRow
    from tests.backitd.people import Person
    from tests.backitd.store.boxes import Box, Session


def next_session(session: Session) -> Session:
    """The next backup of the same series."""
    return session.box.session(session.machine, session.machine.run(session.run.series))


def listed(box: Box, person: Person, *, trashed: bool = True) -> list[SnapshotId]:
    rows = box.store.snapshots(person.account, trashed=trashed, after="", limit=1000)
    return [row.snapshot for row in rows]


def test_a_committed_snapshot_is_there_after_reopening(session: Session) -> None:
    box, owner = session.box, session.machine.owner
    row = session.backup(b"one", b"two")
    header = row.header
    for store in (box.store, box.reopen(), box.rebuild()):
        found = store.snapshot(owner.account, row.snapshot)
        assert found == row
        assert found.session is not None
        assert found.session.encoded == session.run.session_statement.encoded
        body = snapshot_format.open_body(header, found.sealed_body, session.run.key)
        assert body.host == "laptop"


def test_the_receipt_is_the_boxes_word(session: Session) -> None:
    row = session.backup(b"one")
    store = session.box.store
    row.receipt.verify(store.receipt_key)
    body = row.receipt.body
    assert isinstance(body, pb.ReceiptBody)
    assert SnapshotId(body.snapshot_id) == row.snapshot == snapshot_format.snapshot_id(row.header)
    assert body.received == row.received == int(session.box.clock.now())
    assert body.incarnation_id == store.incarnation.raw
    assert session.box.reopen().receipt_key == store.receipt_key
    key = session.box.state / "keys/receipt.key"
    assert key.stat().st_mode & 0o777 == 0o600


def test_the_same_commit_again_answers_the_same(session: Session) -> None:
    chunk = session.data(b"file")
    root = session.node(b"root", chunk)
    session.upload(chunk, root)
    header, body = session.run.snapshot(root.id)
    store = session.box.store
    first = store.commit(session.lease.lease, session.machine.device, header, body)
    session.box.forward(3600)
    again = store.commit(session.lease.lease, session.machine.device, header, body)
    assert again == first
    assert listed(session.box, session.machine.owner) == [first.snapshot]


def test_a_commit_ends_its_lease(session: Session) -> None:
    session.backup(b"one")
    with pytest.raises(LeaseEnded):
        session.missing()
    next_session(session)


def test_the_same_commit_at_once_answers_the_same(session: Session) -> None:
    """A client that lost its patience calls again while the first call still runs."""
    root = session.node(b"root")
    session.upload(root)
    header, body = session.run.snapshot(root.id)
    store, lease, device = session.box.store, session.lease.lease, session.machine.device
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(store.commit, lease, device, header, body) for _ in range(4)]
        rows = [call.result(60) for call in calls]
    assert rows == [rows[0]] * 4


def test_a_series_goes_on_from_its_head(session: Session) -> None:
    first = session.backup(b"one")
    second = next_session(session).backup(b"two", previous=first.header)
    third = next_session(session).backup(b"three", previous=second.header)
    assert [row.counter for row in (first, second, third)] == [1, 2, 3]
    assert set(listed(session.box, session.machine.owner)) == {
        first.snapshot,
        second.snapshot,
        third.snapshot,
    }


def test_a_commit_beside_the_head_is_refused(session: Session) -> None:
    first = session.backup(b"one")
    second = next_session(session)
    with pytest.raises(HeadMoved):
        second.backup(b"two")
    with pytest.raises(HeadMoved):
        second.backup(b"two", previous=dataclasses.replace(first.header, number=2))
    other_series = session.box.session(session.machine)
    with pytest.raises(HeadMoved):
        other_series.backup(b"two", previous=first.header)
    row = second.backup(b"two", previous=first.header)
    assert row.counter == 2


def test_a_commit_after_a_trashed_head_follows_it_all_the_same(session: Session) -> None:
    owner = session.machine.owner
    first = session.backup(b"one")
    session.box.store.forget(owner.account, owner.order(first.snapshot.raw, 1, forgotten=True))
    row = next_session(session).backup(b"two", previous=first.header)
    assert row.counter == 2


def test_a_commit_needs_its_root(session: Session) -> None:
    root = session.node(b"root")
    with pytest.raises(ReferencesMissing) as refused:
        session.commit(root)
    assert refused.value.missing == (root.id,)
    session.upload(root)
    session.commit(root)


def test_a_data_chunk_is_no_root(session: Session) -> None:
    chunk = session.data(b"file")
    session.upload(chunk)
    with pytest.raises(ReferencesMissing):
        session.commit(chunk)


def test_a_commit_under_an_ended_lease_is_refused(session: Session) -> None:
    root = session.node(b"root")
    session.upload(root)
    session.box.forward(601)
    with pytest.raises(LeaseEnded):
        session.commit(root)


def test_nothing_is_stored_by_a_refused_commit(session: Session) -> None:
    with pytest.raises(ReferencesMissing):
        session.commit(session.node(b"root"))
    account = session.machine.owner.account
    folder = session.box.state / "store/accounts" / account.hex / "snapshots"
    assert list(folder.iterdir()) == []


def other_series(body: pb.SnapshotHeaderBody) -> None:
    body.series_id = b"s" * 16


def other_session(body: pb.SnapshotHeaderBody) -> None:
    body.session_id = b"s" * 16


def other_domain(body: pb.SnapshotHeaderBody) -> None:
    body.domain_id = b"d" * 16


def other_device(body: pb.SnapshotHeaderBody) -> None:
    body.device_id = b"d" * 16


def other_body(body: pb.SnapshotHeaderBody) -> None:
    body.sealed_hash = bytes(32)


@pytest.mark.parametrize(
    "spoil", [other_series, other_session, other_domain, other_device, other_body]
)
def test_a_header_that_lies_is_refused(
    session: Session, spoil: Callable[[pb.SnapshotHeaderBody], None]
) -> None:
    root = session.node(b"root")
    session.upload(root)
    header, body = session.run.snapshot(root.id)
    fields = snapshot_format.header_body(header)
    spoil(fields)
    machine = session.machine
    lie = statements.make(StatementKind.SNAPSHOT, machine.owner.account, 1, fields, machine.key)
    with pytest.raises(StatementInvalid):
        session.box.store.commit(session.lease.lease, machine.device, lie, body)


def test_a_header_signed_by_another_key_is_refused(session: Session) -> None:
    root = session.node(b"root")
    session.upload(root)
    header, body = session.run.snapshot(root.id)
    forged = statements.make(
        StatementKind.SNAPSHOT,
        header.account,
        1,
        header.body,
        SigningKey(b"another key".ljust(32)),
    )
    with pytest.raises(StatementInvalid):
        session.box.store.commit(session.lease.lease, session.machine.device, forged, body)


# Looking


def test_snapshots_come_oldest_first_and_in_pages(session: Session) -> None:
    box, owner = session.box, session.machine.owner
    rows = [session.backup(b"0")]
    for number in range(1, 7):
        box.forward(1 if number % 2 else 0)  # some in the same second
        rows.append(next_session(session).backup(b"%d" % number, previous=rows[-1].header))
    everything = box.store.snapshots(owner.account, trashed=True, after="", limit=1000)
    assert {row.snapshot for row in everything} == {row.snapshot for row in rows}
    order = [(row.received, row.snapshot.raw) for row in everything]
    assert order == sorted(order)
    pages: list[SnapshotRow] = []
    after = ""
    while page := box.store.snapshots(owner.account, trashed=True, after=after, limit=3):
        pages += page
        after = page[-1].snapshot.hex
    assert pages == everything
    assert all(row.sealed_body == b"" for row in everything)


def test_another_accounts_snapshots_are_not_there(box: Box) -> None:
    anna, bert = box.new_session("anna"), box.new_session("bert")
    row = anna.backup(b"secret")
    account = bert.machine.owner.account
    with pytest.raises(SnapshotNotFound):
        box.store.snapshot(account, row.snapshot)
    with pytest.raises(SnapshotNotFound):
        box.store.snapshots(account, trashed=True, after=row.snapshot.hex, limit=10)
    with pytest.raises(SnapshotNotFound):
        box.store.forget(account, bert.machine.owner.order(row.snapshot.raw, 1, forgotten=True))
    assert listed(box, bert.machine.owner) == []


def test_a_listed_snapshot_can_be_given_its_body(session: Session) -> None:
    row = session.backup(b"one")
    store = session.box.store
    (listed_row,) = store.snapshots(row.account, trashed=True, after="", limit=10)
    assert listed_row.sealed_body == b""
    assert store.with_body(listed_row) == row


@pytest.mark.logs_warnings
def test_a_damaged_body_is_not_passed_on(session: Session) -> None:
    row = session.backup(b"one")
    account = session.machine.owner.account
    folder = session.box.state / "store/accounts" / account.hex / "snapshots"
    path = folder / row.snapshot.hex / "body"
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Damaged):
        session.box.store.snapshot(account, row.snapshot)
    assert listed(session.box, session.machine.owner) == [row.snapshot]
    (in_list,) = session.box.store.snapshots(account, trashed=True, after="", limit=10)
    assert session.box.store.with_body(in_list) == in_list
    path.unlink()
    with pytest.raises(Damaged):
        session.box.store.snapshot(account, row.snapshot)


def test_usage_counts_what_there_is(box: Box) -> None:
    session = box.new_session()
    account = session.machine.owner.account
    row = session.backup(b"one", b"two")
    usage = box.store.usage(account)
    packs = sum(path.stat().st_size for path in box.packs())
    assert usage.stored_bytes == packs == box.store.account(account).stored_bytes
    assert (usage.snapshots, usage.chunks) == (1, 3)
    assert usage.last_snapshot == row.received
    device = box.store.device(session.machine.device)
    assert device is not None
    assert device.last_snapshot == row.received
    assert 0 < usage.free_bytes < usage.disk_bytes
    found = os.statvfs(box.state)
    assert usage.disk_bytes == found.f_blocks * found.f_frsize


# The trash


def test_a_forgotten_snapshot_is_in_the_trash_and_comes_back(session: Session) -> None:
    box, owner = session.box, session.machine.owner
    row = session.backup(b"one")
    box.forward(1000)
    gone = box.store.forget(owner.account, owner.order(row.snapshot.raw, 1, forgotten=True))
    assert gone.trashed
    assert gone.purge_time == int(box.clock.now()) + 30 * 24 * 3600
    assert listed(box, owner, trashed=False) == []
    assert listed(box, owner) == [row.snapshot]
    assert box.store.usage(owner.account).snapshots == 0
    box.forward(1000)
    back = box.store.forget(owner.account, owner.order(row.snapshot.raw, 2, forgotten=False))
    assert not back.trashed
    assert back.purge_time is None
    assert listed(box, owner, trashed=False) == [row.snapshot]


@pytest.mark.parametrize("orders", [[True], [True, False], [True, False, True]])
def test_the_trash_survives_reopening_and_rebuilding(session: Session, orders: list[bool]) -> None:
    box, owner = session.box, session.machine.owner
    row = session.backup(b"one")
    for number, forgotten in enumerate(orders, start=1):
        box.forward(1000)
        row = box.store.forget(
            owner.account, owner.order(row.snapshot.raw, number, forgotten=forgotten)
        )
    box.forward(5000)
    for store in (box.reopen(), box.rebuild()):
        assert store.snapshot(owner.account, row.snapshot) == row


def test_the_time_in_an_order_does_not_shorten_the_trash(session: Session) -> None:
    """It is the person's clock; what counts is when the box got it."""
    owner = session.machine.owner
    row = session.backup(b"one")
    body = pb.ForgetBody(snapshot_id=row.snapshot.raw, forgotten=True, ordered=0)
    order = owner.sign(StatementKind.FORGET, 1, body)
    gone = session.box.store.forget(owner.account, order)
    assert gone.purge_time == int(session.box.clock.now()) + 30 * 24 * 3600


def test_orders_are_numbered_and_the_same_one_may_come_twice(session: Session) -> None:
    store, owner = session.box.store, session.machine.owner
    row = session.backup(b"one")
    order = owner.order(row.snapshot.raw, 1, forgotten=True)
    first = store.forget(owner.account, order)
    session.box.forward(100)
    assert store.forget(owner.account, order) == first
    for number in (1, 3):
        with pytest.raises(StatementOutdated):
            store.forget(owner.account, owner.order(row.snapshot.raw, number, forgotten=False))


@pytest.mark.logs_warnings
def test_a_snapshot_with_a_damaged_body_can_be_forgotten(session: Session) -> None:
    owner = session.machine.owner
    row = session.backup(b"one")
    folder = session.box.state / "store/accounts" / owner.account.hex / "snapshots"
    flip(folder / row.snapshot.hex / "body", 50)
    order = owner.order(row.snapshot.raw, 1, forgotten=True)
    forgotten = session.box.store.forget(owner.account, order)
    assert (forgotten.trashed, forgotten.sealed_body) == (True, b"")


def test_a_device_cannot_forget(session: Session) -> None:
    owner = session.machine.owner
    row = session.backup(b"one")
    body = pb.ForgetBody(snapshot_id=row.snapshot.raw, forgotten=True)
    forged = statements.make(StatementKind.FORGET, owner.account, 1, body, session.machine.key)
    with pytest.raises(StatementInvalid):
        session.box.store.forget(owner.account, forged)
    assert listed(session.box, owner, trashed=False) == [row.snapshot]


def test_what_does_not_exist_cannot_be_forgotten(session: Session) -> None:
    owner = session.machine.owner
    unknown = primitives.digest(b"no snapshot")
    with pytest.raises(SnapshotNotFound):
        session.box.store.forget(owner.account, owner.order(unknown, 1, forgotten=True))
    with pytest.raises(StatementInvalid):
        session.box.store.forget(owner.account, owner.first_statements()[0])
