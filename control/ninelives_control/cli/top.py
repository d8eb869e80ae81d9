"""Watch all stacks, those in trouble first."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from ninelives_control.cli.connection import connection_options
from ninelives_control.cli.remote import execute
from ninelives_control.cli.show import Form, form_option, show, show_table
from ninelives_control.commands.traffic import WINDOWS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.table import Table

    from ninelives_control.transports.grpc.connection import Connection

    Ask = Callable[[], Mapping[str, Any]]

_RIGHT = {"calls/s", "success", "backend", "refused", "retries", "p50 ms", "p99 ms"}
_SLICE = 0.1
"""Seconds after which it looks whether the user has had enough."""


@click.command("top")
@click.option("--once", is_flag=True, help="Print once, as lines.")
@click.option("--interval", default=1.0, show_default=True, help="Seconds between two pictures.")
@click.option(
    "--window",
    type=click.Choice([str(window) for window in WINDOWS]),
    default=str(WINDOWS[0]),
    show_default=True,
    help="Seconds to look back.",
)
@click.option("--stack", help="Only this stack.")
@connection_options
@form_option
def cli(
    *,
    once: bool,
    interval: float,
    window: str,
    stack: str | None,
    connection: Connection,
    form: str,
) -> None:
    """Watch all stacks, those in trouble first: circuits that are open, failures, refusals."""
    arguments: dict[str, object] = {"window": int(window), "series": 0, "limit": 1000}
    if stack is not None:
        arguments["stack"] = stack

    def ask() -> Mapping[str, Any]:
        return execute("get_metrics", arguments, connection)

    if form == Form.JSON:
        show(ask(), form)
    elif once or not sys.stdout.isatty():
        lines = rows(ask())
        if lines:
            show_table(lines)
        else:
            click.echo("there are no stacks")
    else:
        _live(ask, max(0.1, interval))


def _live(ask: Ask, interval: float) -> None:
    """Redraw until the user has enough."""
    from rich.live import Live  # noqa: PLC0415 - only where there is a terminal

    enough = False

    def end(*_: object) -> None:
        nonlocal enough
        enough = True

    found = ask()
    # Raised in the midst of gRPC, KeyboardInterrupt may be lost there, or leave a lock behind.
    before = signal.signal(signal.SIGINT, end)
    try:
        with Live(_table(found), auto_refresh=False, screen=True) as live:
            while not enough:
                live.update(_table(found), refresh=True)
                redrawn = time.monotonic()
                while not enough and time.monotonic() < redrawn + interval:
                    time.sleep(min(_SLICE, interval))
                if not enough:
                    found = ask()
    finally:
        signal.signal(signal.SIGINT, before)


def _table(metrics: Mapping[str, Any]) -> Table:
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415

    lines = rows(metrics)
    title = f"{metrics['time']}, the last {metrics['window']:.0f} s"
    table = Table(title=title, title_justify="left")
    for name in lines[0] if lines else ("stack",):
        table.add_column(name, justify="right" if name in _RIGHT else "left")
    for line in lines:
        trouble = "red" if "open" in str(line["state"]).split() else ""
        table.add_row(*(Text(str(cell), style=trouble) for cell in line.values()))
    return table


def rows(metrics: Mapping[str, Any]) -> list[dict[str, object]]:
    """Return a row for each stack, those in trouble first."""
    stacks: Sequence[Mapping[str, Any]] = metrics["stacks"]
    return [_row(stack) for stack in sorted(stacks, key=_trouble)]


def _trouble(stack: Mapping[str, Any]) -> tuple[float, ...]:
    """Rank by circuits that are open, then by the share of calls that end badly, then by load."""
    states = [circuit["state"] for circuit in _circuits(stack)]
    traffic = stack["traffic"]
    bad = sum(states.count(state) for state in ("open", "half_open"))
    return -bad, -float(traffic["error_rate"]), -float(traffic["calls_per_second"])


def _row(stack: Mapping[str, Any]) -> dict[str, object]:
    traffic, policies = stack["traffic"], stack["policies"]
    circuits = _circuits(stack)
    states = sorted({str(circuit["state"]).replace("_", "-") for circuit in circuits})
    used = [policy["used"] for policy in policies if policy["used"] is not None]
    troubled = [circuit["why"] for circuit in circuits if circuit["state"] != "closed"]
    return {
        "stack": stack["name"],
        "state": " ".join(states) or "-",
        "calls/s": f"{traffic['calls_per_second']:.1f}",
        "success": f"{traffic['success_rate']:.1%}",
        "backend": f"{traffic['backend_success_rate']:.1%}",
        "refused": f"{traffic['refusals']:.0f}",
        "retries": f"{sum(policy['retries'] for policy in policies):.0f}",
        "used": f"{max(used):.0%}" if used else "-",
        "p50 ms": _milliseconds(traffic["p50"]),
        "p99 ms": _milliseconds(traffic["p99"]),
        "why": troubled[0] if troubled else "",
    }


def _circuits(stack: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [circuit for policy in stack["policies"] for circuit in policy["circuits"]]


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.1f}"
