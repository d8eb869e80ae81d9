"""Prompts lead to what there is."""

import re

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from ninelives_control.commands import BUILT_IN
from ninelives_control.transports.mcp.resources import place_of
from ninelives_control.transports.mcp.watch import TOOL

PLAN = {"path": "shop/retry/max_attempts", "goal": "fewer errors {at night}"}
WRONG = (
    ("diagnose", {}, "there is no prompt 'diagnose'; there are diagnose_errors, plan_change"),
    ("plan_change", {"path": "a/b/c"}, "goal is missing"),
    ("plan_change", {"path": "", "goal": "x"}, "path is missing"),
    ("diagnose_errors", {"stac": "x"}, "diagnose_errors has no argument 'stac'; it has stack"),
    ("diagnose_errors", {"stack": "x" * 1001}, "stack must have at most 1000 characters"),
)
AWAITED = {"apply_parameters", "list_leases", "undo_change"}
"""Commands on their way."""


async def text_of(client, name, arguments):
    (message,) = (await client.get_prompt(name, arguments)).messages
    assert message.role == "user"
    return message.content.text


@pytest.mark.parametrize("link", ["http auto"], indirect=True)
async def test_prompts_are_listed_with_their_arguments(connect):
    async with connect("viewer") as client:
        prompts = (await client.list_prompts()).prompts

    assert {
        prompt.name: {argument.name: bool(argument.required) for argument in prompt.arguments}
        for prompt in prompts
    } == {"diagnose_errors": {"stack": False}, "plan_change": {"path": True, "goal": True}}


@pytest.mark.parametrize("link", ["http auto"], indirect=True)
async def test_what_a_prompt_names_is_there(connect):
    async with connect("viewer") as client:
        texts = [
            await text_of(client, "diagnose_errors", {}),
            await text_of(client, "diagnose_errors", {"stack": "shop"}),
            await text_of(client, "plan_change", PLAN),
        ]

    known = {entry.name for entry in BUILT_IN} | {TOOL.name} | AWAITED
    for text in texts:
        called = set(re.findall(r"(?:[Cc]all|use|or call) `(\w+)`", text))
        assert called
        assert called <= known
        for uri in re.findall(r"ninelives://[\w/]+", text):
            assert place_of(uri) is not None
    for word in ("expected_revision", "dry_run", "reason", "lease", "undo_change", "watch_events"):
        assert f"`{word}`" in texts[2]


@pytest.mark.parametrize("link", ["http auto"], indirect=True)
async def test_what_is_given_stands_in_the_text(connect):
    async with connect("viewer") as client:
        everywhere = await text_of(client, "diagnose_errors", None)
        here = await text_of(client, "diagnose_errors", {"stack": "shop"})
        plan = await text_of(client, "plan_change", PLAN)

    assert "shop" not in everywhere
    assert "through the stack `shop`" in here
    assert plan.count(PLAN["path"]) == 1
    assert PLAN["goal"] in plan


@pytest.mark.parametrize("link", ["stdio legacy"], indirect=True)
async def test_wrong_arguments_are_told_in_a_sentence(connect):
    async with connect("viewer") as client:
        for name, arguments, message in WRONG:
            with pytest.raises(MCPError) as caught:
                await client.get_prompt(name, arguments)
            assert caught.value.error.code == INVALID_PARAMS
            assert caught.value.error.message == message
