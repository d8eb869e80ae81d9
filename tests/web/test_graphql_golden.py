"""Every kind of bad input over GraphQL: what is answered, written down, and left as it was."""

import json

import pytest
from pydantic.alias_generators import to_camel

from ninelives_control import ControlPlane
from ninelives_control.audit.chain import Status
from ninelives_control.command import Effect
from ninelives_control.errors import Code
from ninelives_control.identity import tokens as token_file
from ninelives_control.identity.identity import Role
from ninelives_grpc import Bulkhead, CircuitBreaker, Registry, Retry, Stack, Timeout
from tests.control import added
from tests.control.test_golden import TABLE, everything
from tests.web.graphql_asker import literal
from tests.web.http_asker import JSON, fetch, post, post_json

PATH = "shop/retry/max_attempts"
SET = f'mutation {{ setParameter(path: "{PATH}", value: 5) {{ new }} }}'


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("golden")


@pytest.fixture(scope="module")
def tokens(directory):
    return {
        str(role): token_file.create(directory / "tokens.json", str(role), role) for role in Role
    }


@pytest.fixture(scope="module")
def registry():
    return Registry()


@pytest.fixture(scope="module")
def shop(registry):
    return Stack(
        "shop", Timeout(2.0) + Retry(3) + CircuitBreaker() + Bulkhead(4), registry=registry
    )


@pytest.fixture(scope="module")
def plane(registry, shop, directory, tokens):
    """One for all tests, as none of them may change anything."""
    plane = ControlPlane(registry, grpc_port=None, http_port=0, tokens=directory / "tokens.json")
    for entry in added.ALL:
        plane.commands.add(entry)
    with plane:
        yield plane


@pytest.fixture
def entries(plane):
    """Return what stands in the audit since the test began."""
    audit = plane.dispatcher._journal._audit
    before = max((entry.seq for entry in audit.entries()), default=0)
    return lambda: [entry for entry in audit.entries() if entry.seq > before]


def document_of(plane, bad):
    """Return a document that asks for something bad, in literals."""
    known = bad.command in plane.commands
    entry = plane.commands.get(bad.command) if known else None
    root = "query" if entry is not None and entry.effect is Effect.READ else "mutation"
    given = []
    for name, value in bad.arguments.items():
        word = value.upper() if name == "mode" else literal(value)
        given.append(f"{to_camel(name)}: {word}")
    arguments = f"({', '.join(given)})" if given else ""
    return f"{root} {{ {to_camel(bad.command)}{arguments} {{ __typename }} }}"


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.why)
def test_bad_input_over_graphql(bad, plane, shop, tokens, entries):
    before = everything(shop)
    token = {"stranger": "ninelives_x", "nobody": None}.get(bad.who, tokens.get(bad.who))

    answer = post(plane, document_of(plane, bad), token)

    assert answer.status == 200
    (error,) = answer.json["errors"]
    told = error["extensions"]
    assert (told["code"], told.get("field", "")) == (bad.code, to_camel(bad.field))
    assert told.get("revision") == (1 if bad.code is Code.CONFLICT else None)
    assert ("rule" in told) is (bad.code is Code.PERMISSION_DENIED)
    assert added.SECRET not in answer.text
    (entry,) = entries()
    known = "" if bad.who in {"nobody", "stranger"} else bad.who
    assert (entry.identity, entry.command, entry.reason, entry.transport) == (
        known,
        bad.command,
        bad.code,
        "graphql",
    )
    assert entry.status in {Status.REFUSED, Status.FAILED}
    assert everything(shop) == before
    assert not plane.dispatcher._events.events


VARIABLES = {
    "a text for a number": ("Long", "limit: $x", "ten", "limit"),
    "a fraction for a whole number": ("Long", "limit: $x", 1.5, "limit"),
    "a number too long": ("Long", "limit: $x", 2**70, "limit"),
    "a flag for a number": ("Long", "limit: $x", True, "limit"),
    "a number for a text": ("String", "match: $x", 7, "match"),
    "an object for a text": ("String", "match: $x", {"a": 1}, "match"),
}


@pytest.mark.parametrize("why", VARIABLES)
def test_variables_of_another_type_are_refused_and_audited(why, plane, tokens, entries):
    kind, argument, value, field = VARIABLES[why]
    document = f"query($x: {kind}) {{ listStacks({argument}) {{ total }} }}"

    answer = post_json(plane, {"query": document, "variables": {"x": value}}, tokens["viewer"]).json

    (error,) = answer["errors"]
    assert error["extensions"]["code"] == "invalid_argument"
    assert error["extensions"].get("field") == field
    (entry,) = entries()
    assert (entry.command, entry.reason) == ("list_stacks", "invalid_argument")
    assert len(json.loads(entry.arguments)) == 1


