import asyncio

import pytest
from gql import gql

from ninelives_control import ControlPlane
from ninelives_control.command import Effect
from ninelives_control.commands import BUILT_IN
from ninelives_grpc import Stack
from tests.control.tried import ATTEMPTS, BREAKER, CHANGED, READS, changes, expression
from tests.web.graphql_asker import Asker, document, literal, told

SET = """
mutation Set($path: String!, $value: ParameterValue, $expected: Long) {
  setParameter(path: $path, value: $value, expectedRevision: $expected) { old new revision }
}
"""


@pytest.fixture
def shop(registry, clock):
    """A stack in which no time passes, so that what is told twice is the same."""
    shop = Stack("shop", expression(), registry=registry, clock=clock)
    shop.call(lambda: 1)
    return shop


def test_every_command_is_tried_here():
    assert {entry.name for entry in BUILT_IN if entry.effect is Effect.READ} == set(READS)
    assert {entry.name for entry in BUILT_IN} == set(READS) | set(CHANGED)


@pytest.mark.parametrize("name", READS)
def test_a_query_tells_what_the_command_tells(ask, plane, name):
    plane.execute("set_parameter", path=ATTEMPTS, value=5, lease=3600)
    entry = plane.commands.get(name)

    (answer,) = ask("admin", document("query", name, READS[name], entry.result)).values()

    expected = told(plane.execute(name, **READS[name]))
    # The only thing that is another one when asked again, as the stacks have a clock of their own.
    for each in (answer, expected):
        each.pop("time", None)
    assert answer == expected


@pytest.mark.parametrize("name", CHANGED)
def test_a_mutation_tells_what_it_did_and_stands_in_the_audit(ask, plane, entries, name):
    arguments = changes(plane)[name]
    before = len(entries())
    entry = plane.commands.get(name)

    (answer,) = ask("operator", document("mutation", name, arguments, entry.result)).values()

    (audited,) = entries()[before:]
    assert answer.pop("id", audited.id) == audited.id
    assert answer == told(CHANGED[name])
    assert (audited.identity, audited.command, audited.transport, audited.status) == (
        "operator",
        name,
        "graphql",
        "succeeded",
    )


def test_a_mutation_changes_what_runs(ask, shop):
    ask("operator", SET, path=ATTEMPTS, value=5, expected=1)

    assert shop.parameters["retry/max_attempts"].get() == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout/seconds", 2.5),
        ("timeout/seconds", 3),
        ("timeout/refuse_hopeless", False),
        ("circuit_breaker/mode", "open"),
        ("retry/max_attempts", 7),
    ],
)
def test_values_of_every_kind_can_be_sent_as_variables_and_as_literals(ask, plane, name, value):
    path = f"shop/{name}"

    by_literal = f'mutation {{ setParameter(path: "{path}", value: {literal(value)}) {{ new }} }}'

    assert ask("admin", SET, path=path, value=value)["setParameter"]["new"] == value
    assert ask("admin", by_literal)["setParameter"]["new"] == value
    assert plane.execute("get_parameter", path=path).value == value


def test_a_flag_is_no_number(ask):
    error, *_ = ask.errors("admin", SET, path=ATTEMPTS, value=True)

    assert "must be a whole number" in error["message"]


def test_null_is_a_value(ask):
    path = f"{BREAKER}/consecutive_failures"
    ask("admin", SET, path=path, value=5)

    answer = ask("admin", SET, path=path, value=None)

    assert answer["setParameter"] == {"old": 5, "new": None, "revision": 3}


def test_numbers_may_be_longer_than_32_bits(ask):
    error, *_ = ask.errors(
        "viewer", "query($of: Long) { listStacks(limit: $of) { total } }", of=2**40
    )

    assert "must be less than or equal to 1000" in error["message"]


def test_several_commands_go_into_one_document_under_names_of_their_own(ask):
    answer = ask(
        "viewer",
        """
        query {
          attempts: getParameter(path: "shop/retry/max_attempts") { ...Value }
          places: getParameter(path: "shop/bulkhead/max_concurrent") { ...Value }
          ...Names
        }
        fragment Value on Parameter { value declared type }
        fragment Names on Query { listStacks { stacks { ... on Stack { name } } } }
        """,
    )

    assert answer == {
        "attempts": {"value": 3, "declared": 3, "type": "INT"},
        "places": {"value": 4, "declared": 4, "type": "INT"},
        "listStacks": {"stacks": [{"name": "shop"}]},
    }


def test_mutations_of_one_document_run_one_after_the_other(ask, entries):
    changes = " ".join(
        f'm{n}: setParameter(path: "{ATTEMPTS}", value: {n}, expectedRevision: {n}) {{ old new }}'
        for n in range(1, 11)
    )

    answer = ask("operator", f"mutation {{ {changes} }}")

    assert [change["new"] for change in answer.values()] == list(range(1, 11))
    assert [entry.new for entry in entries()] == list(range(1, 11))


def test_a_command_that_fails_leaves_the_others_their_results(ask, shop):
    error, *_ = ask.errors(
        "operator",
        f"""
        mutation {{
          first: setParameter(path: "{ATTEMPTS}", value: 5) {{ new }}
          second: setParameter(path: "{ATTEMPTS}", value: 500) {{ new }}
        }}
        """,
    )

    assert error["path"] == ["second"]
    assert shop.parameters["retry/max_attempts"].get() == 5


def test_many_clients_ask_at_once(ask):
    request = gql("{ listStacks { total } }")

    async def one():
        async with ask.client("viewer") as session:
            return [(await session.execute(request))["listStacks"]["total"] for _ in range(5)]

    async def main():
        return await asyncio.gather(*(one() for _ in range(20)))

    assert asyncio.run(main()) == [[1] * 5] * 20


def test_without_a_token_file_callers_on_this_machine_can_only_read(registry, shop):
    with ControlPlane(registry, grpc_port=None, http_port=0) as plane:
        ask = Asker(plane, {})

        assert ask(None, "{ listStacks { total } }") == {"listStacks": {"total": 1}}
        (error,) = ask.errors(None, SET, path=ATTEMPTS, value=5)
    assert error["extensions"]["code"] == "permission_denied"
    assert shop.parameters["retry/max_attempts"].get() == 3
