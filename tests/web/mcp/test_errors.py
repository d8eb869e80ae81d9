"""Every kind of bad input, and what an MCP client is told over HTTP and standard input."""

import threading

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, INVALID_REQUEST

from ninelives_control import ControlPlane
from ninelives_control.errors import Code, CommandError
from ninelives_control.identity import tokens as token_file
from ninelives_control.identity.identity import Credentials, Role
from ninelives_grpc import Bulkhead, CircuitBreaker, Registry, Retry, Stack, Timeout
from tests.control import added
from tests.control.test_golden import PATH, TABLE, everything

from .clients import answered, told

PROTOCOL = {Code.UNKNOWN_COMMAND: INVALID_PARAMS, Code.UNAUTHENTICATED: INVALID_REQUEST}
"""What has a form of its own in the protocol."""


class World:
    """One control plane for the whole table: nothing in it changes anything."""

    def __init__(self, folder):
        registry = Registry()
        self.shop = Stack(
            "shop", Timeout(2.0) + Retry(3) + CircuitBreaker() + Bulkhead(4), registry=registry
        )
        path = folder / "tokens.json"
        self.tokens = {str(role): token_file.create(path, str(role), role) for role in Role}
        self.plane = ControlPlane(
            registry, grpc_port=0, http_port=0, tokens=path, audit=folder / "audit.sqlite"
        )
        for entry in added.ALL:
            self.plane.commands.add(entry)

    def entries(self, after=0):
        return self.plane.dispatcher._journal._audit.entries(after=after)

    def refusal(self, bad):
        """Return what the process itself is told."""
        token = {"nobody": None, "stranger": "ninelives_x"}.get(bad.who, self.tokens.get(bad.who))
        with pytest.raises(CommandError) as caught:
            self.plane.dispatcher.execute(
                bad.command,
                bad.arguments,
                caller=Credentials(token=token, loopback=True),
                transport="desk",
            )
        return caught.value


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    before = set(threading.enumerate())
    world = World(tmp_path_factory.mktemp("world"))
    with world.plane:
        yield world
    assert set(threading.enumerate()) <= before


@pytest.fixture
def url(world):
    return f"http://127.0.0.1:{world.plane.http_port}"


@pytest.fixture
def address(world):
    return f"127.0.0.1:{world.plane.grpc_port}"


@pytest.fixture
def tokens(world):
    return world.tokens


CASES = [
    pytest.param(link, bad, id=f"{bad.why}-{link}")
    for link in ("http auto", "stdio legacy")
    for bad in TABLE
    # HTTP lets nobody begin who is not known.
    if link != "http auto" or bad.code is not Code.UNAUTHENTICATED
]


@pytest.mark.parametrize(("link", "bad"), CASES, indirect=["link"])
async def test_bad_input(bad, connect, way, world):
    last = max((entry.seq for entry in world.entries()), default=0)
    before = everything(world.shop)

    async with connect(bad.who) as client:
        if bad.code in PROTOCOL:
            with pytest.raises(MCPError) as caught:
                await client.call_tool(bad.command, bad.arguments)
            answer = {**caught.value.error.data, "message": caught.value.error.message}
            assert caught.value.error.code == PROTOCOL[bad.code]
        else:
            answer = told(await client.call_tool(bad.command, bad.arguments))
            assert answer["field"] == bad.field
    (entry,) = world.entries(last)

    assert answer["code"] == bad.code
    assert added.SECRET not in str(answer)
    assert everything(world.shop) == before
    known = "" if bad.who in {"nobody", "stranger"} else bad.who
    assert (entry.identity, entry.command, entry.reason) == (known, bad.command, bad.code)
    assert entry.transport == {"http": "mcp", "stdio": "grpc"}[way]
    assert_as_in_the_process(answer, world.refusal(bad))


def assert_as_in_the_process(answer, error):
    if error.code is not Code.INTERNAL:  # there it has the number of the entry
        assert answer["message"] == error.message
    assert answer.get("revision") == error.revision
    assert answer.get("rule", "") == error.rule


@pytest.mark.parametrize("link", ["stdio legacy"], indirect=True)
async def test_who_is_not_known_is_told_no_tools(connect):
    for who in ("nobody", "stranger"):
        async with connect(who) as client:
            with pytest.raises(MCPError) as caught:
                await client.list_tools()
        assert caught.value.error.code == INVALID_REQUEST
        assert caught.value.error.data == {"code": "unauthenticated"}


@pytest.mark.parametrize("link", ["stdio auto", "stdio legacy"], indirect=True)
async def test_who_is_not_known_reads_nothing(connect, world):
    for who in ("nobody", "stranger"):
        async with connect(who) as client:
            for attempt in (
                client.list_resources,
                lambda: client.read_resource("ninelives://stacks"),
            ):
                with pytest.raises(MCPError) as caught:
                    await attempt()
                assert caught.value.error.code == INVALID_REQUEST
                assert caught.value.error.data == {"code": "unauthenticated"}

    assert {(entry.command, entry.status) for entry in world.entries()} == {
        ("list_stacks", "refused")
    }


async def test_the_name_of_a_tool_may_be_anything(connect, world):
    last = max(entry.seq for entry in world.entries())

    async with connect("admin") as client:
        for name in ("*", "erase*", "x" * 2000, "übersicht", ""):
            with pytest.raises(MCPError) as caught:
                await client.call_tool(name)
            assert caught.value.error.code == INVALID_PARAMS

    assert {entry.reason for entry in world.entries(last)} == {"unknown_command"}


async def test_arguments_that_are_no_object_are_refused_by_the_protocol(connect):
    async with connect("admin") as client:
        with pytest.raises((MCPError, ValueError)):
            await client.call_tool("list_stacks", ["shop"])
        assert answered(await client.call_tool("list_stacks"))["total"] == 1


async def test_a_number_that_protobuf_has_no_room_for_is_refused_everywhere(connect, world):
    before = everything(world.shop)

    async with connect("admin") as client:
        for value in (10**400, -(10**400)):
            answer = told(await client.call_tool("set_parameter", {"path": PATH, "value": value}))
            assert answer["code"] == "invalid_argument"

    assert everything(world.shop) == before


async def test_a_rule_that_refuses_is_named(connect):
    async with connect("agent") as client:
        answer = told(await client.call_tool("set_parameter", {"path": PATH, "value": 50}))

    assert (answer["code"], answer["rule"]) == ("permission_denied", "agents-tune")


def test_the_table_has_every_code_that_a_table_can_have():
    missing = set(Code) - {bad.code for bad in TABLE}

    assert missing == {Code.AUDIT_UNAVAILABLE, Code.RATE_LIMITED, Code.UNAVAILABLE}
