"""The daemon as one object: store, callers, services and ports; start and graceful stop.

One endpoint for everybody, on every address of `listen`; one for the administrator on a socket of
its own, with reflection. Here things are put together; nothing is decided.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from backit.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    appliance_pb2,
    appliance_pb2_grpc,
    chunks_pb2,
    devices_pb2,
    devices_pb2_grpc,
    snapshots_pb2,
    snapshots_pb2_grpc,
)
from backitd import listen
from backitd.auth.buckets import Buckets
from backitd.auth.challenges import Challenges
from backitd.auth.enrolments import Enrolments
from backitd.auth.invites import Invites
from backitd.auth.login import Decoy, Logins
from backitd.auth.signup import Signup
from backitd.auth.tokens import Tokens
from backitd.endpoint import SERVING, Endpoint
from backitd.folder import SmallFiles
from backitd.guard import Patience
from backitd.listen import UnixAddress
from backitd.services import chunks
from backitd.services.accounts import AccountService
from backitd.services.admin import AdminService
from backitd.services.appliance import About, ApplianceService
from backitd.services.chunks import ChunkService
from backitd.services.devices import DeviceService
from backitd.services.snapshots import SnapshotService
from backitd.store import Store
from backitd.tls import Certificates

if TYPE_CHECKING:
    from backitd.config import Config
    from backitd.store.values import Clock, Random

SERVICES = (
    accounts_pb2.DESCRIPTOR.services_by_name["AccountService"].full_name,
    devices_pb2.DESCRIPTOR.services_by_name["DeviceService"].full_name,
    chunks_pb2.DESCRIPTOR.services_by_name["ChunkService"].full_name,
    snapshots_pb2.DESCRIPTOR.services_by_name["SnapshotService"].full_name,
    appliance_pb2.DESCRIPTOR.services_by_name["ApplianceService"].full_name,
)
ADMIN_SERVICE = appliance_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name
HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
ADMIN_SOCKET = "admin.sock"
ADMIN_MODE = 0o600
HEALTH_SECONDS = 5


class Daemon:
    """Everything that runs on one state folder. Raises Unavailable if it is in use."""

    def __init__(self, state: Path, config: Config, *, clock: Clock, random: Random) -> None:
        self._config = config
        self._listen = [listen.parse(text) for text in config.listen]
        self._admin_socket = _admin_socket(state, config)
        self._store = Store.open(state, clock=clock, random=random, settings=config.store)
        try:
            self._certificates = Certificates(SmallFiles(state / "tls", clock), clock)
            self._tokens = Tokens(seconds=config.login.token_seconds, clock=clock, random=random)
            self._patience = Patience(config.limits.request_seconds, clock)
            self._public = self._endpoint(clock, admin=False)
            self._admin = self._endpoint(clock, admin=True)
            self._add_services(state, clock, random)
        except BaseException:
            self._store.close()
            raise

    def start(self) -> list[str]:
        """Listen and serve. Returns the addresses, with ports that were free to choose filled in.

        Raises Conflict if an address cannot be had. After an error, stop().
        """
        self._patience.start()
        mode = int(self._config.socket_mode, 8)
        credentials = self._certificates.credentials()
        self._admin.listen_unix(self._admin_socket, ADMIN_MODE)
        addresses = [
            self._public.listen_unix(address, mode)
            if isinstance(address, UnixAddress)
            else self._public.listen_tcp(address, credentials)
            for address in self._listen
        ]
        self._public.start(SERVICES)
        self._admin.start((ADMIN_SERVICE,))
        return addresses

    def invites_first(self) -> str:
        """The socket on which the administrator gets the first person's invite; empty if that is
        not what the box waits for.
        """
        waits = not self._config.open_signup and not self._store.has_accounts()
        return str(self._admin_socket.path) if waits else ""

    def stop(self) -> None:
        """No new calls; those that run get a while; then the store is closed."""
        seconds = self._config.limits.stop_seconds
        self._public.stop(seconds)
        self._admin.stop(min(1.0, seconds))
        self._patience.stop()
        self._store.close()

    def healthy(self) -> bool:
        """Whether a call on the admin socket is answered, as a client sees it."""
        with grpc.insecure_channel(str(self._admin_socket)) as channel:
            check = channel.unary_unary(
                f"/{HEALTH_SERVICE}/Check",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )
            try:
                answer = check(health_pb2.HealthCheckRequest(), timeout=HEALTH_SECONDS)
            except grpc.RpcError:
                return False
        return answer.status == SERVING

    def _endpoint(self, clock: Clock, *, admin: bool) -> Endpoint:
        login = self._config.login
        addresses = Buckets(burst=login.address_burst, rate=login.address_per_second, clock=clock)
        return Endpoint(
            self._config.limits,
            tokens=self._tokens,
            addresses=addresses,
            patience=self._patience,
            admin=admin,
        )

    def _logins(self, state: Path, clock: Clock, random: Random) -> Logins:
        settings = self._config.login
        secret = SmallFiles(state / "keys", clock).lasting_secret("login.key", random)
        return Logins(
            self._store,
            challenges=Challenges(seconds=settings.challenge_seconds, clock=clock, random=random),
            tokens=self._tokens,
            names=Buckets(burst=settings.name_burst, rate=settings.name_per_second, clock=clock),
            decoy=Decoy(secret),
            ca_fingerprint=self._certificates.authority.fingerprint,
        )

    def _add_services(self, state: Path, clock: Clock, random: Random) -> None:
        store, server = self._store, self._public.server
        invites = Invites(SmallFiles(state / "invites", clock), clock=clock, random=random)
        signup = Signup(store, invites, is_open=self._config.open_signup)
        logins = self._logins(state, clock, random)
        enrolments = Enrolments(clock=clock, random=random)
        about = About(
            ca_certificate=self._certificates.authority.certificate_pem.decode(),
            version=metadata.version("backit"),
            open_signup=signup.is_open,
        )
        accounts_pb2_grpc.add_AccountServiceServicer_to_server(
            AccountService(store, logins=logins, tokens=self._tokens, signup=signup), server
        )
        devices_pb2_grpc.add_DeviceServiceServicer_to_server(
            DeviceService(store, enrolments=enrolments, logins=logins), server
        )
        chunks.add_to(server, ChunkService(store))
        snapshots_pb2_grpc.add_SnapshotServiceServicer_to_server(SnapshotService(store), server)
        appliance_pb2_grpc.add_ApplianceServiceServicer_to_server(
            ApplianceService(store, about=about, clock=clock), server
        )
        admin = self._admin.server
        appliance_pb2_grpc.add_AdminServiceServicer_to_server(AdminService(invites), admin)
        reflection.enable_server_reflection(
            (ADMIN_SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME), admin
        )


def _admin_socket(state: Path, config: Config) -> UnixAddress:
    return UnixAddress(Path(config.admin_socket) if config.admin_socket else state / ADMIN_SOCKET)
