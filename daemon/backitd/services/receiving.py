"""The receiving side of one upload: a thread that hands messages on, and does nothing else.

Two threads serve a stream. The one gRPC calls us in sends acknowledgements as they come; the one
here waits for messages and puts them. The store's own threads do the work, and its `put` blocks
while too much waits, so that the client is slowed down by HTTP/2's window.

Only the receiver ends an upload. However a call ends, waiting for its next message ends too:
quietly if the client has said all it had to say or the call has been answered, with RpcError if it
was cancelled or the connection broke.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc

from backit.errors import Invalid
from backit.format.magic import RECORD_LIMIT
from backit.wire import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backit.crypto.primitives import Buffer
    from backit.wire import UploadMessage
    from backitd.store.uploads import Upload

MOST_RECORDS = 8192


class Receiver:
    """Feeds an upload from the messages behind the first one."""

    def __init__(
        self,
        upload: Upload,
        messages: Iterator[UploadMessage],
        renew_login: Callable[[], object],
    ) -> None:
        self._upload = upload
        self._messages = messages
        self._renew_login = renew_login
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="upload receiver")

    def acknowledgements(self) -> Iterator[int]:
        """Numbers of messages that have become durable, until all have. Raises what went wrong."""
        self._thread.start()
        try:
            yield from self._upload.acknowledgements()
        except Exception:
            # What stopped the receiver comes first: the rest only follows from it.
            if self._failure is None:
                raise
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            for message in self._messages:
                self._renew_login()
                self._put(message)
            self._upload.finish()
        except grpc.RpcError:
            self._upload.abort()  # the client has gone; nobody is left to be told
        except Exception as error:  # noqa: BLE001 - raised again where the call is answered
            self._failure = error
            self._upload.abort()

    def _put(self, message: UploadMessage) -> None:
        if isinstance(message, Records):
            self._put_records(message.records)
            return
        if message.lease:
            raise Invalid("only the first message of an upload names a lease")
        self._put_records(message.records)
        if message.flush:
            self._upload.flush()

    def _put_records(self, records: Sequence[Buffer]) -> None:
        if len(records) > MOST_RECORDS:
            raise Invalid(f"{len(records)} records in one message; {MOST_RECORDS} are allowed")
        for record in records:
            if len(record) > RECORD_LIMIT:
                raise Invalid(f"a record of {len(record)} bytes; {RECORD_LIMIT} are allowed")
        self._upload.put(list(records))
