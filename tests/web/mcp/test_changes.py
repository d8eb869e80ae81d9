"""Clients hear of what has changed, in both eras, over HTTP and over the bridge."""

import asyncio
import contextlib
import time

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import InitializedNotification

from ninelives_control import ControlPlane
from ninelives_control.identity import tokens as token_file
from ninelives_control.transports.mcp import bridge as mcp_bridge
from ninelives_control.transports.mcp import changes as mcp_changes
from ninelives_grpc import CircuitBreaker, Retry, Stack
from tests.control import added

from .clients import MODERN, answered
from .listening import TOOLS, Ear, subscribe, unsubscribe

SHOP = "ninelives://stacks/shop"
RETRY = f"{SHOP}/retry"
PATH = "shop/retry/max_attempts"
EVERYWHERE = pytest.mark.parametrize(
    "link", ["http auto", "http legacy", "stdio auto", "stdio legacy"], indirect=True
)
OVER_HTTP = pytest.mark.parametrize("link", ["http auto", "http legacy"], indirect=True)


def change(plane, value, path=PATH):
    plane.execute("set_parameter", path=path, value=value)


@EVERYWHERE
async def test_a_stack_is_told_of_when_a_parameter_of_it_changes(connect, plane, registry):
    Stack("other", Retry(3), registry=registry)
    ear = Ear()

    async with connect("viewer", message_handler=ear) as client, ear.on(client, SHOP, RETRY):
        change(plane, 5, "other/retry/max_attempts")
        change(plane, 5.0, "shop/timeout/seconds")
        assert await ear.next() == SHOP
        change(plane, 5)
        heard = {await ear.next(), await ear.next()}
        text = (await client.read_resource(RETRY, cache_mode="bypass")).contents[0].text

    assert heard == {SHOP, RETRY}
    assert '"value":5' in text


@EVERYWHERE
async def test_a_stack_is_told_of_when_a_circuit_opens(connect, registry, plane):
    stack = Stack("weak", CircuitBreaker(consecutive_failures=1), registry=registry)
    uri = "ninelives://stacks/weak"
    ear = Ear()

    async with connect("viewer", message_handler=ear) as client, ear.on(client, uri):
        with pytest.raises(ZeroDivisionError):
            stack.call(lambda: 1 / 0)
        heard = await ear.next()
        (content,) = (await client.read_resource(uri, cache_mode="bypass")).contents

    assert (heard, '"open"' in content.text) == (uri, True)


@pytest.mark.parametrize("link", ["http auto"], indirect=True)
async def test_many_changes_at_a_time_are_told_of_once(connect, registry, plane):
    Stack("other", Retry(3), registry=registry)
    ear, other, heard = Ear(), "ninelives://stacks/other", []

    async with connect("viewer", message_handler=ear) as client, ear.on(client, SHOP, other):
        for _ in range(20):
            change(plane, 1)
            change(plane, 2)
        change(plane, 5, "other/retry/max_attempts")
        while other not in heard:
            heard.append(await ear.next())

    assert 1 <= heard.count(SHOP) < 20


@pytest.mark.parametrize("link", ["http auto", "stdio legacy"], indirect=True)
async def test_the_events_are_told_of_as_they_come(connect, plane):
    ear = Ear()

    async with (
        connect("viewer", message_handler=ear) as client,
        ear.on(client, "ninelives://events"),
    ):
        plane.execute("reset_circuit_breaker", path="shop/circuit_breaker")
        assert await ear.next() == "ninelives://events"


@OVER_HTTP
async def test_tools_that_come_and_go_are_told_of(connect, plane):
    ear = Ear()

    async with connect("admin", message_handler=ear) as client:
        assert client.server_capabilities.tools.list_changed is True
        async with ear.on(client, "ninelives://commands", tools=True):
            plane.commands.add(added.note)
            came = {await ear.next(), await ear.next()}
            with_it = [tool.name for tool in (await client.list_tools()).tools]
            plane.commands.remove("note")
            went = {await ear.next(), await ear.next()}
            without = [tool.name for tool in (await client.list_tools()).tools]

    assert came == went == {TOOLS, "ninelives://commands"}
    assert ("note" in with_it, "note" in without) == (True, False)


