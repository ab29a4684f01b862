"""One upload: numbered messages with records, acknowledged when they survive a power cut.

Three threads: the caller's only hands over, the writer checks and fills packs (`packing`), the
sealer makes them durable and indexes them (`sealing`). What waits is bounded in bytes, so a slow
disk slows the sender.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

from backit.errors import BackitError, Invalid
from backitd.store.packing import Packing
from backitd.store.sealing import Sealer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backit.crypto.primitives import Buffer
    from backitd.store.packing import Filled
    from backitd.store.parts import Parts
    from backitd.store.values import Lease

log = logging.getLogger(__name__)

# How often an upload looks whether its lease still lives, and shows that it does.
TOUCH_SECONDS = 1.0


class Phase(Enum):
    """How far an upload is. It only moves down."""

    RUNNING = 1
    # No more messages; what waits is still stored.
    FINISHING = 2
    # No more messages; what waits is thrown away, what is in open packs is kept.
    ABORTING = 3


class Upload:
    """The upload. One thread may put, flush, finish and abort, another read acknowledgements."""

    def __init__(
        self,
        parts: Parts,
        lease: Lease,
        *,
        touch: Callable[[], object],
        on_doubt: Callable[[], None],
        on_end: Callable[[Upload], None],
    ) -> None:
        """`touch` raises LeaseEnded when the lease has ended, and is a sign of life before.

        `on_doubt` is called when something came back that nodes had missed, `on_end` at the end.
        """
        self._settings = parts.settings
        self._clock = parts.clock
        self._touch = touch
        self._touched = parts.clock.monotonic()
        self._on_end = on_end
        # Guards all below; notified whenever any of it changes.
        self._changed = threading.Condition()
        self._queue: deque[tuple[int, Sequence[Buffer] | None]] = deque()
        self._waiting = 0
        self._sent = 0
        self._acknowledged = 0
        self._phase = Phase.RUNNING
        self._error: BaseException | None = None
        self._ended = False
        self._packing = Packing(parts, lease)
        self._sealer = Sealer(parts, lease, on_sealed=self._sealed, on_doubt=on_doubt)
        self._writer = threading.Thread(target=self._run, name="upload writer", daemon=True)

    def start(self) -> None:
        """Begin; before anything else."""
        self._writer.start()

    def put(self, records: Sequence[Buffer]) -> None:
        """One message, whole records. Waits while too much waits; raises what ended the upload."""
        self._show_life()
        size = sum(len(encoded) for encoded in records)
        with self._changed:
            self._check_running()
            self._sent += 1
            self._queue.append((self._sent, records))
            self._waiting += size
            self._changed.notify_all()
        # Waiting afterwards rather than before: a message larger than the bound gets through, too.
        while True:
            with self._changed:
                self._raise_error()
                if self._waiting <= self._settings.queue_bytes:
                    return
                self._changed.wait(TOUCH_SECONDS)
            self._show_life()

    def flush(self) -> None:
        """Make what has been sent durable now; does not wait for it."""
        with self._changed:
            self._check_running()
            self._queue.append((self._sent, None))
            self._changed.notify_all()

    def finish(self) -> None:
        """Returns when all is durable. Raises what ended the upload before that."""
        self._end(Phase.FINISHING)
        with self._changed:
            self._raise_error()

    def acknowledgements(self) -> Iterator[int]:
        """Numbers of messages, each standing for all before it, until the upload has ended.

        Everything that became durable is acknowledged before what ended the upload is raised.
        """
        seen = 0
        while True:
            with self._changed:
                while self._acknowledged == seen and not self._ended:
                    self._changed.wait()
                if self._acknowledged == seen:
                    self._raise_error()
                    return
                seen = self._acknowledged
            yield seen

    def abort(self) -> None:
        """The sender is gone: end soon, but keep what is whole. Raises nothing."""
        self._end(Phase.ABORTING)

    def _end(self, phase: Phase) -> None:
        with self._changed:
            if self._phase is Phase.RUNNING:
                self._phase = phase
            self._changed.notify_all()
        self._writer.join()

    def _show_life(self) -> None:
        now = self._clock.monotonic()
        if now - self._touched >= TOUCH_SECONDS:
            self._touched = now
            try:
                self._touch()
            except BackitError as error:
                self._fail(error)

    def _check_running(self) -> None:
        self._raise_error()
        if self._phase is not Phase.RUNNING:
            raise Invalid("sending to an upload that has ended")

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            if self._error is None:
                self._error = error
            self._changed.notify_all()

    # The writer's thread

    def _run(self) -> None:
        try:
            self._fill()
            self._pass_on(self._packing.close_all())
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody listens
            self._fail(error)
        finally:
            self._sealer.finish()
            # After an error these are not whole, or not wanted; otherwise nothing is open any more.
            self._packing.discard()
            if self._sealer.error is not None:
                self._fail(self._sealer.error)
            with self._changed:
                self._ended = True
                self._queue.clear()
                self._changed.notify_all()
            self._on_end(self)

    def _fill(self) -> None:
        """Until there is nothing more to come."""
        while True:
            with self._changed:
                if not self._queue and self._phase is Phase.RUNNING and self._error is None:
                    self._changed.wait(self._packing.seconds_left())
                self._raise_error()
                if self._phase is Phase.ABORTING or (
                    self._phase is Phase.FINISHING and not self._queue
                ):
                    return
                item = self._queue.popleft() if self._queue else None
            self._pass_on(self._step(item))

    def _step(self, item: tuple[int, Sequence[Buffer] | None] | None) -> list[Filled]:
        if item is None:
            return self._packing.close_due()
        message, records = item
        if records is None:
            return self._packing.close_all()
        filled = self._packing.add(message, records)
        with self._changed:
            self._waiting -= sum(len(encoded) for encoded in records)
            self._changed.notify_all()
        return filled or self._packing.close_due()

    def _pass_on(self, filled: Sequence[Filled]) -> None:
        for at, one in enumerate(filled):
            try:
                self._sealer.put(one)
            except BaseException:
                for rest in filled[at + 1 :]:
                    rest.discard()
                raise

    # The sealer's thread

    def _sealed(self, filled: Filled) -> None:
        if filled.pack is not None:
            self._packing.forget(filled.pack)
        with self._changed:
            self._acknowledged = max(self._acknowledged, filled.covered)
            self._changed.notify_all()
