"""List what policies did, or follow it as it happens."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click
import grpc

from ninelives_control.cli.connection import connection_options
from ninelives_control.cli.group import Exit, Failure
from ninelives_control.cli.remote import execute, failure
from ninelives_control.cli.show import Form, form_option
from ninelives_control.transports.grpc.messages import values_of
from ninelives_control.v1.control_pb2 import WatchRequest
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from ninelives_grpc.events import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ninelives_control.transports.grpc.connection import Connection

_COLORS = {"debug": "bright_black", "warning": "yellow", "error": "red"}


@click.command("events")
@click.option("--follow", "-f", is_flag=True, help="Go on with every event as it happens.")
@click.option("--stack", help="Only this stack.")
@click.option("--policy", help="Only policies of this name.")
@click.option("--method", help="Only this method.")
@click.option("--kind", "kinds", multiple=True, help="Only this kind, such as CircuitOpened.")
@click.option(
    "--severity",
    type=click.Choice([str(each) for each in Severity]),
    help="Only what matters so much, or more.",
)
@click.option("--since", help="Only since then, such as 2026-11-27T14:02:11Z.")
@click.option("--limit", default=100, show_default=True, help="Past events, the last ones.")
@connection_options
@form_option
def cli(
    *,
    follow: bool,
    since: str | None,
    limit: int,
    connection: Connection,
    form: str,
    **asked: Any,
) -> None:
    """List what policies did, one line an event, with what led to it."""
    wanted = {name: list(value) if name == "kinds" else value for name, value in asked.items()}
    wanted = {name: value for name, value in wanted.items() if value}
    if follow:
        _follow(wanted, form, connection)
        return
    past: list[Mapping[str, Any]] = []
    cursor, more = "", True
    if since is not None:
        wanted["since"] = since
    while more:
        page = execute("list_events", wanted | {"cursor": cursor}, connection)
        found = page["events"]
        assert isinstance(found, list)
        past += found
        cursor, more = str(page["cursor"]), bool(page["more"])
    _print(past[max(0, len(past) - limit) :], form)


def _follow(wanted: Mapping[str, Any], form: str, connection: Connection) -> None:
    """Print every event until the control plane stops, or the user has enough."""
    if "severity" in wanted:
        wanted = {**wanted, "severity": f"SEVERITY_{wanted['severity'].upper()}"}
    request = WatchRequest(**wanted)
    with connection.channel() as channel:
        told = ControlServiceStub(channel).Watch(request, metadata=connection.metadata())
        try:
            for message in told:
                _print([values_of(event) for event in message.events], form)
                if message.dropped:
                    click.echo(f"{message.dropped} events were lost: too many at once", err=True)
        except grpc.RpcError as error:
            raise failure(error, connection.address) from None
        except KeyboardInterrupt:
            told.cancel()
            return
    raise Failure(f"the control plane at {connection.address} has stopped", Exit.UNAVAILABLE)


def _print(events: Iterable[Mapping[str, Any]], form: str) -> None:
    for event in events:
        if form == Form.JSON:
            click.echo(json.dumps(event))
        else:
            click.secho(_line(event), fg=_COLORS.get(str(event["severity"])))
    sys.stdout.flush()


def _line(event: Mapping[str, Any]) -> str:
    where = "/".join(filter(None, (event["stack"], event["policy"])))
    method = f" {event['method']}" if event["method"] else ""
    return f"{event['time']} {event['severity']:7} {event['name']} {where}{method}: {event['why']}"
