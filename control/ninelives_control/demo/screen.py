"""Show what happens: a live table on a terminal, lines anywhere else."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ninelives_control.demo.sampler import Row

_COLORS = {"closed": "green", "half_open": "yellow", "open": "red"}
_REMEMBERED = 10
_LINES_EVERY = 4
"""Updates between two printings of the table where it can not be redrawn."""


class Screen(Protocol):
    """Where the demo is shown."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """End."""

    def tell(self, seconds: float, text: str) -> None:
        """Say what happens, and when."""

    def update(self, rows: Sequence[Row], faults: str) -> None:
        """Show the state."""


class LiveScreen:
    """A table that is redrawn in place, above the last things that happened."""

    def __init__(self, console: Console, header: str) -> None:
        """Draw on a terminal."""
        self._header = header
        self._told: deque[str] = deque(maxlen=_REMEMBERED)
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last picture."""
        self._live.__exit__(None, None, None)

    def tell(self, seconds: float, text: str) -> None:
        """Say what happens, and when."""
        self._told.append(f"{seconds:6.1f} s  {text}")

    def update(self, rows: Sequence[Row], faults: str) -> None:
        """Show the state."""
        table = Table(title=faults, title_justify="left", title_style="bold")
        for name in ("stack", "state", "calls/s", "success", "refusals/s", "p50 ms", "p99 ms"):
            table.add_column(name, justify="left" if name in {"stack", "state"} else "right")
        for row in rows:
            stack, state, *numbers = cells(row)
            table.add_row(stack, Text(state, style=_COLORS.get(state, "")), *numbers)
        told = Text("\n".join(self._told))
        self._live.update(Group(Text(self._header), table, told), refresh=True)


class LineScreen:
    """Lines, for a file or a pipe."""

    def __init__(self, console: Console, header: str) -> None:
        """Print to a stream that is no terminal."""
        self._console = console
        self._header = header
        self._updates = 0

    def __enter__(self) -> Self:
        """Print the header."""
        self._print(self._header)
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: all is printed."""

    def tell(self, seconds: float, text: str) -> None:
        """Say what happens, and when."""
        self._print(f"{seconds:6.1f} s  {text}")

    def update(self, rows: Sequence[Row], faults: str) -> None:
        """Print the state, now and then."""
        self._updates += 1
        if self._updates % _LINES_EVERY:
            return
        self._print(f"          {faults}")
        for row in rows:
            stack, state, calls, success, refusals, p50, p99 = cells(row)
            self._print(
                f"          {stack:15}{state:10}{calls:>6}/s {success:>5} ok "
                f"{refusals:>6} refused/s  p50 {p50:>6} ms  p99 {p99:>6} ms"
            )

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as texts."""
    return (
        row.stack,
        row.state,
        f"{row.calls:.0f}",
        "-" if row.success is None else f"{row.success:.0%}",
        f"{row.refusals:.0f}",
        _milliseconds(row.p50),
        _milliseconds(row.p99),
    )


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f}"
