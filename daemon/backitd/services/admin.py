"""AdminService: what the administrator may do. Served on the admin socket alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backit.v1 import appliance_pb2 as pb
from backit.v1 import appliance_pb2_grpc
from backitd.auth.invites import DEFAULT_LIFETIME
from backitd.services import render

if TYPE_CHECKING:
    import grpc

    from backitd.auth.invites import Invites


class AdminService(appliance_pb2_grpc.AdminServiceServicer):
    def __init__(self, invites: Invites) -> None:
        self._invites = invites

    def CreateInvite(
        self, request: pb.CreateInviteRequest, context: grpc.ServicerContext
    ) -> pb.Invite:
        given = request.HasField("lifetime")
        lifetime = request.lifetime.ToMilliseconds() / 1000 if given else DEFAULT_LIFETIME
        code, expires = self._invites.create(lifetime)
        return pb.Invite(code=code, expire_time=render.moment(expires))
