import json

import pytest
from jsonschema import Draft202012Validator
from pydantic import Field

from ninelives_control.command import Context, Effect
from ninelives_control.model import Arguments, Result
from ninelives_control.transports.mcp.watch import TOOL, WatchFor
from tests.control import added
from tests.control.tried import ATTEMPTS, CHANGED, READS, changes

from .clients import MODES, answered, told

PASSING = {"seconds", "calls_per_second", "time", "since", "closed"}


async def test_the_client_speaks_the_protocol_of_its_era(connect, mode):
    async with connect("viewer") as client:
        assert client.protocol_version == MODES[mode]
        assert client.server_info.name == "ninelives"
        assert "list_stacks" in client.instructions


async def test_there_is_a_tool_for_each_command_that_a_role_may_use(connect, plane):
    for entry in added.ALL:
        plane.commands.add(entry)
    names = {
        effect: {entry.name for entry in plane.commands if entry.effect is effect}
        for effect in Effect
    }
    reads = names[Effect.READ] | {"watch_events"}

    for role, expected in {
        "viewer": reads - {"get_audit"},
        "agent": reads - {"get_audit"} | {*CHANGED} - {"force_circuit_breaker"},
        "operator": reads | names[Effect.CHANGE],
        "admin": reads.union(*names.values()),
    }.items():
        async with connect(role) as client:
            tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == sorted(expected)


async def test_a_tool_tells_what_it_does(connect, plane):
    plane.commands.add(added.erase)

    async with connect("admin") as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}

    for entry in plane.commands:
        tool = tools[entry.name]
        assert tool.description.startswith(entry.summary)
        hints = tool.annotations
        assert hints.read_only_hint is (entry.effect is Effect.READ)
        assert hints.destructive_hint is (entry.effect is Effect.DESTRUCTIVE)
        assert hints.idempotent_hint is (entry.effect is Effect.READ)
        assert hints.open_world_hint is False
    assert tools["set_parameter"].title == "Set parameter"
    assert "audit" in tools["set_parameter"].description
    assert "confirm" in tools["erase"].description


async def test_schemas_are_in_one_piece_and_valid(connect, plane):
    async with connect("admin") as client:
        tools = (await client.list_tools()).tools

    for tool in tools:
        for schema in (tool.input_schema, tool.output_schema):
            Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object"
            assert "$ref" not in json.dumps(schema)
        own = {TOOL.name: WatchFor}.get(tool.name)
        fields = set((own or plane.commands.get(tool.name).arguments).model_fields)
        assert set(tool.input_schema.get("properties", ())) == fields
        assert tool.input_schema["additionalProperties"] is False


def test_the_examples_are_all_built_in_commands(plane):
    assert {entry.name for entry in plane.commands} == {*READS, *CHANGED}


async def test_what_is_read_is_what_the_process_itself_reads(connect, plane, shop):
    shop.call(lambda: 1)
    plane.execute("set_parameter", path=ATTEMPTS, value=5, lease=3600)

    async with connect("admin") as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        for name, arguments in READS.items():
            result = await client.call_tool(name, arguments)
            expected = plane.execute(name, **arguments).model_dump(mode="json")
            assert _timeless(answered(result)) == _timeless(expected)
            assert json.loads(result.content[0].text) == result.structured_content
            Draft202012Validator(tools[name].output_schema).validate(result.structured_content)
            Draft202012Validator(tools[name].input_schema).validate(arguments)


def _timeless(values):
    """Leave out what is another at each look."""
    if isinstance(values, list):
        return [_timeless(value) for value in values]
    if isinstance(values, dict):
        return {name: _timeless(value) for name, value in values.items() if name not in PASSING}
    return values


async def test_a_change_is_made_and_written_down_once(connect, way, entries, plane):
    wanted = changes(plane)
    before = len(entries())
    ids = []

    async with connect("operator") as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        for name, arguments in wanted.items():
            result = answered(await client.call_tool(name, arguments))
            Draft202012Validator(tools[name].output_schema).validate(result)
            ids.append(result.pop("id", None))
            assert result == CHANGED[name]

    made = entries()[before:]
    assert [entry.command for entry in made] == list(wanted)
    assert all(key in {None, entry.id} for key, entry in zip(ids, made, strict=True))
    for entry in made:
        assert (entry.identity, entry.role, entry.status) == ("operator", "operator", "succeeded")
        assert entry.transport == {"http": "mcp", "stdio": "grpc"}[way]


async def test_a_parameter_is_changed_for_the_program(connect, shop, entries):
    async with connect("agent") as client:
        result = await client.call_tool("set_parameter", {"path": ATTEMPTS, "value": 5})

    (entry,) = entries()
    assert answered(result) == {**CHANGED["set_parameter"], "id": entry.id}
    assert shop.parameters["retry/max_attempts"].get() == 5
    assert (entry.old, entry.new) == (3, 5)


async def test_a_dry_run_changes_nothing(connect, shop):
    async with connect("operator") as client:
        result = await client.call_tool(
            "set_parameter", {"path": ATTEMPTS, "value": 5, "dry_run": True}
        )

    assert answered(result)["dry_run"] is True
    assert shop.parameters["retry/max_attempts"].get() == 3


async def test_no_arguments_are_the_same_as_empty_ones(connect):
    async with connect("viewer") as client:
        assert answered(await client.call_tool("list_stacks"))["total"] == 1


async def test_an_application_may_add_tools_while_clients_are_connected(connect, plane):
    async with connect("operator") as client:
        assert "note" not in {tool.name for tool in (await client.list_tools()).tools}
        plane.commands.add(added.note)
        tools = (await client.list_tools(cache_mode="bypass")).tools
        result = await client.call_tool("note", {"text": "hello"})

    assert "note" in {tool.name for tool in tools}
    assert answered(result) == {"text": "hello", "by": "operator"}


class Odd(Result):
    """A text that is none."""

    text: str = Field(description="It.")


def odd(arguments: Arguments, context: Context) -> Odd:
    """Return a text that can not be said in JSON."""
    return Odd(text="\ud800")


@pytest.mark.parametrize("link", ["http auto", "http legacy"], indirect=True)
async def test_an_answer_that_can_not_be_sent_tells_nothing_of_why(connect, plane, caplog):
    plane.commands.command(Effect.READ)(odd)

    async with connect("viewer") as client:
        answer = told(await client.call_tool("odd"))

    assert answer["code"] == "internal"
    assert "surrogates" not in answer["message"]
    assert "surrogates" in caplog.text
