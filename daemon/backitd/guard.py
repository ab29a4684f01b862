"""Between gRPC and every method: who calls, may they, what do errors become.

Nothing passes around it.

gRPC's own way has two holes, which is why messages come through here undecoded. It answers bytes
that do not decode with INTERNAL; and it lets a thread wait without end for a request that a client
announced and never sends. So every method takes a stream of raw messages (on the wire that is the
same), decodes them here, in the thread that serves the call, and `Patience` ends calls whose
message does not come.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from backit.errors import Invalid, LoginNeeded
from backitd import status
from backitd.auth.buckets import address_key
from backitd.auth.principals import set_caller
from backitd.auth.rights import RULES, Pool, Right

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from concurrent.futures import ThreadPoolExecutor

    from backitd.auth.buckets import Buckets
    from backitd.auth.principals import Caller
    from backitd.auth.rights import Rule
    from backitd.auth.tokens import Tokens
    from backitd.lanes import Lanes
    from backitd.store import Clock

    # Of any message type: the guard hands on what the method's own decoder makes.
    Handler = grpc.RpcMethodHandler[Any, Any]

log = logging.getLogger(__name__)

SCHEME = "bearer"


class Patience:
    """Cancels calls that have made a thread wait for a message for `seconds`."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[float, grpc.ServicerContext]] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="patience")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    @contextmanager
    def waiting(self, context: grpc.ServicerContext) -> Generator[None]:
        """While this lasts, the call waits for its client."""
        with self._lock:
            self._waiting[id(context)] = (self._clock.monotonic() + self._seconds, context)
        try:
            yield
        finally:
            with self._lock:
                del self._waiting[id(context)]

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds / 4):
            now = self._clock.monotonic()
            with self._lock:
                late = [context for ends, context in self._waiting.values() if ends <= now]
            for context in late:
                context.cancel()


@dataclass(frozen=True)
class _Guarded:
    """A method as gRPC calls it; gRPC looks for `experimental_thread_pool` and uses that."""

    call: Callable[[Iterator[bytes], grpc.ServicerContext], Any]
    experimental_thread_pool: ThreadPoolExecutor

    def __call__(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Any:
        return self.call(requests, context)


class Guard(grpc.ServerInterceptor):
    """Guards the methods of one server. Admin methods exist only where `admin` says so."""

    def __init__(
        self,
        *,
        tokens: Tokens,
        addresses: Buckets,
        pools: Mapping[Pool, ThreadPoolExecutor],
        streams: Lanes,
        patience: Patience,
        admin: bool = False,
    ) -> None:
        self._tokens = tokens
        self._addresses = addresses
        self._pools = pools
        self._streams = streams
        self._patience = patience
        self._admin = admin

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """None, which gRPC answers with UNIMPLEMENTED, for what the table does not know."""
        method = handler_call_details.method
        rule = RULES.get(method)
        handler = continuation(handler_call_details)
        if handler is None or rule is None or (rule.right is Right.ADMIN and not self._admin):
            return None
        pool = self._pool(rule, handler_call_details)
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                _Guarded(self._streaming(method, rule, handler), pool),
                response_serializer=handler.response_serializer,
            )
        return grpc.stream_unary_rpc_method_handler(
            _Guarded(self._single(method, rule, handler), pool),
            response_serializer=handler.response_serializer,
        )

    def _pool(self, rule: Rule, details: grpc.HandlerCallDetails) -> ThreadPoolExecutor:
        """Whose threads the call gets. A stream keeps its thread, so an account has so many only.

        Who cannot be logged in shares a lane with all of that kind, until they are told.
        """
        if rule.pool is not Pool.STREAM or rule.right is Right.ADMIN:
            return self._pools[rule.pool]
        try:
            account = self._tokens.caller(_token(details.invocation_metadata)).account.raw
        except LoginNeeded:
            account = b""
        return self._streams.lane(account)

    def _single(
        self, method: str, rule: Rule, handler: Handler
    ) -> Callable[[Iterator[bytes], grpc.ServicerContext], Any]:
        behaviour = handler.unary_unary
        if behaviour is None:
            raise NotImplementedError(f"{method} is of a kind that the guard does not know")

        def call(requests: Iterator[bytes], context: grpc.ServicerContext) -> Any:
            with self._serving(method, rule, context):
                return behaviour(self._only(handler, requests, context), context)

        return call

    def _streaming(
        self, method: str, rule: Rule, handler: Handler
    ) -> Callable[[Iterator[bytes], grpc.ServicerContext], Any]:
        from_one, from_many = handler.unary_stream, handler.stream_stream

        def call(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
            with self._serving(method, rule, context):
                if from_one is not None:
                    yield from from_one(self._only(handler, requests, context), context)
                elif from_many is not None:
                    yield from from_many(self._all(handler, requests, context), context)

        return call

    @contextmanager
    def _serving(self, method: str, rule: Rule, context: grpc.ServicerContext) -> Generator[None]:
        try:
            caller = self._admit(rule, context)
            set_caller(caller)
            log.debug("%s by %s", method, caller.principal.name if caller else "anybody")
            yield
        except grpc.RpcError:
            raise  # the client has gone; gRPC knows
        except Exception as error:  # noqa: BLE001 - the caller gets a status whatever it is
            status.abort(context, method, error)

    def _admit(self, rule: Rule, context: grpc.ServicerContext) -> Caller | None:
        """Who calls. Raises Throttled, LoginNeeded, NotTheOwner or NotADevice."""
        if rule.limited:
            self._addresses.take(address_key(context.peer()))
        if rule.right in (Right.ANYONE, Right.ADMIN):
            return None
        caller = self._tokens.caller(_token(context.invocation_metadata()))
        if rule.right is Right.PERSON:
            caller.as_person()
        elif rule.right is Right.DEVICE:
            caller.as_device()
        return caller

    def _only(
        self, handler: Handler, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Any:
        with self._patience.waiting(context):
            raw = next(requests, None)
        if raw is None:
            raise Invalid("the call brought no request")
        return _decode(handler, raw)

    def _all(
        self, handler: Handler, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[Any]:
        """Patient with the first message only: later ones come when there is something to say."""
        yield self._only(handler, requests, context)
        for raw in requests:
            yield _decode(handler, raw)


def _decode(handler: Handler, raw: bytes) -> Any:
    if handler.request_deserializer is None:
        return raw
    try:
        return handler.request_deserializer(raw)
    except DecodeError:
        raise Invalid("the request does not decode") from None


def _token(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    for key, value in metadata:
        if key == "authorization":
            text = value if isinstance(value, str) else value.decode("ascii", errors="replace")
            scheme, _, token = text.partition(" ")
            if scheme.lower() == SCHEME and token:
                return token
    raise LoginNeeded("the call needs a login")
