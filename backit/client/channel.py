"""The gRPC channel to an appliance: sizes, keepalive, what is repeated, and whom it trusts to be at
the other end.

Who logs in over it and what errors mean is remote.py's business.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

import grpc

from backit.client import tls
from backit.format.magic import KIB, MESSAGE_LIMIT, MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from backit.client.profile import Address

# Calls that mean the same when they arrive twice.
REPEATABLE = {
    "AccountService": ("CreateAccount", "CreateChallenge", "GetAccount", "ListStatements"),
    "ApplianceService": ("GetAppliance", "GetStatus"),
    "ChunkService": ("FindMissing", "FindLost", "GetSessions"),
    "DeviceService": ("GetEnrolment", "ListEnrolments", "ListDevices"),
    "SnapshotService": ("RenewLease", "CommitSnapshot", "ListSnapshots", "GetSnapshot"),
}
PINNED_PEER = [("grpc.ssl_target_name_override", tls.SERVER_NAME)]


def channel_options() -> list[tuple[str, Any]]:
    """Big frames and reads (measured: twice the speed over TCP), keepalive, and repetition."""
    policy = {
        "maxAttempts": 4,
        "initialBackoff": "0.2s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    names = [
        {"service": f"backit.v1.{service}", "method": method}
        for service, methods in REPEATABLE.items()
        for method in methods
    ]
    return [
        ("grpc.max_receive_message_length", MESSAGE_LIMIT + 64 * KIB),
        ("grpc.max_send_message_length", MESSAGE_LIMIT + 64 * KIB),
        ("grpc.http2.max_frame_size", 4 * MIB),
        ("grpc.experimental.tcp_read_chunk_size", MIB),
        # A download's answers are taken by the thread that asks for them: to wake one more for each
        # took 6 % of the time of random reads. grpc.experimental.ChannelOptions has the name, and
        # takes 7 ms to import.
        ("SingleThreadedUnaryStream", 1),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # The box is on this network: a proxy would only see what it should not.
        ("grpc.enable_http_proxy", 0),
        (
            "grpc.service_config",
            json.dumps({"methodConfig": [{"name": names, "retryPolicy": policy}]}),
        ),
    ]


def _by_name(kind: str) -> Callable[..., Any]:
    def call(
        self: ByName,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool = False,  # noqa: FBT001, FBT002 - gRPC's signature
    ) -> Any:
        make = getattr(self.channel, kind)
        return make(method, request_serializer, response_deserializer)

    return call


class ByName(grpc.Channel):
    """A channel whose calls are looked up by name when they are made.

    Generated stubs register their methods, behind an interceptor anew with every call. In gRPC
    1.85 that is not safe between threads, and on a channel that another thread has closed it reads
    through a null pointer; a call by name says that the channel is closed.
    """

    unary_unary = _by_name("unary_unary")
    unary_stream = _by_name("unary_stream")
    stream_unary = _by_name("stream_unary")
    stream_stream = _by_name("stream_stream")

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def subscribe(self, callback: Any, try_to_connect: Any = False) -> None:  # noqa: FBT002
        self.channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        self.channel.unsubscribe(callback)

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def open_channel(address: Address, root_certificate: str) -> grpc.Channel:
    """A channel that only whoever `root_certificate` (PEM) vouches for can end; plain on a unix
    socket.
    """
    if address.is_local:
        options = [*channel_options(), ("grpc.default_authority", "localhost")]
        return ByName(grpc.insecure_channel(address.target, options=options))
    credentials = grpc.ssl_channel_credentials(root_certificates=root_certificate.encode())
    options = [*channel_options(), *PINNED_PEER]
    return ByName(grpc.secure_channel(address.target, credentials, options=options))
