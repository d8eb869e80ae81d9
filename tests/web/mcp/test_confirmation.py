"""What can not be undone is confirmed by a person."""

import time
from types import SimpleNamespace

import pytest
from mcp.server import request_state
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    ElicitResult,
    ErrorData,
    InputRequiredResult,
)

from ninelives_control.identity import tokens as token_file
from ninelives_control.transports.mcp import confirm as mcp_confirm
from tests.control import added

from .clients import answered, over_http, told

YES = ElicitResult(action="accept", content={"confirm": True})
NOES = (
    ElicitResult(action="decline"),
    ElicitResult(action="cancel"),
    ElicitResult(action="accept", content={"confirm": False}),
)


@pytest.fixture
def plane(plane):
    for entry in added.ALL:
        plane.commands.add(entry)
    return plane


class Person:
    """Somebody who is asked, and answers."""

    def __init__(self, *answers):
        self.asked = []
        self._answers = answers

    async def __call__(self, context, params):
        self.asked.append(params)
        return self._answers[len(self.asked) - 1]


async def test_it_is_done_once_a_person_agrees(connect, entries):
    person = Person(YES)

    async with connect("admin", elicitation_callback=person) as client:
        result = await client.call_tool("erase", {"text": "all", "password": "x" * 2000})

    assert answered(result) == {"text": "gone", "by": "admin"}
    (asked,) = person.asked
    assert asked.message.startswith('erase can not be undone. Arguments: {"password":"xxx')
    assert len(asked.message) == 500
    assert asked.requested_schema["required"] == ["confirm"]
    (entry,) = entries()
    assert (entry.command, entry.status) == ("erase", "succeeded")


async def test_it_is_not_done_if_the_person_does_not_agree(connect, way, entries):
    person = Person(*NOES)

    async with connect("admin", elicitation_callback=person) as client:
        refusals = [
            told(await client.call_tool("erase", {"text": "all", "password": "swordfish"}))
            for _ in NOES
        ]

    for refusal, answer in zip(refusals, NOES, strict=True):
        assert refusal["code"] == "permission_denied"
        assert f"was not confirmed ({answer.action})" in refusal["message"]
    assert len(person.asked) == len(NOES)
    assert [(entry.status, entry.reason) for entry in entries()] == [
        ("refused", "permission_denied")
    ] * len(NOES)
    assert {(entry.identity, entry.command, entry.transport) for entry in entries()} == {
        ("admin", "erase", {"http": "mcp", "stdio": "grpc"}[way])
    }
    assert "swordfish" not in str(entries())


async def test_it_is_not_done_for_a_client_that_can_not_ask(connect, entries):
    async with connect("admin") as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool("erase")

    assert caught.value.error.code == MISSING_REQUIRED_CLIENT_CAPABILITY
    assert caught.value.error.data == {"requiredCapabilities": {"elicitation": {"form": {}}}}
    assert [(entry.command, entry.status, entry.reason) for entry in entries()] == [
        ("erase", "refused", "permission_denied")
    ]


async def test_it_is_not_done_if_the_client_fails_to_ask(connect, mode, entries):
    person = Person(ErrorData(code=-32000, message="the window is closed"))

    async with connect("admin", elicitation_callback=person) as client:
        with pytest.raises(MCPError, match="the window is closed"):
            await client.call_tool("erase")

    # A newer client is on its own then, and the server hears nothing of it.
    assert [(entry.command, entry.status, entry.reason) for entry in entries()] == [
        ("erase", "refused", "permission_denied")
    ] * (mode == "legacy")


async def test_nobody_is_asked_for_what_would_be_refused(connect, entries):
    person = Person(YES)

    async with connect("operator", elicitation_callback=person) as client:
        refusal = told(await client.call_tool("erase"))

    assert refusal["code"] == "permission_denied"
    assert "may not use" in refusal["message"]
    (entry,) = entries()
    assert (entry.identity, entry.command, entry.status) == ("operator", "erase", "refused")
    assert person.asked == []


async def test_nobody_is_asked_for_what_can_be_undone(connect):
    person = Person(YES)

    async with connect("operator", elicitation_callback=person) as client:
        answered(await client.call_tool("note", {"text": "hello"}))
        answered(await client.call_tool("get_state"))

    assert person.asked == []