@pytest.mark.parametrize("link", ["http legacy"], indirect=True)
async def test_commands_can_be_unsubscribed_from_and_count_once(connect, plane):
    ear = Ear()

    async with connect("admin", message_handler=ear) as client:
        for _ in range(3):
            await client.session.send_notification(InitializedNotification())
            await subscribe(client, "ninelives://commands")
        assert len(plane.commands._subscribers) == 1
        await unsubscribe(client, "ninelives://commands")
        plane.commands.add(added.note)
        assert await ear.next() == TOOLS
        plane.commands.remove("note")
        assert await ear.next() == TOOLS


@pytest.mark.parametrize("link", ["stdio auto", "stdio legacy"], indirect=True)
async def test_the_bridge_does_not_promise_what_it_can_not_tell(connect, mode):
    async with connect("admin") as client:
        capabilities = client.server_capabilities
        if client.protocol_version == MODERN:
            async with client.listen(
                tools_list_changed=True, resource_subscriptions=["ninelives://commands"]
            ) as stream:
                honored = stream.honored
            assert not honored.tools_list_changed
            assert not honored.resource_subscriptions
        else:
            with pytest.raises(MCPError, match="read it when you need it"):
                await subscribe(client, "ninelives://commands")

    assert capabilities.tools.list_changed is False
    assert capabilities.resources.subscribe is True


@pytest.mark.parametrize("link", ["http legacy", "stdio legacy"], indirect=True)
async def test_what_is_not_there_or_changes_all_the_time_can_not_be_subscribed_to(connect):
    async with connect("viewer") as client:
        for uri, code in {
            "ninelives://stacks/shoe": -32002,
            "ninelives://stacks/shop/rety": -32002,
            "ninelives://nothing": -32002,
            "ninelives://metrics": -32602,
        }.items():
            with pytest.raises(MCPError) as caught:
                await subscribe(client, uri)
            assert caught.value.error.code == code


@pytest.mark.parametrize("link", ["http auto", "stdio auto"], indirect=True)
async def test_a_stream_says_what_it_will_tell_of(connect):
    async with (
        connect("viewer") as client,
        client.listen(
            prompts_list_changed=True, resource_subscriptions=[SHOP, "ninelives://metrics", "x:y"]
        ) as stream,
    ):
        assert stream.honored.resource_subscriptions == [SHOP]
        assert not stream.honored.prompts_list_changed


@pytest.mark.parametrize("link", ["http auto", "stdio auto"], indirect=True)
async def test_a_stream_of_what_is_not_there_is_refused(connect):
    async with connect("viewer") as client:
        with pytest.raises(MCPError, match="did you mean shop") as caught:
            async with client.listen(resource_subscriptions=["ninelives://stacks/shoe"]):
                pass

    assert caught.value.error.code == -32602


@pytest.mark.parametrize("link", ["stdio legacy", "stdio auto"], indirect=True)
async def test_who_is_not_known_hears_nothing(connect, entries):
    for who in ("nobody", "stranger"):
        async with connect(who) as client:
            with pytest.raises(MCPError) as caught:
                async with Ear().on(client, SHOP):
                    pass
        assert caught.value.error.data["code"] == "unauthenticated"

    assert {(entry.command, entry.reason) for entry in entries()} == {("watch", "unauthenticated")}


@pytest.mark.parametrize("link", ["http legacy", "stdio legacy"], indirect=True)
async def test_what_is_unsubscribed_from_is_not_told_of(connect, plane):
    ear = Ear()

    async with connect("viewer", message_handler=ear) as client:
        await subscribe(client, RETRY)
        await subscribe(client, RETRY)
        await subscribe(client, SHOP)
        await unsubscribe(client, RETRY)
        await unsubscribe(client, "ninelives://never")
        change(plane, 5)
        assert await ear.next() == SHOP
        change(plane, 6)
        assert await ear.next() == SHOP


@EVERYWHERE
async def test_a_client_that_goes_is_watched_for_no_more(connect, plane, ended):
    ear = Ear()

    async with connect("viewer", message_handler=ear) as client:
        if client.protocol_version == MODERN:
            async with ear.on(client, SHOP):
                pass
        else:
            await subscribe(client, SHOP)
    # Of a session, only its end over HTTP is heard: it is deleted.
    assert await asyncio.to_thread(ended.wait, 10)

    assert plane.dispatcher._stream.subscribers == 0


