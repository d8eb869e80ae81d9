"""Attackers who take what there is of connections, watches and room."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from unittest.mock import patch

from websockets.sync.client import connect

from ninelives_control import router
from tests.attacks.attack import Attack
from tests.attacks.world import PATIENCE
from tests.waiting import until
from tests.web.http_asker import connected
from tests.web.websocket_asker import PROTOCOL, begin, receive, send

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tests.attacks.world import World

_WATCH = "subscription { events { dropped } }"


def _watching(world: World, stack: contextlib.ExitStack) -> socket.socket:
    head = (
        "GET /v1/watch HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {world.tokens['viewer']}\r\n\r\n"
    )
    connection = stack.enter_context(contextlib.closing(connected(world.plane, head.encode())))
    assert b"200" in connection.recv(100)
    return connection


def _too_many_watches(attack: Callable[[World], str]) -> Callable[[World], str]:
    """Watch as often as is allowed, reading nothing, and then once more."""

    def flooding(world: World) -> str:
        with patch.object(router, "MAX_WATCHES", 3), contextlib.ExitStack() as stack:
            for _ in range(3):
                _watching(world, stack)
            return attack(world)

    return flooding


def _subscriptions(world: World) -> str:
    """Subscribe more often on one websocket than is allowed."""
    with connect(
        f"ws://127.0.0.1:{world.plane.http_port}/graphql",
        subprotocols=[PROTOCOL],
        additional_headers=world.shown("viewer"),
    ) as connection:
        begin(connection)
        for number in range(21):
            send(connection, type="subscribe", id=str(number), payload={"query": _WATCH})
        while (told := receive(connection))["type"] == "next":
            pass
        code = told["payload"][0]["extensions"]["code"]
    # They end one by one; a moment later none is left.
    until(lambda: not world.plane.dispatcher._watches, patience=PATIENCE)
    return str(code)


def _many(world: World) -> str:
    """Be refused a hundred times within a second."""
    told = {world.http("GET", "/metrics", headers={"Host": "evil.example"}) for _ in range(100)}
    world.clock.advance(2)
    return " ".join(told)


def _idle(world: World) -> str:
    """Connect, and say nothing; others are answered as ever."""
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(contextlib.closing(connected(world.plane)))
        return world.change("viewer")


def _slow(world: World) -> str:
    """Begin requests, and do not end them; others are answered as ever."""
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            data = world.head("admin", "Content-Length: 100") + b"{"
            stack.enter_context(contextlib.closing(connected(world.plane, data)))
        return world.change("viewer")


FLOODS = (
    Attack(
        name="flood: one watch more than is allowed, over REST",
        do=_too_many_watches(lambda world: world.http("GET", "/v1/watch", None, "viewer")),
        told="503 unavailable",
        audit=("rest watch unavailable",),
    ),
    Attack(
        name="flood: one watch more than is allowed, over GraphQL",
        do=_too_many_watches(
            lambda world: world.websocket(
                {"type": "subscribe", "id": "1", "payload": {"query": _WATCH}}, who="viewer"
            )
        ),
        told="unavailable",
        audit=("graphql watch unavailable",),
    ),
    Attack(
        name="flood: more subscriptions than one websocket may have",
        do=_subscriptions,
        told="unavailable",
        audit=("graphql graphql unavailable",),
    ),
    Attack(
        name="flood: a hundred refusals within a second, which are two rows",
        do=_many,
        told="421 invalid_argument",
        audit=("http http invalid_argument",) * 2,
    ),
    Attack(
        name="flood: 200 connections on which nothing is said",
        do=_idle,
        told="403 permission_denied",
        audit=("rest set_parameter permission_denied",),
    ),
    Attack(
        name="flood: 50 requests that do not end (slow loris)",
        do=_slow,
        told="403 permission_denied",
        audit=("rest set_parameter permission_denied",),
    ),
)