@pytest.mark.parametrize("link", ["http auto"], indirect=True)
async def test_a_confirmation_that_nobody_asked_for_counts_for_nothing(connect, entries):
    async with connect("admin", elicitation_callback=Person(YES)) as client:
        asked = await client.session.call_tool(
            "erase", input_responses={"confirm": YES}, allow_input_required=True
        )
        with pytest.raises(MCPError) as caught:
            await client.session.call_tool(
                "erase", input_responses={"confirm": YES}, request_state="asked"
            )

    assert isinstance(asked, InputRequiredResult)
    assert caught.value.error.code == INVALID_PARAMS
    assert [(entry.command, entry.status, entry.reason) for entry in entries()] == [
        ("erase", "refused", "permission_denied")
    ]


@pytest.mark.parametrize("link", ["http auto", "stdio auto"], indirect=True)
async def test_a_confirmation_counts_once(connect, entries):
    async with connect("admin", elicitation_callback=Person(YES)) as client:
        asked = await client.session.call_tool("erase", allow_input_required=True)
        confirmed = {"input_responses": {"confirm": YES}, "request_state": asked.request_state}
        answered(await client.session.call_tool("erase", **confirmed))
        with pytest.raises(MCPError, match="has been used") as caught:
            await client.session.call_tool("erase", **confirmed)

    assert caught.value.error.code == INVALID_PARAMS
    assert [entry.status for entry in entries()] == ["succeeded", "refused"]


@pytest.mark.parametrize("link", ["http auto"], indirect=True)
async def test_a_confirmation_does_not_count_for_ever(connect, entries, monkeypatch):
    async with connect("admin", elicitation_callback=Person(YES)) as client:
        asked = await client.session.call_tool("erase", allow_input_required=True)
        later = SimpleNamespace(time=lambda: time.time() + 3600)
        monkeypatch.setattr(request_state, "time", later)
        with pytest.raises(MCPError, match="requestState"):
            await client.session.call_tool(
                "erase", input_responses={"confirm": YES}, request_state=asked.request_state
            )

    assert [(entry.command, entry.status, entry.reason) for entry in entries()] == [
        ("erase", "refused", "permission_denied")
    ]


@pytest.mark.parametrize("link", ["http auto"], indirect=True)
async def test_only_so_many_confirmations_are_waited_for(connect, entries, monkeypatch):
    monkeypatch.setattr(mcp_confirm, "_MOST_ASKED", 1)
    async with connect("admin", elicitation_callback=Person(YES)) as client:
        first, last = [
            await client.session.call_tool("erase", allow_input_required=True) for _ in range(2)
        ]
        with pytest.raises(MCPError, match="too old"):
            await client.session.call_tool(
                "erase", input_responses={"confirm": YES}, request_state=first.request_state
            )
        result = await client.session.call_tool(
            "erase", input_responses={"confirm": YES}, request_state=last.request_state
        )

    assert answered(result)["text"] == "gone"


@pytest.mark.parametrize("link", ["http auto"], indirect=True)
async def test_a_confirmation_is_for_those_arguments_only(connect, entries):
    async with connect("admin", elicitation_callback=Person(YES)) as client:
        asked = await client.session.call_tool("erase", {"text": "a"}, allow_input_required=True)
        with pytest.raises(MCPError, match="requestState"):
            await client.session.call_tool(
                "erase",
                {"text": "b"},
                input_responses={"confirm": YES},
                request_state=asked.request_state,
            )

    assert [(entry.command, entry.status, entry.reason) for entry in entries()] == [
        ("erase", "refused", "permission_denied")
    ]


async def test_a_confirmation_is_for_that_caller_only(url, plane, tokens, tokens_path, entries):
    other = token_file.create(tokens_path, "other", "admin")

    async with over_http(url, tokens["admin"], elicitation_callback=Person(YES)) as client:
        asked = await client.session.call_tool("erase", allow_input_required=True)
    async with over_http(url, other, elicitation_callback=Person(YES)) as client:
        with pytest.raises(MCPError, match="requestState"):
            await client.session.call_tool(
                "erase", input_responses={"confirm": YES}, request_state=asked.request_state
            )

    assert [(entry.command, entry.status, entry.reason) for entry in entries()] == [
        ("erase", "refused", "permission_denied")
    ]
