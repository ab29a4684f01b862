"""Promises of SnapshotService over a real connection: leases, commit, lists, trash."""

from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from backit.format import snapshot
from backit.format.statement import Statement
from backit.v1 import appliance_pb2, devices_pb2
from backit.v1 import snapshots_pb2 as pb
from tests.backitd.clients import Client, code, reason
from tests.backitd.daemons import Box
from tests.backitd.people import Machine, Person, Run

KEPT, TRASHED = pb.Snapshot.STATE_KEPT, pb.Snapshot.STATE_TRASHED


@dataclass
class Scene:
    """Somebody with a machine."""

    box: Box
    person: Person
    owner: Client
    machine: Machine
    device: Client

    def back_up(self, run: Run, previous: Statement | None = None) -> tuple[Statement, pb.Snapshot]:
        """A whole backup of one small tree."""
        lease = self.device.lease(run).name
        data, data_record = run.data(self.person.random(1000))
        root, root_record = run.node(self.person.random(100), [data])
        self.device.upload_records(lease, [data_record, root_record])
        header, body = run.snapshot(root, previous)
        return header, self.device.commit(lease, header, body)

    def snapshots(self, **fields: Any) -> pb.ListSnapshotsResponse:
        request = pb.ListSnapshotsRequest(**fields)
        return self.owner.snapshots.ListSnapshots(request, metadata=self.owner.metadata)


@pytest.fixture
def scene(box: Box) -> Scene:
    person, owner = box.person()
    machine, device = box.machine(person, owner)
    return Scene(box, person, owner, machine, device)


def test_a_committed_snapshot_is_listed_and_can_be_opened(scene: Scene) -> None:
    run = scene.machine.run()
    header, committed = scene.back_up(run)
    assert committed.name == snapshot.snapshot_id(header).name
    assert committed.state == KEPT
    assert committed.header == header.encoded
    assert committed.session == run.session_statement.encoded
    (listed,) = scene.snapshots().snapshots
    assert listed == committed
    got = scene.owner.snapshots.GetSnapshot(
        pb.GetSnapshotRequest(name=committed.name), metadata=scene.owner.metadata
    )
    assert got == committed
    assert snapshot.open_body(header, got.sealed_body, run.key).host == "laptop"


def test_the_status_counts_what_was_stored(scene: Scene) -> None:
    scene.back_up(scene.machine.run())
    status = scene.owner.appliance.GetStatus(
        appliance_pb2.GetStatusRequest(), metadata=scene.owner.metadata
    )
    assert (status.snapshots, status.chunks) == (1, 2)
    assert status.stored_bytes > 1000
    assert 0 < status.free_bytes < status.disk_bytes
    assert status.last_snapshot_time.seconds == int(scene.box.clock.now())
    (device,) = scene.owner.devices.ListDevices(
        devices_pb2.ListDevicesRequest(), metadata=scene.owner.metadata
    ).devices
    assert device.last_snapshot_time == status.last_snapshot_time


def test_a_chain_of_backups_each_under_its_own_lease(scene: Scene) -> None:
    first_run = scene.machine.run()
    first, _snapshot = scene.back_up(first_run)
    second_run = scene.machine.run(first_run.series)
    lease = scene.device.lease(second_run)
    assert lease.head.header == first.encoded
    assert lease.head.sealed_body == b""
    assert lease.expire_time.seconds > scene.box.clock.now()


def test_a_lease_names_the_newest_of_every_other_series(scene: Scene) -> None:
    first, _snapshot = scene.back_up(scene.machine.run())
    lease = scene.device.lease(scene.machine.run())
    assert not lease.HasField("head")
    assert list(lease.other_heads) == [first.encoded]


def test_a_second_backup_of_the_same_series_is_refused(scene: Scene) -> None:
    run = scene.machine.run()
    scene.device.lease(run)
    with pytest.raises(grpc.RpcError) as caught:
        scene.device.lease(scene.machine.run(run.series))
    assert (code(caught.value), reason(caught.value)) == (grpc.StatusCode.ABORTED, "SERIES_BUSY")


