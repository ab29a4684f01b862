"""How far a long command is: a bar on a terminal, plain lines elsewhere, JSON lines for programs.

It looks at counters that others change; nobody has to call it. What it shows goes through `output`.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from backitctl.output import Output

REFRESH_SECONDS = 0.2
EVENT_SECONDS = 1.0
LINE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Standing:
    """One look at the counters: for programs, and for people."""

    document: dict[str, Any]
    line: str


class ProgressView:
    """Shows where something stands for as long as it is entered."""

    def __init__(self, output: Output, look: Callable[[], Standing]) -> None:
        self._output = output
        self._look = look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        if self._output.as_json:
            self._repeat(EVENT_SECONDS, self._event)
        elif sys.stderr.isatty():
            self._draw()
        else:
            self._repeat(LINE_SECONDS, lambda: self._output.note(self._look().line))

    def _repeat(self, seconds: float, show: Callable[[], None]) -> None:
        while not self._ended.wait(seconds):
            show()

    def _event(self) -> None:
        self._output.event({"event": "progress"} | self._look().document)

    def _draw(self) -> None:
        # Costs a tenth of a second, which nobody without a terminal should pay.
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        spinner, console = Spinner("line"), Console(stderr=True, highlight=False)
        with Live(spinner, console=console, transient=True, auto_refresh=False) as live:
            while not self._ended.wait(REFRESH_SECONDS):
                text = Text(self._look().line, no_wrap=True, overflow="ellipsis")
                spinner.update(text=text)
                live.refresh()
