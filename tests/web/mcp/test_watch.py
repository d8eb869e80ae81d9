"""A tool that waits for events."""

import asyncio

import pytest
from jsonschema import Draft202012Validator
from mcp.shared.exceptions import MCPError

from ninelives_control.transports.mcp import watch as mcp_watch

from .clients import answered, told

PATH = "shop/retry/max_attempts"
EVERYWHERE = pytest.mark.parametrize(
    "link", ["http auto", "http legacy", "stdio auto", "stdio legacy"], indirect=True
)


class Progress:
    """Does something when the tool has begun to wait."""

    def __init__(self, act):
        self.reports = []
        self._act = act

    async def __call__(self, progress, total, message):
        self.reports.append((progress, total, message))
        if len(self.reports) == 1:
            self._act()


@EVERYWHERE
async def test_it_returns_what_happens_meanwhile(connect, plane):
    plane.execute("set_parameter", path=PATH, value=4, reason="before")
    progress = Progress(lambda: plane.execute("set_parameter", path=PATH, value=5, reason="now"))

    async with connect("viewer") as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        wanted = {"stack": "shop", "kinds": ["ParameterChanged"], "seconds": 60, "limit": 1}
        result = await client.call_tool("watch_events", wanted, progress_callback=progress)

    (event,) = answered(result)["events"]
    assert (event["reason"], event["number"], result.structured_content["dropped"]) == (
        "now",
        None,
        0,
    )
    Draft202012Validator(tools["watch_events"].output_schema).validate(result.structured_content)
    began, total, message = progress.reports[0]
    assert (began < 1, total, message) == (True, 60, "0 events")


@pytest.mark.parametrize("link", ["http legacy"], indirect=True)
async def test_it_waits_no_longer_than_it_is_asked_to(connect, plane, monkeypatch):
    monkeypatch.setattr(mcp_watch, "_TICK", 0.01)
    progress = Progress(lambda: None)

    async with connect("viewer") as client:
        result = await client.call_tool(
            "watch_events", {"seconds": 0.2}, progress_callback=progress
        )

    assert answered(result) == {"events": [], "dropped": 0}
    done = [progress for progress, _, _ in progress.reports]
    assert len(done) > 1
    assert done == sorted(done)
    assert done[-1] < 0.2


@pytest.mark.parametrize("link", ["http auto", "stdio legacy"], indirect=True)
async def test_wrong_arguments_are_told(connect):
    async with connect("viewer") as client:
        for arguments, field in (
            ({"seconds": 61}, "seconds"),
            ({"seconds": 0}, "seconds"),
            ({"second": 1}, "second"),
            ({"limit": 0}, "limit"),
            ({"severity": "loud"}, "severity"),
        ):
            error = told(await client.call_tool("watch_events", arguments))
            assert (error["code"], error["field"]) == ("invalid_argument", field)
        error = told(await client.call_tool("watch_events", {"stack": "shoe"}))
        assert (error["code"], "did you mean shop" in error["message"]) == ("not_found", True)
        error = told(await client.call_tool("watch_events", {"kinds": ["CircuitOpend"]}))
        assert error["code"] == "not_found"


@pytest.mark.parametrize("link", ["stdio auto", "stdio legacy"], indirect=True)
async def test_who_is_not_known_watches_nothing(connect, entries):
    async with connect("stranger") as client:
        with pytest.raises(MCPError, match="the token is unknown"):
            await client.call_tool("watch_events")

    assert [(entry.command, entry.reason) for entry in entries()] == [("watch", "unauthenticated")]


@EVERYWHERE
async def test_a_client_that_cancels_is_watched_for_no_more(connect, plane, ended):
    begun = asyncio.Event()
    progress = Progress(begun.set)

    async with connect("viewer") as client:
        call = asyncio.create_task(
            client.call_tool("watch_events", {"seconds": 60}, progress_callback=progress)
        )
        await asyncio.wait_for(begun.wait(), 10)
        call.cancel()
        await asyncio.wait([call])
        assert await asyncio.to_thread(ended.wait, 10)