def test_a_lease_is_renewed_ends_and_can_be_given_back(scene: Scene) -> None:
    run = scene.machine.run()
    lease = scene.device.lease(run)
    scene.box.clock.forward(300)
    renewed = scene.device.snapshots.RenewLease(
        pb.RenewLeaseRequest(name=lease.name), metadata=scene.device.metadata
    )
    assert renewed.expire_time.seconds >= lease.expire_time.seconds + 300
    scene.device.snapshots.DeleteLease(
        pb.DeleteLeaseRequest(name=lease.name), metadata=scene.device.metadata
    )
    with pytest.raises(grpc.RpcError) as caught:
        scene.device.snapshots.RenewLease(
            pb.RenewLeaseRequest(name=lease.name), metadata=scene.device.metadata
        )
    assert reason(caught.value) == "LEASE_ENDED"


def test_another_device_cannot_use_the_lease(scene: Scene) -> None:
    lease = scene.device.lease(scene.machine.run())
    _other, client = scene.box.machine(scene.person, scene.owner)
    with pytest.raises(grpc.RpcError) as caught:
        client.snapshots.RenewLease(pb.RenewLeaseRequest(name=lease.name), metadata=client.metadata)
    assert reason(caught.value) == "LEASE_ENDED"


def test_committing_again_answers_the_same_snapshot(scene: Scene) -> None:
    run = scene.machine.run()
    lease = scene.device.lease(run).name
    root, encoded = run.node(b"root", [])
    scene.device.upload_records(lease, [encoded])
    header, body = run.snapshot(root)
    assert scene.device.commit(lease, header, body) == scene.device.commit(lease, header, body)
    assert len(scene.snapshots().snapshots) == 1


def test_a_snapshot_whose_root_is_not_there_is_refused(scene: Scene) -> None:
    run = scene.machine.run()
    lease = scene.device.lease(run).name
    root, _encoded = run.node(b"root", [])
    with pytest.raises(grpc.RpcError) as caught:
        scene.device.commit(lease, *run.snapshot(root))
    assert reason(caught.value) == "REFERENCES_MISSING"


def test_a_snapshot_that_does_not_follow_the_head_is_refused(scene: Scene) -> None:
    run = scene.machine.run()
    scene.back_up(run)
    with pytest.raises(grpc.RpcError) as caught:
        scene.back_up(scene.machine.run(run.series))
    assert (code(caught.value), reason(caught.value)) == (grpc.StatusCode.ABORTED, "HEAD_MOVED")


def test_a_statement_of_another_kind_is_no_header_and_no_session(scene: Scene) -> None:
    run = scene.machine.run()
    with pytest.raises(grpc.RpcError) as caught:
        scene.device.snapshots.CreateLease(
            pb.CreateLeaseRequest(
                series_id=run.series.raw, session=scene.machine.certificate(1).encoded
            ),
            metadata=scene.device.metadata,
        )
    assert reason(caught.value) == "STATEMENT_INVALID"
    lease = scene.device.lease(run).name
    with pytest.raises(grpc.RpcError) as caught:
        scene.device.commit(lease, run.session_statement, b"body")
    assert reason(caught.value) == "STATEMENT_INVALID"


def test_pages_together_are_the_whole(scene: Scene) -> None:
    committed: list[str] = []
    for _ in range(5):
        committed.append(scene.back_up(scene.machine.run())[1].name)
        scene.box.clock.forward(1)
    token = ""
    found: list[str] = []
    while True:
        page = scene.snapshots(page_size=2, page_token=token)
        assert len(page.snapshots) <= 2
        found += [one.name for one in page.snapshots]
        token = page.next_page_token
        if not token:
            break
    assert found == committed


def test_a_page_of_large_bodies_still_fits_into_a_message(scene: Scene) -> None:
    sources = [scene.person.random(1000) for _ in range(1000)]
    for _ in range(10):
        run = scene.machine.run()
        lease = scene.device.lease(run).name
        root, encoded = run.node(scene.person.random(100), [])
        scene.device.upload_records(lease, [encoded])
        scene.device.commit(lease, *run.snapshot(root, sources=sources))
    page = scene.snapshots()
    assert 1 < len(page.snapshots) < 10
    assert page.next_page_token
    rest = scene.snapshots(page_token=page.next_page_token)
    assert all(len(one.sealed_body) > 1_000_000 for one in rest.snapshots)


