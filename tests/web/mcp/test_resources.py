"""Resources say what commands answer, to those who may use the commands."""

import json

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from ninelives_control import ControlPlane
from ninelives_control.transports.mcp import resources as mcp_resources
from ninelives_grpc import Retry, Stack

from .clients import MODERN

STACKS = "ninelives://stacks"
NOT_FOUND = -32002
RULES = """
[[rules]]
id = "shop-only"
roles = ["viewer"]
effects = ["read"]
paths = ["shop/**"]
"""

pytestmark = pytest.mark.parametrize("link", ["http auto", "stdio legacy"], indirect=True)


async def read(client, uri):
    (content,) = (await client.read_resource(uri)).contents
    assert (content.uri, content.mime_type) == (uri, "application/json")
    return json.loads(content.text)


async def test_what_there_is_is_listed(connect, registry):
    Stack("sh op*ü", Retry(3), registry=registry)

    async with connect("viewer") as client:
        resources = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates

        assert [resource.uri for resource in resources] == [
            STACKS,
            "ninelives://metrics",
            "ninelives://events",
            "ninelives://commands",
            f"{STACKS}/sh%20op%2A%C3%BC",
            f"{STACKS}/shop",
        ]
        for resource in resources:
            assert await read(client, resource.uri)
            assert resource.mime_type == "application/json"
    assert [template.uri_template for template in templates] == [
        f"{STACKS}/{{stack}}",
        f"{STACKS}/{{stack}}/{{policy}}",
    ]


async def test_they_say_what_commands_answer(connect, plane):
    def answer(name, **arguments):
        return plane.execute(name, **arguments).model_dump(mode="json")

    plane.execute("set_parameter", path="shop/retry/max_attempts", value=5, reason="a try")

    async with connect("viewer") as client:
        stacks = await read(client, STACKS)
        stack = await read(client, f"{STACKS}/shop")
        policy = await read(client, f"{STACKS}/shop/retry")
        metrics = await read(client, "ninelives://metrics")
        events = await read(client, "ninelives://events")
        commands = await read(client, "ninelives://commands")

    assert stacks == answer("list_stacks")
    assert stack["name"] == "shop"
    assert stack["expression"] == stacks["stacks"][0]["expression"]
    assert stack["policies"] == answer("list_policies")["policies"]
    assert stack["parameters"] == answer("list_parameters")["parameters"]
    assert stack["state"]["policies"][1]["path"] == "shop/retry"
    assert policy == answer("describe_policy", path="shop/retry")
    assert metrics["stacks"][0]["name"] == "shop"
    assert events["events"] == answer("list_events")["events"]
    assert events["events"][-1]["reason"] == "a try"
    assert [info["name"] for info in commands["commands"]] == [
        entry.name for entry in plane.commands
    ]
    assert {info["allowed"] for info in commands["commands"]} == {True, False}


async def test_of_the_events_the_last_ones_are_told(connect, plane, monkeypatch):
    monkeypatch.setattr(mcp_resources, "_LAST_EVENTS", 3)
    monkeypatch.setattr(mcp_resources, "MAX_PAGE", 2)
    for value in range(1, 8):
        plane.execute(
            "set_parameter", path="shop/retry/max_attempts", value=value, reason=f"{value}"
        )

    async with connect("viewer") as client:
        events = await read(client, "ninelives://events")

    assert [event["reason"] for event in events["events"]] == ["5", "6", "7"]


async def test_what_is_not_there_is_not_found(connect):
    async with connect("viewer") as client:
        modern = client.protocol_version == MODERN
        for uri in (
            f"{STACKS}/shoe",
            f"{STACKS}/shop/rety",
            f"{STACKS}/shop%2Fretry",
            f"{STACKS}/shop/retry/max_attempts",
            f"{STACKS}/",
            f"{STACKS}/{'x' * 2000}",
            "ninelives://metrics/shop",
            "ninelives://",
            "ninelives://audit",
            "file:///etc/passwd",
        ):
            with pytest.raises(MCPError) as caught:
                await client.read_resource(uri)
            assert caught.value.error.code == (INVALID_PARAMS if modern else NOT_FOUND)
            assert caught.value.error.data == {"uri": uri, "code": "not_found"}


class TestRules:
    """For somebody who may see one stack."""

    @pytest.fixture
    def plane(self, registry, shop, tokens, tokens_path, audit_path, tmp_path):
        Stack("other", Retry(3), registry=registry)
        rules = tmp_path / "rules.toml"
        rules.write_text(RULES)
        with ControlPlane(
            registry,
            grpc_port=0,
            http_port=0,
            tokens=tokens_path,
            rules=rules,
            audit=audit_path,
        ) as plane:
            yield plane

    async def test_only_that_stack_can_be_read(self, connect):
        async with connect("viewer") as client:
            stack = await read(client, f"{STACKS}/shop")
            assert (await read(client, f"{STACKS}/shop/retry"))["path"] == "shop/retry"
            for uri in (f"{STACKS}/other", f"{STACKS}/other/retry", STACKS, "ninelives://events"):
                with pytest.raises(MCPError) as caught:
                    await client.read_resource(uri)
                assert caught.value.error.data["code"] == "permission_denied"

        assert stack["expression"] is None
        assert {policy["path"].partition("/")[0] for policy in stack["policies"]} == {"shop"}
