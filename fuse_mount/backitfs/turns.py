"""How requests are waited for: the kernel is asked directly while nobody else needs the thread.

pyfuse3 waits for every single request through trio, with a lock that is handed from task to task:
two rounds of the scheduler and three system calls a request, several times what an answer costs.
Here the task that has answered may take the next request at once, and looks for it itself for a
moment before it goes to trio. Trio has its turn as soon as somebody waits for a fetch, and after
every so many requests. pyfuse3 takes its scheduler from its module's global `trio`, which is how
its own asyncio support exchanges it.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from types import SimpleNamespace

import pyfuse3
import trio

# Nanoseconds for which the next request is looked for awake. Whoever reads file after file asks
# again within that, and to be woken takes longer than to answer: on a virtual machine, where an
# idle core goes back to the host, a walk took 10.8 s without this and 6.4 s with it.
AWAKE_NS = 200_000
# Milliseconds to look for it asleep after that, while nothing else is under way.
MOMENT = 2
# Requests in a row before everybody else has a turn.
BURST = 64

Condition = Callable[[], bool]


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
        if self._waiting:
            self._waiting.unpark()


class Requests:
    """Waits for the kernel's next request.

    `quiet` says that nothing else is under way, `urgent` that a request waits for something that
    only trio can bring on its way.
    """

    def __init__(self, quiet: Condition, urgent: Condition) -> None:
        self._quiet = quiet
        self._urgent = urgent
        self._poller: select.poll | None = None
        self._in_a_row = 0
        # On a single core whoever asks could not run meanwhile.
        self._awake = AWAKE_NS if len(os.sched_getaffinity(0)) > 1 else 0

    async def wait(self, descriptor: int) -> None:
        """As trio.lowlevel.wait_readable."""
        if self._poller is None:
            self._poller = select.poll()
            self._poller.register(descriptor, select.POLLIN)
        self._in_a_row += 1
        if self._in_a_row < BURST and self._is_asked(self._poller):
            return
        self._in_a_row = 0
        await trio.lowlevel.wait_readable(descriptor)

    def _is_asked(self, poller: select.poll) -> bool:
        """Whether the next request is there, or comes within a moment."""
        until = time.monotonic_ns() + self._awake
        while not poller.poll(0):
            if self._urgent():
                return False
            if time.monotonic_ns() >= until:
                return bool(self._quiet() and poller.poll(MOMENT))
            os.sched_yield()
        return True


def install(quiet: Condition, urgent: Condition) -> None:
    """Have pyfuse3 wait for requests like this."""
    requests = Requests(quiet, urgent)
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