REFUSED = {
    "a field that is not there": ("{ listStacks { totl } }", "invalid_argument", ["list_stacks"]),
    "a mutation in a query": (SET[9:], "unknown_command", ["set_parameter"]),
    "a query in a mutation": (
        "mutation { listStacks { total } }",
        "unknown_command",
        ["list_stacks"],
    ),
    "another field that is not there": (
        f'mutation {{ setParameter(path: "{PATH}", value: 5) {{ new }} nothing }}',
        "unknown_command",
        ["nothing", "set_parameter"],
    ),
    "a variable that nobody uses": (
        SET.replace("mutation", "mutation($x: Long)"),
        "invalid_argument",
        ["set_parameter"],
    ),
    "a command within fragments": (
        "query { ...A } fragment A on Query { ... on Query { lstStacks { total } } }",
        "unknown_command",
        ["lst_stacks"],
    ),
    "the same error twice": (
        "{ listStacks(lmt: 1) { totl } }",
        "invalid_argument",
        ["list_stacks"],
    ),
    "a fragment in itself": (
        "{ ...A } fragment A on Query { listStacks { total } ...A }",
        "invalid_argument",
        ["list_stacks"],
    ),
    "a subscription where one answer is all": (
        "subscription { events { dropped } }",
        "invalid_argument",
        ["watch"],
    ),
    "two subscriptions at once": (
        "subscription { events { dropped } other: events { dropped } }",
        "invalid_argument",
        ["watch", "watch"],
    ),
    "more aliases than are allowed": (
        f"{{ {' '.join(f'a{n}: listStacks {{ total }}' for n in range(16))} }}",
        "invalid_argument",
        ["list_stacks"] * 16,
    ),
    "what is too deep": (
        f"{{ listStacks {'{ stacks ' * 11} {{ name }} {'}' * 11} }}",
        "invalid_argument",
        ["list_stacks"],
    ),
    "one of two operations": (
        f"query A {{ listStacks {{ total }} }} {SET.replace('mutation', 'mutation B')}",
        "invalid_argument",
        ["list_stacks", "set_parameter"],
    ),
    "a directive given again": (
        "{ listStacks @include(if: true) @include(if: true) { total } }",
        "invalid_argument",
        ["list_stacks"],
    ),
    "a directive that is not there": (
        "{ ... @defer { listStacks { total } } }",
        "invalid_argument",
        ["list_stacks"],
    ),
    "a number without end": (
        f"{{ listStacks(limit: {'9' * 5000}) {{ total }} }}",
        "invalid_argument",
        ["list_stacks"],
    ),
    "a list in lists without end": (
        f'mutation {{ setParameter(path: "{PATH}", value: {"[" * 480}{"]" * 480}) {{ new }} }}',
        "invalid_argument",
        [],
    ),
    "fields in fields without end": (f"{'{ a' * 330}{'}' * 330}", "invalid_argument", []),
    "no document": ("{ listStacks {", "invalid_argument", []),
    "too many tokens": (f"{{ {'listStacks { total } ' * 300} }}", "invalid_argument", []),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_document_that_is_refused_is_audited_with_each_of_its_commands(
    why, plane, shop, tokens, entries
):
    document, code, commands = REFUSED[why]

    answer = post(plane, document, tokens["admin"]).json

    assert answer["data"] is None
    assert answer["errors"][0]["extensions"]["code"] == code
    assert {error["extensions"]["code"] for error in answer["errors"]} <= set(Code)
    # That there was a document without a command stands there once in a while, see `floods`.
    written = [(entry.command, entry.status) for entry in entries() if entry.command != "graphql"]
    assert written == [(command, "refused") for command in commands]
    assert shop.parameters["retry/max_attempts"].get() == 3


def test_a_document_that_is_refused_tells_strangers_only_that(plane, entries):
    answer = post(plane, f'mutation {{ setParameter(path: "{PATH}", valu: 5) {{ nw }} }}').json

    (error,) = answer["errors"]
    assert error["extensions"] == {"code": "unauthenticated"}
    (entry,) = entries()
    assert (entry.command, entry.identity, entry.reason) == (
        "set_parameter",
        "",
        "unauthenticated",
    )


def test_a_word_of_a_choice_is_not_what_is_wrong_beside_an_argument_too_many(plane, tokens):
    answer = post(
        plane,
        'mutation { forceCircuitBreaker(path: "shop/circuit_breaker", mode: OPEN, x: 1) { new } }',
        tokens["admin"],
    )

    assert answer.json["errors"][0]["extensions"]["field"] == "x"


def test_what_is_skipped_does_not_run(plane, tokens, entries):
    skipped = SET.replace("{ new } }", "@skip(if: true) { new } __typename }")

    answer = post(plane, skipped, tokens["admin"])

    assert answer.json == {"data": {"__typename": "Mutation"}}
    assert entries() == []


def test_the_operation_that_is_named_is_the_one_that_runs(plane, tokens):
    document = "query A { a: listStacks { total } } query B { b: listStacks { total } }"

    answer = post_json(plane, {"query": document, "operationName": "B"}, tokens["viewer"])

    assert answer.json == {"data": {"b": {"total": 1}}}


DOUBLED = " ".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(60))


def test_fragments_that_double_at_every_step_cost_nothing(plane):
    answer = post(plane, f"{{ ...F0 }} {DOUBLED} fragment F60 on Query {{ __typename }}")

    (error,) = answer.json["errors"]
    assert error["message"] == "more than 20 fragments are spread"


def test_the_schema_is_not_told_in_circles(plane):
    circle = "fields { type { " * 12 + "name" + " } }" * 12

    (error,) = post(plane, f"{{ __schema {{ types {{ {circle} }} }} }}").json["errors"]

    assert error["extensions"] == {"code": "invalid_argument"}


BODIES = {
    "no JSON": b"{",
    "no object": b'[{"query": "{ listStacks { total } }"}]',
    "nesting without end": b'{"a":' * 50_000,
    "no query": b"{}",
    "a query that is a number": b'{"query": 3}',
    "variables that are a list": b'{"query": "{ __typename }", "variables": []}',
    "an operation that is not there": b'{"query": "{ __typename }", "operationName": "\\ud800"}',
    "an operation that is no name": b'{"query": "{ __typename }", "operationName": [1]}',
    "no text": b'{"query": "\xff"}',
}


@pytest.mark.parametrize("why", BODIES)
def test_what_is_no_request_has_an_error_with_a_code(why, plane, caplog):
    answer = fetch(plane, "POST", "/graphql", BODIES[why], JSON)

    assert answer.status == 400
    (error,) = answer.json["errors"]
    assert error["extensions"] == {"code": "invalid_argument"}
    assert "Traceback" not in caplog.text
