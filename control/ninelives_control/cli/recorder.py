"""Read what a flight recorder has left behind."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ninelives_control.cli.group import Exit, Failure
from ninelives_control.cli.show import Form, form_option, show, show_table
from ninelives_grpc.errors import ConfigError
from ninelives_grpc.flight_recorder import read

if TYPE_CHECKING:
    from ninelives_grpc.flight_recorder import Recording


@click.command("recorder")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--events", "most", default=20, show_default=True, help="Events to show, the last.")
@click.option("--stack", help="Only this stack.")
@form_option
def cli(file: Path, most: int, stack: str | None, form: str) -> None:
    """Read what a flight recorder has left behind: states of stacks, and the last events."""
    try:
        recording = read(file)
    except ConfigError as error:
        raise Failure(str(error), Exit.INVALID) from None
    if stack is not None and stack not in recording.stacks:
        known = ", ".join(sorted(recording.stacks)) or "none at all"
        raise Failure(f"there is no stack {stack!r} in {file}; there are: {known}", Exit.NOT_FOUND)
    events = [event for event in recording.events if stack in {None, event.fields.get("stack")}]
    stacks = {name: state for name, state in recording.stacks.items() if stack in {None, name}}
    shown = dataclasses.replace(
        recording, events=tuple(events[max(0, len(events) - most) :]), stacks=stacks
    )
    if form == Form.JSON:
        show(dataclasses.asdict(shown), form)
    else:
        _show(shown)


def _show(recording: Recording) -> None:
    """Print what it is, the states, and the events."""
    click.echo(f"process {recording.pid}, recorded from {_moment(recording.started)}")
    click.echo(f"written last at {_moment(recording.written)}")
    for count, what in (
        (recording.left_out, "stacks did not fit"),
        (recording.lost, "events came too many at once, and are lost"),
        (recording.damaged, "entries were being written when it ended, and are lost"),
    ):
        if count:
            click.echo(f"{count} {what}")
    rows = [_row(name, state) for name, state in recording.stacks.items()]
    if rows:
        click.echo()
        show_table(rows)
    if recording.events:
        click.echo()
        show_table([_event(event.fields) for event in recording.events])


def _row(name: str, state: dict[str, Any]) -> dict[str, object]:
    traffic, policies = state.get("traffic", {}), state.get("policies", {})
    return {
        "stack": name,
        "calls": traffic.get("calls"),
        "failures": traffic.get("failures"),
        "refusals": traffic.get("refusals"),
        "p99": traffic.get("p99"),
        "state": " ".join(
            f"{policy}={values['state'][word]}"
            for policy, values in policies.items()
            for word in ("state", "in_flight", "left")
            if word in values.get("state", {})
        ),
    }


def _event(fields: dict[str, Any]) -> dict[str, object]:
    where = "/".join(filter(None, (fields.get("stack"), fields.get("policy"))))
    return {
        "time": fields.get("time"),
        "event": fields.get("event"),
        "where": where,
        "method": fields.get("method"),
        "why": fields.get("why"),
    }


def _moment(at: float | None) -> str:
    return "never" if at is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
