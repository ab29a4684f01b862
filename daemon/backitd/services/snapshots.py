"""SnapshotService: leases, commit, list, trash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backit.errors import StatementInvalid
from backit.format.magic import SNAPSHOT_BODY_LIMIT
from backit.format.statement import StatementKind
from backit.format.v1 import statement_pb2
from backit.ids import LeaseId, SeriesId, SnapshotId
from backit.v1 import snapshots_pb2 as pb
from backit.v1 import snapshots_pb2_grpc
from backitd.auth.principals import current_caller
from backitd.services import parse, render

if TYPE_CHECKING:
    import grpc

    from backitd.store import SnapshotRow, Store


class SnapshotService(snapshots_pb2_grpc.SnapshotServiceServicer):
    def __init__(self, store: Store) -> None:
        self._store = store

    def CreateLease(
        self, request: pb.CreateLeaseRequest, context: grpc.ServicerContext
    ) -> pb.Lease:
        device = current_caller().as_device()
        series = SeriesId(request.series_id)
        session = parse.one_statement(request.session, StatementKind.SESSION, device.account)
        return render.lease(self._store.create_lease(device.device, series, session))

    def RenewLease(self, request: pb.RenewLeaseRequest, context: grpc.ServicerContext) -> pb.Lease:
        device = current_caller().as_device().device
        lease = parse.resource(LeaseId, request.name)
        return render.lease(self._store.renew_lease(lease, device))

    def DeleteLease(
        self, request: pb.DeleteLeaseRequest, context: grpc.ServicerContext
    ) -> pb.DeleteLeaseResponse:
        device = current_caller().as_device().device
        self._store.delete_lease(parse.resource(LeaseId, request.name), device)
        return pb.DeleteLeaseResponse()

    def CommitSnapshot(
        self, request: pb.CommitSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.Snapshot:
        device = current_caller().as_device()
        lease = parse.resource(LeaseId, request.lease)
        header = parse.one_statement(request.header, StatementKind.SNAPSHOT, device.account)
        body = parse.at_most(request.sealed_body, SNAPSHOT_BODY_LIMIT, "sealed body")
        return render.snapshot(self._store.commit(lease, device.device, header, body))

    def ListSnapshots(
        self, request: pb.ListSnapshotsRequest, context: grpc.ServicerContext
    ) -> pb.ListSnapshotsResponse:
        most = parse.page_size(request.page_size)
        rows = self._store.snapshots(
            current_caller().account,
            trashed=request.show_deleted,
            after=request.page_token,
            limit=most + 1,
        )
        # Bodies are read as the page fills, so that a page of large ones stays a page.
        whole = (render.snapshot(self._store.with_body(row)) for row in rows)
        page, more = render.page(whole, pb.Snapshot.ByteSize, most)
        return pb.ListSnapshotsResponse(
            snapshots=page, next_page_token=rows[len(page) - 1].snapshot.hex if more else ""
        )

    def GetSnapshot(
        self, request: pb.GetSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.Snapshot:
        snapshot = parse.resource(SnapshotId, request.name)
        return render.snapshot(self._store.snapshot(current_caller().account, snapshot))

    def DeleteSnapshot(
        self, request: pb.DeleteSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.Snapshot:
        return render.snapshot(self._ordered(request.order, forgotten=True))

    def UndeleteSnapshot(
        self, request: pb.UndeleteSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.Snapshot:
        return render.snapshot(self._ordered(request.order, forgotten=False))

    def _ordered(self, encoded: bytes, *, forgotten: bool) -> SnapshotRow:
        """What the owner's order makes of a snapshot.

        Raises StatementInvalid if it says the opposite.
        """
        account = current_caller().account
        order = parse.one_statement(encoded, StatementKind.FORGET, account)
        if (
            not isinstance(order.body, statement_pb2.ForgetBody)
            or order.body.forgotten != forgotten
        ):
            wanted = "into" if forgotten else "out of"
            raise StatementInvalid(f"the order is not one to put a snapshot {wanted} the trash")
        return self._store.forget(account, order)