@pytest.mark.parametrize("link", ["http legacy", "stdio auto"], indirect=True)
async def test_a_client_can_follow_only_so_much(connect, monkeypatch):
    monkeypatch.setattr(mcp_changes, "_MOST_RESOURCES", 1)

    async with connect("viewer") as client:
        with pytest.raises(MCPError, match="a client can follow 1 resources"):
            async with Ear().on(client, SHOP, RETRY):
                pass


@pytest.mark.parametrize("link", ["http auto"], indirect=True)
async def test_there_are_only_so_many_streams(connect, monkeypatch):
    monkeypatch.setattr(mcp_changes, "_MOST_STREAMS", 1)

    async with connect("viewer") as client, client.listen(tools_list_changed=True):
        with pytest.raises(MCPError, match="others listen already"):
            async with client.listen(tools_list_changed=True):
                pass


@pytest.mark.parametrize("link", ["http auto"], indirect=True)
async def test_who_may_not_any_more_is_told_to_look_and_then_nothing(
    connect, plane, tokens_path, ended
):
    ear = Ear()

    async with connect("viewer", message_handler=ear) as client, ear.on(client, SHOP):
        token_file.remove(tokens_path, "viewer")
        change(plane, 5)

        assert await ear.next() == SHOP
        # HTTP says no more than that: 401.
        with pytest.raises(MCPError):
            await client.read_resource(SHOP, cache_mode="bypass")
        assert await asyncio.to_thread(ended.wait, 10)


@pytest.mark.parametrize("link", ["http auto"], indirect=True)
async def test_the_control_plane_ends_streams_when_it_stops(connect, plane):
    async with (
        connect("viewer") as client,
        client.listen(tools_list_changed=True) as tools,
        client.listen(resource_subscriptions=[SHOP]) as stack,
    ):
        begun = time.monotonic()
        await asyncio.wait_for(asyncio.to_thread(plane.stop), 10)
        assert time.monotonic() - begun < 2.5
        # An iterator that ends, and does not raise, was told that it is on purpose.
        assert [event async for event in tools] == []
        assert {event.uri async for event in stack} <= {SHOP}


@pytest.mark.parametrize("link", ["http legacy"], indirect=True)
async def test_the_control_plane_stops_at_once_with_subscribers(connect, plane):
    with contextlib.suppress(MCPError):
        async with connect("viewer") as client:
            await subscribe(client, SHOP)

            begun = time.monotonic()
            await asyncio.wait_for(asyncio.to_thread(plane.stop), 10)
            assert time.monotonic() - begun < 2.5


@pytest.mark.parametrize("link", ["stdio auto", "stdio legacy"], indirect=True)
async def test_the_bridge_follows_a_program_that_comes_back(
    connect, registry, plane, tokens_path, monkeypatch
):
    monkeypatch.setattr(mcp_bridge, "_AGAIN", 0.01)
    port = plane.grpc_port
    ear = Ear()

    async with connect("viewer", message_handler=ear) as client, ear.on(client, SHOP):
        await asyncio.to_thread(plane.stop)
        with ControlPlane(registry, grpc_port=port, http_port=None, tokens=tokens_path) as again:
            assert await ear.next() == SHOP
            change(again, 7)
            assert await ear.next() == SHOP
            text = (await client.read_resource(RETRY, cache_mode="bypass")).contents[0].text

    assert '"value":7' in text


@pytest.mark.parametrize("link", ["http auto"], indirect=True)
async def test_what_ends_unforeseen_is_logged_and_not_told(connect, plane, monkeypatch, caplog):
    monkeypatch.setattr(plane.dispatcher, "watch", lambda *_, **__: 1 / 0)

    async with connect("viewer") as client:
        with pytest.raises(MCPError) as caught:
            async with Ear().on(client, SHOP):
                pass
        assert answered(await client.call_tool("list_stacks"))["total"] == 1

    assert "division" not in str(caught.value.error)
    assert "division" in caplog.text
