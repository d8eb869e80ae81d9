"""Commands that come and go while clients are connected, over every transport."""

import asyncio
import dataclasses
import json

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from gql import gql
from gql.transport.exceptions import TransportQueryError

from ninelives_control.command import Effect
from ninelives_control.v1 import control_pb2 as pb
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from tests.control import added
from tests.web.graphql_asker import session
from tests.web.http_asker import JSON, fetch

NOTE = 'mutation { note(text: "x") { by } }'


@pytest.fixture
def stub(plane):
    with grpc.insecure_channel(f"127.0.0.1:{plane.grpc_port}") as channel:
        yield ControlServiceStub(channel)


@pytest.fixture
def outcomes(plane, tokens, ask, stub):
    """Return what each transport tells of the command `note`, in a word."""
    shown = {"Authorization": f"Bearer {tokens['operator']}"}
    metadata = [("authorization", shown["Authorization"])]

    def over_graphql():
        try:
            return ask("operator", NOTE)["note"]["by"]
        except TransportQueryError as error:
            return error.errors[0]["extensions"]["code"]

    def over_rest():
        answer = fetch(plane, "POST", "/v1/commands/note", b'{"text": "x"}', JSON | shown).json
        return answer.get("by") or answer["code"]

    def over_grpc():
        arguments = Struct()
        arguments.update({"text": "x"})
        request = pb.ExecuteRequest(command="note", arguments=arguments)
        try:
            return stub.Execute(request, metadata=metadata, timeout=10).result["by"]
        except grpc.RpcError as error:
            return "unknown_command" if "no command named" in error.details() else error

    def listed():
        request = pb.ListCommandsRequest(match="note")
        return stub.ListCommands(request, metadata=metadata, timeout=10).total

    def described():
        document = fetch(plane, "GET", "/v1/openapi.json", headers=shown).json
        return "/v1/commands/note" in document["paths"]

    return lambda: (over_graphql(), over_rest(), over_grpc(), listed(), described())


def test_a_command_is_served_from_when_it_is_added_until_it_is_removed(plane, outcomes):
    gone = ("unknown_command", "unknown_command", "unknown_command", 0, False)
    there = ("operator", "operator", "operator", 1, True)

    assert outcomes() == gone
    plane.commands.add(added.note)
    assert outcomes() == there
    plane.commands.remove("note")
    assert outcomes() == gone
    plane.commands.add(added.note)
    assert outcomes() == there


def test_a_command_that_takes_the_place_of_another_is_the_one_that_is_served(plane, ask):
    plane.commands.add(added.note)
    assert ask("operator", NOTE)["note"] == {"by": "operator"}

    plane.commands.remove("note")
    plane.commands.add(dataclasses.replace(added.move, name="note"))

    assert ask("operator", "mutation { note { old new } }")["note"] == {"old": 1, "new": 2}


def test_a_subscription_goes_on_and_the_connection_learns_of_commands(plane, tokens):
    watch = gql("subscription { events { events { name } } }")

    async def main():
        async with session(plane, tokens["operator"]) as opened:
            told = opened.subscribe(watch)
            await anext(told)
            plane.commands.add(added.note)
            answer = await opened.execute(gql(NOTE))
            plane.commands.remove("note")
            with pytest.raises(TransportQueryError) as caught:
                await opened.execute(gql(NOTE))
            await asyncio.to_thread(
                plane.execute, "set_parameter", path="shop/retry/max_attempts", value=5
            )
            event = await anext(told)
            await told.aclose()
            return answer, caught.value.errors[0]["extensions"], event

    answer, gone, event = asyncio.run(main())

    assert answer == {"note": {"by": "operator"}}
    assert gone == {"code": "unknown_command"}
    assert event == {"events": {"events": [{"name": "ParameterChanged"}]}}


def test_names_that_are_one_in_camel_case_are_two_fields(plane, ask):
    plane.commands.add(dataclasses.replace(added.note, name="a1"))
    plane.commands.add(dataclasses.replace(added.move, name="a_1"))

    answer = ask("operator", 'mutation { a1(text: "x") { text } a_1 { new } }')

    assert answer == {"a1": {"text": "x"}, "a_1": {"new": 2}}


def test_a_command_has_its_name_though_it_is_that_of_a_field_of_ours(plane, ask):
    plane.commands.add(dataclasses.replace(added.note, name="stacks", effect=Effect.READ))

    assert ask("viewer", '{ stacks(text: "x") { text } }') == {"stacks": {"text": "x"}}


def test_without_a_command_that_reads_the_others_are_served(plane, ask):
    for entry in tuple(plane.commands):
        if entry.effect is Effect.READ:
            plane.commands.remove(entry.name)

    assert ask("operator", "{ nothing }") == {"nothing": True}
    changed = ask(
        "operator",
        f"mutation {{ setParameter(path: {json.dumps('shop/retry/max_attempts')}, value: 5) "
        "{ new } }",
    )
    assert changed == {"setParameter": {"new": 5}}
