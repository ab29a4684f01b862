"""Has everything fetched that a window wants, and hands it to those who write: one window, while
the next is planned.

What is fetched, and from where, is the source's business; what becomes of it, the builder's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backit.client.crew import Crew
from backit.errors import BackitError, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from backit.client.build import Builder, Job
    from backit.client.outcome import ChunkSource
    from backit.engine.plan import Window


class Fetcher:
    """A thread of its own, for one that plans. It must be dismissed at the end, before the crew."""

    def __init__(
        self,
        source: ChunkSource,
        builder: Builder,
        crew: Crew,
        stop: Event,
        count: Callable[[int], None],
    ) -> None:
        """`count` hears how many bytes come. Of `crew` are those who write."""
        self._source = source
        self._builder = builder
        self._crew = crew
        self._count = count
        self._thread = Crew(1, 1, stop)

    def fetch(self, window: Window[Job]) -> None:
        """Have a window fetched, which nobody else may use from now on; waits until the one before
        is.

        Raises what has ended the fetching or the writing, and KeyboardInterrupt once `stop` is set.
        """
        self._thread.submit(1, self._fetch, window)

    def drain(self) -> None:
        """Wait until all is fetched and written. Raises as `fetch` does."""
        self._thread.drain()
        self._crew.drain()

    def dismiss(self) -> None:
        """Fetch nothing more."""
        self._thread.dismiss()

    def _fetch(self, window: Window[Job]) -> None:
        for chunk, data in self._source.chunks(window.chunks):
            if self._thread.is_ending:
                return
            pieces = window.take(chunk)
            if pieces:
                size = 0 if isinstance(data, BackitError) else len(data)
                self._count(size)
                self._crew.submit(size, self._builder.write_chunk, chunk, data, pieces)
        for chunk in window.chunks:
            error = NotFound(f"chunk {chunk}: the appliance gave no answer")
            self._builder.write_chunk(chunk, error, window.take(chunk))