@pytest.mark.logs_warnings
def test_one_damaged_body_hides_no_snapshot(scene: Scene) -> None:
    _header, first = scene.back_up(scene.machine.run())
    scene.back_up(scene.machine.run())
    folder = scene.box.state / "store/accounts" / scene.person.account.hex / "snapshots"
    body = folder / first.name.removeprefix("snapshots/") / "body"
    body.chmod(0o600)
    body.write_bytes(body.read_bytes()[:-1] + b"x")
    bodies = {one.name: bool(one.sealed_body) for one in scene.snapshots().snapshots}
    assert len(bodies) == 2
    assert not bodies[first.name]
    with pytest.raises(grpc.RpcError) as caught:
        scene.owner.snapshots.GetSnapshot(
            pb.GetSnapshotRequest(name=first.name), metadata=scene.owner.metadata
        )
    assert (code(caught.value), reason(caught.value)) == (
        grpc.StatusCode.DATA_LOSS,
        "STORE_DAMAGED",
    )


@pytest.mark.parametrize("token", ["zz", "0", "00" * 33])
def test_a_made_up_page_token_is_refused(scene: Scene, token: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        scene.snapshots(page_token=token)
    assert reason(caught.value) == "REQUEST_INVALID"


def test_another_accounts_snapshot_is_not_found(scene: Scene) -> None:
    _header, committed = scene.back_up(scene.machine.run())
    _mallory, client = scene.box.person("mallory")
    with pytest.raises(grpc.RpcError) as caught:
        client.snapshots.GetSnapshot(
            pb.GetSnapshotRequest(name=committed.name), metadata=client.metadata
        )
    assert (code(caught.value), reason(caught.value)) == (
        grpc.StatusCode.NOT_FOUND,
        "SNAPSHOT_NOT_FOUND",
    )


# Trash


def test_into_the_trash_and_out_again_by_the_owners_orders(scene: Scene) -> None:
    header, committed = scene.back_up(scene.machine.run())
    into = scene.person.order(header.digest, 1, forgotten=True)
    out = scene.person.order(header.digest, 2, forgotten=False)
    trashed = scene.owner.snapshots.DeleteSnapshot(
        pb.DeleteSnapshotRequest(order=into.encoded), metadata=scene.owner.metadata
    )
    assert (committed.order, trashed.order) == (b"", into.encoded)
    assert trashed.state == TRASHED
    assert trashed.purge_time.seconds >= scene.box.clock.now() + 30 * 86_400
    assert list(scene.snapshots().snapshots) == []
    assert [one.name for one in scene.snapshots(show_deleted=True).snapshots] == [committed.name]
    back = scene.owner.snapshots.UndeleteSnapshot(
        pb.UndeleteSnapshotRequest(order=out.encoded), metadata=scene.owner.metadata
    )
    assert (back.state, back.order) == (KEPT, out.encoded)
    (listed,) = scene.snapshots().snapshots
    assert listed.order == out.encoded
    assert len(scene.snapshots().snapshots) == 1


def test_an_order_that_says_the_opposite_is_refused(scene: Scene) -> None:
    header, _committed = scene.back_up(scene.machine.run())
    keep = scene.person.order(header.digest, 1, forgotten=False)
    with pytest.raises(grpc.RpcError) as caught:
        scene.owner.snapshots.DeleteSnapshot(
            pb.DeleteSnapshotRequest(order=keep.encoded), metadata=scene.owner.metadata
        )
    assert reason(caught.value) == "STATEMENT_INVALID"


def test_an_order_that_the_owner_did_not_sign_is_refused(scene: Scene) -> None:
    header, _committed = scene.back_up(scene.machine.run())
    stranger = Person("stranger")
    stranger.account = scene.person.account
    forged = stranger.order(header.digest, 1, forgotten=True)
    with pytest.raises(grpc.RpcError) as caught:
        scene.owner.snapshots.DeleteSnapshot(
            pb.DeleteSnapshotRequest(order=forged.encoded), metadata=scene.owner.metadata
        )
    assert reason(caught.value) == "STATEMENT_INVALID"
    assert len(scene.snapshots().snapshots) == 1
