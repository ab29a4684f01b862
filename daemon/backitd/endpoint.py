"""One gRPC server as we set it up: limits, pools of threads, guard, health, ports.

Knows none of our services.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from backit.errors import Conflict
from backit.format.magic import KIB, MESSAGE_LIMIT, MIB
from backitd import listen
from backitd.auth.rights import Pool
from backitd.guard import Guard
from backitd.lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backitd.auth.buckets import Buckets
    from backitd.auth.tokens import Tokens
    from backitd.config import LimitSettings
    from backitd.guard import Patience
    from backitd.listen import TcpAddress, UnixAddress

# Calls that may wait for a thread, beside those that have one.
WAITING_CALLS = 256
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Endpoint:
    """A server for everybody, or (`admin`) for the administrator."""

    def __init__(
        self,
        limits: LimitSettings,
        *,
        tokens: Tokens,
        addresses: Buckets,
        patience: Patience,
        admin: bool = False,
    ) -> None:
        threads = _threads(limits)
        self._pools = {
            pool: ThreadPoolExecutor(count, thread_name_prefix=pool.name.lower())
            for pool, count in threads.items()
        }
        guard = Guard(
            tokens=tokens,
            addresses=addresses,
            pools=self._pools,
            streams=Lanes(self._pools[Pool.STREAM], max(1, limits.streams_per_account)),
            patience=patience,
            admin=admin,
        )
        self.server = grpc.server(
            self._pools[Pool.CONTROL],
            interceptors=[guard],
            options=_options(limits),
            maximum_concurrent_rpcs=sum(threads.values()) + WAITING_CALLS,
        )
        self._health = health.HealthServicer()
        self._health.set(health.OVERALL_HEALTH, NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)

    def listen_unix(self, address: UnixAddress, mode: int) -> str:
        """Raises Conflict. Returns the address."""
        listen.make_way(address)
        try:
            self.server.add_insecure_port(f"unix:{address.path}")
        except RuntimeError:
            raise Conflict(f"{address}: cannot make a socket there") from None
        address.path.chmod(mode)  # before start(), so nobody is served who may not open it
        return str(address)

    def listen_tcp(self, address: TcpAddress, credentials: grpc.ServerCredentials) -> str:
        """Raises Conflict. Returns the address with the port that it got."""
        try:
            port = self.server.add_secure_port(f"{address.host}:{address.port}", credentials)
        except RuntimeError:
            raise Conflict(f"{address}: the port is taken, or is none of this machine's") from None
        return f"tcp:{address.host}:{port}"

    def start(self, services: Iterable[str]) -> None:
        """Serve, and say so for each of `services`."""
        self.server.start()
        for name in (health.OVERALL_HEALTH, *services):
            self._health.set(name, SERVING)

    def stop(self, seconds: float) -> None:
        """No new calls; those that run get this long. Returns when the last thread is back."""
        self._health.enter_graceful_shutdown()
        self.server.stop(seconds).wait()
        for pool in self._pools.values():
            pool.shutdown()


def _threads(limits: LimitSettings) -> dict[Pool, int]:
    return {
        Pool.STRANGERS: limits.strangers,
        Pool.CONTROL: limits.control,
        Pool.LOOKUP: limits.lookups,
        Pool.STREAM: limits.streams,
    }


def _options(limits: LimitSettings) -> list[tuple[str, int]]:
    """What gRPC itself is told; its keys are documented in grpc_types.h."""
    return [
        # The limit is on what a message carries; the rest is for what it is wrapped in.
        ("grpc.max_receive_message_length", MESSAGE_LIMIT + 64 * KIB),
        ("grpc.max_send_message_length", MESSAGE_LIMIT + 64 * KIB),
        ("grpc.max_concurrent_streams", limits.streams_per_connection),
        ("grpc.max_allowed_incoming_connections", limits.connections),
        # Twice the throughput on TCP.
        ("grpc.http2.max_frame_size", 4 * MIB),
        ("grpc.experimental.tcp_read_chunk_size", MIB),
        # A client that vanished is noticed within 80 s; one may ping every 30 s without being sent
        # away.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
        # Else a second daemon could share our port, and the kernel would deal clients out to both.
        ("grpc.so_reuseport", 0),
    ]
