"""Progress lines of slow commands: live in a terminal, one line per finished part elsewhere."""

import threading
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text


class ProgressLines:
    """Shows each part with its state and its seconds; several parts may run at once."""

    def __init__(self, console: Console) -> None:
        """Show the lines on `console`."""
        self._console = console
        self._lock = threading.Lock()
        self._running: dict[str, tuple[float, str]] = {}
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=8, transient=True)

    def __enter__(self) -> "ProgressLines":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def begin(self, part: str) -> None:
        """Start the clock of a part."""
        with self._lock:
            self._running[part] = (time.monotonic(), "")

    def note(self, part: str, text: str) -> None:
        """Say how far the part is."""
        with self._lock:
            self._running[part] = (self._running[part][0], text)

    def done(self, part: str, text: str) -> None:
        """Close the line of a part."""
        self._close(part, text, "[green]✓[/green]")

    def failed(self, part: str) -> None:
        """Close the line of a part that failed; its error is told by whoever catches it."""
        self._close(part, "failed", "[red]✗[/red]")

    def _close(self, part: str, text: str, sign: str) -> None:
        with self._lock:
            seconds = time.monotonic() - self._running.pop(part, (time.monotonic(), ""))[0]
        self._console.print(f"{sign} {part:<26}{seconds:5.1f} s  ", Text(text), end="\n", soft_wrap=True)

    def _render(self) -> Table:
        table = Table.grid(padding=(0, 1))
        with self._lock:
            running = list(self._running.items())
        for part, (since, text) in running:
            table.add_row(Spinner("dots"), f"{part:<25}", f"{time.monotonic() - since:5.1f} s", Text(text, style="dim"))
        return table
