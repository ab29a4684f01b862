"""Promises of ApplianceService, AdminService and the health service."""

import hashlib
import ssl

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2

from backit.v1 import appliance_pb2 as pb
from tests.backitd import daemons
from tests.backitd.clients import Client, code, reason
from tests.backitd.daemons import Box

SERVING = health_pb2.HealthCheckResponse.SERVING


def who(client: Client) -> pb.Appliance:
    return client.appliance.GetAppliance(pb.GetApplianceRequest())


def health(client: Client, service: str = "") -> int:
    check = client.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    return check(health_pb2.HealthCheckRequest(service=service)).status


def test_the_box_says_who_it_is_before_any_login(box: Box) -> None:
    appliance = who(box.client())
    der = ssl.PEM_cert_to_DER_cert(appliance.ca_certificate)
    challenge = box.client().challenge(user="alice")
    assert challenge.ca_fingerprint == hashlib.sha256(der).digest()
    assert (appliance.oldest_api, appliance.newest_api) == (1, 1)
    assert (len(appliance.incarnation_id), len(appliance.receipt_key)) == (16, 32)
    assert appliance.open_signup
    assert appliance.version


def test_the_box_stays_the_same_over_a_restart() -> None:
    with daemons.short_folder() as folder:
        with daemons.box(state=folder / "state") as box:
            before = who(box.client())
        with daemons.box(state=folder / "state") as box:
            assert who(box.client()) == before


def test_a_new_account_sees_nothing_of_others(box: Box) -> None:
    _person, client = box.person()
    box.clock.forward(100)
    status = client.appliance.GetStatus(pb.GetStatusRequest(), metadata=client.metadata)
    assert (status.snapshots, status.chunks, status.stored_bytes) == (0, 0, 0)
    assert not status.HasField("last_snapshot_time")
    assert status.uptime.ToSeconds() == 100


def test_the_box_is_healthy_and_so_are_its_services(box: Box) -> None:
    assert health(box.client()) == SERVING
    assert health(box.client(), "backit.v1.ChunkService") == SERVING
    assert health(box.admin()) == SERVING
    assert box.daemon.healthy()


def test_a_stopped_daemon_is_not_healthy() -> None:
    with daemons.box() as box:
        daemon = box.daemon
    assert not daemon.healthy()


def test_health_of_something_unknown_is_not_found(box: Box) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        health(box.client(), "nonsense")
    assert code(caught.value) is grpc.StatusCode.NOT_FOUND


def test_an_invite_has_the_lifetime_it_was_asked_for(box: Box) -> None:
    admin = box.admin().admin
    week = admin.CreateInvite(pb.CreateInviteRequest())
    hour = admin.CreateInvite(pb.CreateInviteRequest(lifetime=Duration(seconds=3600)))
    assert week.expire_time.seconds == int(box.clock.now()) + 7 * 86_400
    assert hour.expire_time.seconds == int(box.clock.now()) + 3600
    assert week.code != hour.code


@pytest.mark.parametrize("seconds", [0, -5, 91 * 86_400])
def test_an_absurd_lifetime_is_refused(box: Box, seconds: int) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        box.admin().admin.CreateInvite(pb.CreateInviteRequest(lifetime=Duration(seconds=seconds)))
    assert reason(caught.value) == "REQUEST_INVALID"


def test_the_admin_socket_is_for_the_daemons_user_alone(box: Box) -> None:
    assert (box.state / "admin.sock").stat().st_mode & 0o777 == 0o600
