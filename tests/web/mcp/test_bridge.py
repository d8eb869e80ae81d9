"""The bridge to a control plane that is elsewhere, or not there."""

import asyncio
import contextlib

import grpc
import pytest
from mcp.shared.exceptions import MCPError

from ninelives_control import ControlPlane
from ninelives_control.audit.log import AuditFile

from .clients import answered, over_pipes, told

PATH = "shop/retry/max_attempts"


@contextlib.asynccontextmanager
async def listening(*handlers):
    """Serve something that is no control plane."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def test_the_program_may_go_and_come_back(address, registry, plane, tokens, tokens_path):
    port = plane.grpc_port
    async with over_pipes(address, tokens["operator"]) as client:
        answered(await client.call_tool("list_stacks"))

        await asyncio.to_thread(plane.stop)
        away = told(await client.call_tool("set_parameter", {"path": PATH, "value": 5}))
        with pytest.raises(MCPError, match="no control plane can be reached"):
            await client.list_tools(cache_mode="bypass")
        again = ControlPlane(registry, grpc_port=port, http_port=None, tokens=tokens_path)
        with again:
            change = await until_reached(client, "set_parameter", {"path": PATH, "value": 5})
            entries = again.dispatcher._journal._audit.entries()

    assert away["code"] == "unavailable"
    assert f"no control plane can be reached at {address}" in away["message"]
    assert (change["old"], change["new"], len(entries)) == (3, 5, 1)


async def until_reached(client, tool, arguments):
    """Call a tool until it is answered: gRPC looks for a server now and then."""
    async with asyncio.timeout(10):
        while (result := await client.call_tool(tool, arguments)).is_error:
            assert told(result)["code"] == "unavailable"
            await asyncio.sleep(0.01)
    return answered(result)


async def test_that_there_is_no_control_plane_is_said_once(capsys):
    async with over_pipes("127.0.0.1:1", None) as client:
        for _ in range(3):
            assert told(await client.call_tool("list_stacks"))["code"] == "unavailable"

    message = "no control plane can be reached at 127.0.0.1:1; start it, or give --address\n"
    assert capsys.readouterr().err == message


async def test_what_listens_may_be_something_else():
    async with listening() as address, over_pipes(address, None) as client:
        answer = told(await client.call_tool("list_stacks"))

    assert answer["code"] == "unavailable"
    assert answer["message"] == f"what listens at {address} is no control plane"


async def test_a_status_that_the_control_plane_did_not_give_is_told_as_it_is():
    async def refuse(request, context):
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "a proxy has had enough")

    handler = grpc.method_handlers_generic_handler(
        "ninelives_control.v1.ControlService",
        {"Execute": grpc.unary_unary_rpc_method_handler(refuse)},
    )
    async with listening(handler) as address, over_pipes(address, None) as client:
        answer = told(await client.call_tool("list_stacks"))

    assert (answer["code"], answer["message"]) == (
        "internal",
        "RESOURCE_EXHAUSTED: a proxy has had enough",
    )


async def test_nobody_waits_for_ever(held, address, tokens):
    async with over_pipes(address, tokens["operator"], patience=0.3) as client:
        answer = told(await client.call_tool("hold"))

    assert answer["code"] == "unavailable"
    assert answer["message"].startswith("no answer within 0.3 s")


async def test_nobody_waits_for_ever_to_follow_a_resource():
    async def think(request, context):
        await asyncio.Event().wait()
        yield b""

    handler = grpc.method_handlers_generic_handler(
        "ninelives_control.v1.ControlService",
        {"Watch": grpc.unary_stream_rpc_method_handler(think)},
    )
    async with listening(handler) as address, over_pipes(address, None, patience=0.3) as client:
        with pytest.raises(MCPError, match=r"no answer within 0\.3 s"):
            async with client.listen(resource_subscriptions=["ninelives://events"]):
                pass


async def test_an_error_of_the_bridge_itself_tells_nothing_of_why(caplog):
    async with over_pipes("127.0.0.1:1", None, patience="soon") as client:
        answer = told(await client.call_tool("list_stacks"))

        with pytest.raises(MCPError) as caught:
            await client.read_resource("ninelives://stacks")

    assert (answer["code"], "TypeError" in answer["message"]) == ("internal", False)
    assert caught.value.error.message == "it failed; the log of the MCP server says why"
    assert "TypeError" in caplog.text


async def test_a_cancelled_call_ends_for_the_client_only(plane, connect, held, audit_path):
    running, end = held

    async with connect("operator") as client:
        call = asyncio.create_task(client.call_tool("hold"))
        assert await asyncio.to_thread(running.wait, 10)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        answered(await client.call_tool("list_stacks"))

    assert_it_succeeds(plane, end, audit_path)


async def test_a_client_that_goes_leaves_its_call_to_end(plane, connect, held, audit_path):
    running, end = held

    async with connect("operator") as client:
        call = asyncio.create_task(client.call_tool("hold"))
        assert await asyncio.to_thread(running.wait, 10)
    with pytest.raises(MCPError):
        await call

    assert_it_succeeds(plane, end, audit_path)


def assert_it_succeeds(plane, end, audit_path):
    end.set()
    plane.stop()
    (entry,) = AuditFile(audit_path).entries()
    assert (entry.command, entry.status) == ("hold", "succeeded")


async def test_nothing_is_changed_that_can_not_be_written_down(connect, shop, audit_path):
    audit_path.unlink()

    async with connect("operator") as client:
        answer = told(await client.call_tool("set_parameter", {"path": PATH, "value": 5}))

    assert answer["code"] == "audit_unavailable"
    assert shop.parameters["retry/max_attempts"].get() == 3
