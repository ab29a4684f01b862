"""How requests are waited for: the kernel is asked directly while nobody else needs the thread.

pyfuse3 waits for every single request through trio, with a lock that is handed from task to task:
two rounds of the scheduler and three system calls a request, several times what an answer costs.
Here the task that has answered may take the next request at once, and looks for it itself for a
moment before it goes to trio. Trio has its turn as soon as somebody waits for a fetch, and after
every so many requests. pyfuse3 takes its scheduler from its module's global `trio`, which is how
its own asyncio support exchanges it.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from types import SimpleNamespace

import pyfuse3
import trio

# Milliseconds to look for the next request while nothing else is under way.
MOMENT = 2
# Requests in a row before everybody else has a turn.
BURST = 64

Quiet = Callable[[], bool]


class Turn:
    """A lock that is free once it is let go: who asks first has it, not who has waited longest.

    So a task that has answered a request goes on without a round of the scheduler; those that wait
    look again as soon as it waits for anything.
    """

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        while self._is_taken:
            await self._waiting.park()
        self._is_taken = True

    async def __aexit__(self, *_about: object) -> None:
        self._is_taken = False
        self._waiting.unpark()


class Requests:
    """Waits for the kernel's next request; `quiet` says that no task waits for anything else."""

    def __init__(self, quiet: Quiet) -> None:
        self._quiet = quiet
        self._poller: select.poll | None = None
        self._in_a_row = 0

    async def wait(self, descriptor: int) -> None:
        """As trio.lowlevel.wait_readable."""
        if self._poller is None:
            self._poller = select.poll()
            self._poller.register(descriptor, select.POLLIN)
        self._in_a_row += 1
        if self._in_a_row < BURST and self._poller.poll(MOMENT if self._quiet() else 0):
            return
        self._in_a_row = 0
        await trio.lowlevel.wait_readable(descriptor)


def install(quiet: Quiet) -> None:
    """Have pyfuse3 wait for requests like this."""
    requests = Requests(quiet)
    lowlevel = SimpleNamespace(
        current_task=trio.lowlevel.current_task,
        current_trio_token=trio.lowlevel.current_trio_token,
        notify_closing=trio.lowlevel.notify_closing,
        wait_readable=requests.wait,
    )
    scheduler = SimpleNamespace(
        Lock=Turn,
        ClosedResourceError=trio.ClosedResourceError,
        open_nursery=trio.open_nursery,
        lowlevel=lowlevel,
    )
    setattr(pyfuse3, "trio", scheduler)  # noqa: B010 - the stubs do not know it
