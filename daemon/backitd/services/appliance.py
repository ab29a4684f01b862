"""ApplianceService: who the box is and how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from backit.v1 import appliance_pb2 as pb
from backit.v1 import appliance_pb2_grpc
from backitd.auth.principals import current_caller
from backitd.services import render

if TYPE_CHECKING:
    import grpc

    from backitd.store import Clock, Store

API = 1


@dataclass(frozen=True, slots=True)
class About:
    """What does not change while the daemon runs."""

    ca_certificate: str
    version: str
    open_signup: bool


class ApplianceService(appliance_pb2_grpc.ApplianceServiceServicer):
    def __init__(self, store: Store, *, about: About, clock: Clock) -> None:
        self._store = store
        self._about = about
        self._clock = clock
        self._started = clock.monotonic()

    def GetAppliance(
        self, request: pb.GetApplianceRequest, context: grpc.ServicerContext
    ) -> pb.Appliance:
        return pb.Appliance(
            ca_certificate=self._about.ca_certificate,
            version=self._about.version,
            oldest_api=API,
            newest_api=API,
            incarnation_id=self._store.incarnation.raw,
            open_signup=self._about.open_signup,
            receipt_key=self._store.receipt_key,
        )

    def GetStatus(self, request: pb.GetStatusRequest, context: grpc.ServicerContext) -> pb.Status:
        usage = self._store.usage(current_caller().account)
        uptime = Duration()
        uptime.FromMilliseconds(int((self._clock.monotonic() - self._started) * 1000))
        return pb.Status(
            version=self._about.version,
            uptime=uptime,
            free_bytes=usage.free_bytes,
            disk_bytes=usage.disk_bytes,
            stored_bytes=usage.stored_bytes,
            snapshots=usage.snapshots,
            chunks=usage.chunks,
            quota_bytes=usage.quota_bytes,
            last_snapshot_time=render.maybe_moment(usage.last_snapshot),
        )
