import asyncio
from pathlib import Path

import pytest
from gql import gql
from graphql import build_schema, lexicographic_sort_schema, print_schema

from ninelives_control.transports.graphql.schema import schema_for

GOLDEN = Path(__file__).with_name("schema.graphql")


@pytest.fixture
def printed(plane):
    return schema_for(plane.dispatcher).as_str() + "\n"


def test_the_schema_is_the_one_that_clients_know(printed):
    """To renew it after a change that is meant: delete the file, and run this test twice."""
    if not GOLDEN.exists():
        GOLDEN.write_text(printed, encoding="utf-8")
        pytest.fail(f"{GOLDEN} was missing, and is written now; look at its difference in git")

    assert printed == GOLDEN.read_text(encoding="utf-8")


def test_a_client_learns_the_schema_by_introspection(ask, printed):
    client = ask.client("viewer", fetch_schema_from_transport=True)

    async def main():
        async with client as session:
            return await session.execute(gql("{ listStacks { total } }"))

    assert asyncio.run(main()) == {"listStacks": {"total": 1}}
    assert in_order(client.schema) == in_order(build_schema(printed))


def in_order(schema):
    return print_schema(lexicographic_sort_schema(schema))


def test_commands_arguments_fields_and_types_are_described(ask, plane):
    told = ask(
        None,
        """
        {
          __schema {
            mutationType { fields { name description args { name description } } }
            types { name description fields { name description } }
          }
        }
        """,
    )["__schema"]

    fields = {field["name"]: field for field in told["mutationType"]["fields"]}
    assert fields["setParameter"]["description"] == plane.commands.get("set_parameter").summary
    described = {entry["name"]: entry["description"] for entry in fields["setParameter"]["args"]}
    assert described["reason"] == "Why, for the audit and the event."
    assert described["dryRun"] == "Check only, and change nothing. Default: false."
    for kind in told["types"]:
        if kind["name"] not in {"Query", "Mutation", "Subscription"}:
            assert kind["description"], kind["name"]
        for field in kind["fields"] or ():
            assert field["description"] or kind["name"].startswith("__"), field
