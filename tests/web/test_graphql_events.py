"""Subscriptions to events over websockets, and as server-sent events."""

import asyncio
import json
import socket
import time
from contextlib import closing

import aiohttp
import pytest
from gql import gql
from gql.transport.exceptions import TransportQueryError
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from ninelives_control.identity import tokens as token_file
from ninelives_grpc import Retry, Stack
from tests.web.graphql_asker import session
from tests.web.http_asker import fetch, received_until, stream
from tests.web.slow import LARGE_EVENTS, flood
from tests.web.websocket_asker import receive, subscribed

PATH = "shop/retry/max_attempts"
WATCH = "subscription { events { state { name } events { name stack } dropped } }"


CHANGED = {
    "state": [],
    "events": [{"name": "ParameterChanged", "stack": "shop"}],
    "dropped": 0,
}


async def change(plane, value, path=PATH):
    await asyncio.to_thread(plane.execute, "set_parameter", path=path, value=value)


def test_a_subscription_begins_with_the_state_and_goes_on_with_events(plane, tokens, ended):
    async def main():
        async with session(plane, tokens["viewer"]) as opened:
            told = opened.subscribe(gql(WATCH))
            first = await anext(told)
            await change(plane, 5)
            second = await anext(told)
            await told.aclose()
            return first, second

    first, second = asyncio.run(main())

    assert first["events"] == {"state": [{"name": "shop"}], "events": [], "dropped": 0}
    assert second["events"] == CHANGED
    assert ended.wait(10)
    assert plane.dispatcher._stream.subscribers == 0


def test_events_can_be_of_one_stack_and_of_some_kinds(plane, tokens, registry, shop):
    Stack("search", Retry(3), registry=registry)
    document = """
    subscription($names: [String!]) {
      events(stack: "shop", names: $names) { state { name } events { name stack } dropped }
    }
    """
    request = gql(document)
    request.variable_values = {"names": ["CircuitOpened"]}

    async def main():
        async with session(plane, tokens["viewer"]) as opened:
            told = opened.subscribe(request)
            first = await anext(told)
            await change(plane, 5, "search/retry/max_attempts")
            await change(plane, 1, "shop/circuit_breaker/consecutive_failures")
            with pytest.raises(RuntimeError):
                shop.call(fail)
            second = await anext(told)
            await told.aclose()
            return first, second

    first, second = asyncio.run(main())

    assert first["events"]["state"] == [{"name": "shop"}]
    assert second["events"]["events"] == [{"name": "CircuitOpened", "stack": "shop"}]


def fail():
    raise RuntimeError


def test_queries_and_mutations_go_over_a_websocket_as_well(plane, tokens, shop, entries):
    async def main():
        async with session(plane, tokens["operator"]) as opened:
            await opened.execute(
                gql(f'mutation {{ setParameter(path: "{PATH}", value: 5) {{ new }} }}')
            )
            with pytest.raises(TransportQueryError) as caught:
                await opened.execute(gql("{ lstStacks { total } }"))
            return caught.value.errors

    (error,) = asyncio.run(main())

    assert error["extensions"] == {"code": "unknown_command"}
    assert shop.parameters["retry/max_attempts"].get() == 5
    assert [(entry.command, entry.status) for entry in entries()] == [
        ("set_parameter", "succeeded"),
        ("lst_stacks", "refused"),
    ]


HEADERS = {
    "in a header": lambda shown: {"init_payload": {}, "headers": {"Authorization": shown}},
    "in connection_init": lambda shown: {"init_payload": {"authorization": shown}},
    "in connection_init, in capitals": lambda shown: {"init_payload": {"Authorization": shown}},
}


@pytest.mark.parametrize("where", HEADERS)
def test_a_token_is_shown(where, plane, tokens):
    async def main(shown):
        async with session(plane, **HEADERS[where](shown)) as opened:
            return await opened.execute(gql("{ listStacks { total } }"))

    assert asyncio.run(main(f"Bearer {tokens['viewer']}")) == {"listStacks": {"total": 1}}
    with pytest.raises(TransportQueryError, match="token is unknown"):
        asyncio.run(main("Bearer ninelives_x"))
    with pytest.raises(TransportQueryError, match="token is unknown"):
        asyncio.run(main(f"Basic {tokens['viewer']}"))


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({}, "unauthenticated"),
        ({"authorization": "Bearer ninelives_x"}, "unauthenticated"),
        ({"authorization": 7}, "unauthenticated"),
    ],
)
def test_nobody_subscribes_without_a_token_that_is_known(payload, code, plane, entries):
    async def main():
        async with session(plane, init_payload=payload) as opened:
            async for _ in opened.subscribe(gql(WATCH)):
                raise AssertionError

    with pytest.raises(TransportQueryError) as caught:
        asyncio.run(main())

    assert caught.value.errors[0]["extensions"] == {"code": code}
    (entry,) = entries()
    assert (entry.command, entry.reason, entry.transport) == ("watch", code, "graphql")


