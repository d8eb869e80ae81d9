"""The table of scenarios, over every kind of client, server and RPC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from . import clients, leaks, servers
from .backend import Backend, RpcKind
from .clients import AioClient, LoopThread, Style, SyncClient
from .scenarios import TABLE, Scenario, cases
from .servers import Wire
from .session import CLIENT, SERVER, Session

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from ninelives_grpc import Stack


def _client_ways() -> list[tuple[str, RpcKind, Style]]:
    return [
        (name, kind, style)
        for name in clients.PROTECTED
        for kind in RpcKind
        for style in (SyncClient if name.startswith("sync") else AioClient).styles(kind)
    ]


def _server_ways() -> list[tuple[str, RpcKind, Style]]:
    return [
        (name, kind, SyncClient.styles(kind)[-1]) for name in servers.PROTECTED for kind in RpcKind
    ]


def _parameters(side: str, ways: list[tuple[str, RpcKind, Style]]) -> list[Any]:
    return [
        pytest.param(*case, id=f"{case[0].name}-{case[1]}-{case[2]}-{case[3]}".replace(" ", "_"))
        for case in cases(side, ways)
    ]


@pytest.mark.parametrize(
    ("scenario", "protected", "kind", "style"), _parameters(CLIENT, _client_ways())
)
def test_client(
    scenario: Scenario,
    protected: str,
    kind: RpcKind,
    style: Style,
    backend: Backend,
    target: str,
    loop: LoopThread,
    new_stack: Callable[..., Stack],
    opened: ExitStack,
) -> None:
    stack = new_stack(scenario.policies())
    wire = Wire(target)
    opened.callback(wire.cut)
    client = clients.PROTECTED[protected](wire.target, stack, loop)
    opened.callback(client.close)
    backend.plays(*scenario.plays)
    session = Session(CLIENT, kind, style, client, backend, stack, wire.cut)

    scenario.act(session)

    _check(session, scenario)


@pytest.mark.parametrize(
    ("scenario", "protected", "kind", "style"), _parameters(SERVER, _server_ways())
)
def test_server(
    scenario: Scenario,
    protected: str,
    kind: RpcKind,
    style: Style,
    loop: LoopThread,
    new_stack: Callable[..., Stack],
    opened: ExitStack,
) -> None:
    stack = new_stack(scenario.policies())
    backend = Backend(*scenario.plays)
    server = servers.PROTECTED[protected](backend, stack, loop)
    opened.callback(server.close)
    wire = Wire(server.target)
    opened.callback(wire.cut)
    client = SyncClient(grpc.insecure_channel(wire.target))
    opened.callback(client.close)
    opened.callback(backend.release)
    session = Session(SERVER, kind, style, client, backend, stack, wire.cut)

    scenario.act(session)

    _check(session, scenario)


def _check(session: Session, scenario: Scenario) -> None:
    """See that every call was counted once, and that nothing is held; threads are seen to later."""
    leaks.assert_nothing_held([session.stack])
    leaks.eventually(
        lambda: leaks.counted(session.stack) >= session.calls,
        lambda: leaks.results(session.stack),
    )
    if session.side == CLIENT or scenario.racing != leaks.results(session.stack):
        assert leaks.results(session.stack) == scenario.counts
    assert sum(scenario.counts.values()) == session.calls


def test_every_scenario_of_the_table_applies_somewhere() -> None:
    names = {
        case[0].name
        for side, ways in ((CLIENT, _client_ways()), (SERVER, _server_ways()))
        for case in cases(side, ways)
    }

    assert names == {scenario.name for scenario in TABLE}