def test_a_token_that_is_removed_ends_what_it_watches(plane, tokens, tokens_path, ended):
    async def main():
        async with session(plane, tokens["viewer"]) as opened:
            told = opened.subscribe(gql(WATCH))
            await anext(told)
            token_file.remove(tokens_path, "viewer")
            await change(plane, 5)
            await anext(told)

    with pytest.raises(TransportQueryError) as caught:
        asyncio.run(main())

    assert caught.value.errors[0]["extensions"] == {"code": "unauthenticated"}
    assert ended.wait(10)


def test_a_client_that_goes_away_leaves_nothing(plane, tokens, ended):
    with subscribed(plane, tokens["viewer"], WATCH) as connection:
        connection.recv()

        connection.socket.shutdown(socket.SHUT_RDWR)

        assert ended.wait(10)
    assert plane.dispatcher._stream.subscribers == 0


def test_a_client_of_server_sent_events_that_goes_away_leaves_nothing(plane, tokens, ended):
    with closing(stream(plane, WATCH, tokens["viewer"])) as connection:
        received = received_until(connection, b'"dropped":0')

    assert b"content-type: text/event-stream" in received
    assert b"event: next" in received
    assert ended.wait(10)
    assert plane.dispatcher._stream.subscribers == 0


def test_server_sent_events_tell_what_happens(plane, tokens):
    with closing(stream(plane, WATCH, tokens["viewer"])) as connection:
        received_until(connection, b'"dropped":0')
        plane.execute("set_parameter", path=PATH, value=5)
        received = received_until(connection, b'"dropped":0')

    assert b'"events":[{"name":"ParameterChanged","stack":"shop"}]' in received


def test_a_client_for_http_follows_server_sent_events(plane, url, tokens, ended):
    shown = {"Authorization": f"Bearer {tokens['viewer']}", "Accept": "text/event-stream"}

    async def main():
        async with (
            aiohttp.ClientSession(headers=shown) as client,
            client.post(f"{url}/graphql", json={"query": WATCH}) as answer,
        ):
            first = await event_of(answer.content)
            await change(plane, 5)
            second = await event_of(answer.content)
            return answer.content_type, first, second

    kind, first, second = asyncio.run(main())

    assert kind == "text/event-stream"
    assert first["state"] == [{"name": "shop"}]
    assert second == CHANGED
    assert ended.wait(10)
    assert fetch(plane, "GET", "/graphql", headers=shown).status == 405


async def event_of(lines):
    """Return the data of the next event `next`."""
    while (await lines.readline()).strip() != b"event: next":
        assert not lines.at_eof()
    data = await lines.readline()
    return json.loads(data.removeprefix(b"data:"))["data"]["events"]


def test_a_refusal_is_a_server_sent_event_too(plane, entries):
    with closing(stream(plane, WATCH, "ninelives_x")) as connection:
        received = received_until(connection, b"event: complete")

    assert b'"extensions":{"code":"unauthenticated"}' in received
    assert [entry.command for entry in entries()] == ["watch"]


def test_open_subscriptions_end_promptly_when_the_control_plane_stops(plane, patient, tokens):
    with (
        subscribed(plane, tokens["viewer"], WATCH) as websocket,
        closing(stream(plane, WATCH, tokens["viewer"])) as connection,
    ):
        websocket.recv()
        received_until(connection, b'"dropped":0')
        before = time.monotonic()

        plane.stop()

        assert time.monotonic() - before < 10
        told = receive(websocket)
        with pytest.raises(ConnectionClosed) as caught:
            list(websocket)
        received = received_until(connection, b"event: complete")
    assert told["payload"]["errors"][0]["extensions"] == {"code": "unavailable"}
    assert caught.value.rcvd.code == CloseCode.SERVICE_RESTART
    assert b'"extensions":{"code":"unavailable"}' in received


def test_a_slow_client_is_told_how_much_it_has_lost(plane, tokens):
    with subscribed(plane, tokens["viewer"], LARGE_EVENTS, max_queue=1) as websocket:
        receive(websocket)
        happened = flood(plane)

        lost, came = 0, 0
        while lost + came < happened:
            told = receive(websocket)["payload"]["data"]["events"]
            lost += told["dropped"]
            came += len(told["events"])

    assert lost > 0
    assert lost + came == happened
