"""Commands of an application, whose models have everything that pydantic models can have."""

from __future__ import annotations

import threading
from enum import StrEnum

import pytest
from pydantic import BaseModel, Field, RootModel

from ninelives_control import ControlPlane
from ninelives_control.command import CommandTable, Context, Effect, command
from ninelives_control.model import Arguments, Result
from tests.control.added import blocking
from tests.web.graphql_asker import Asker
from tests.web.http_asker import post_json


class Size(StrEnum):
    """How large."""

    SMALL = "small"
    EXTRA_LARGE = "extra_large"


class Odd(StrEnum):
    """What GraphQL has no names for."""

    DASHED = "with-dash"
    DIGIT = "1st"


class Alike(StrEnum):
    """What is told apart by the case alone."""

    LOWER = "a"
    UPPER = "A"


class Side(BaseModel):
    """One side of something."""

    edge_length: float = Field(description="In metres.")
    size: Size = Field(default=Size.SMALL, description="How large.")


class Knot(BaseModel):
    """Something that may be within itself."""

    name: str = Field(description="Its name.")
    inner: Knot | None = Field(default=None, description="What is in it.")


class Empty(BaseModel):
    """Something without fields."""


class Words(RootModel[list[str]]):
    """Just words."""


class Build(Arguments):
    """What to build."""

    sides: list[Side] = Field(default=[], description="Its sides.")
    main_side: Side | None = Field(default=None, description="The main one.")
    knot: Knot | None = Field(default=None, description="How it is tied.")
    labels: dict[str, int] = Field(default={}, description="What is written on it.")
    either: Side | Knot | None = Field(default=None, description="One of both.")
    odd: Odd = Field(default=Odd.DASHED, description="Something odd.")
    alike: Alike = Field(default=Alike.LOWER, description="One or the other.")
    size: Size = Field(default=Size.SMALL, description="How large.")
    count: int = Field(default=0, description="How many.")
    exact: float = Field(default=0.0, description="How much.")
    empty: Empty | None = Field(default=None, description="Nothing.")
    words: Words | None = Field(default=None, description="Words.")
    anything: object = Field(default=None, description="Anything.")


class Stack(Result):
    """What was built; there is another type of that name."""

    sides: list[Side] = Field(description="Its sides.")
    main_side: Side | None = Field(description="The main one.")
    knot: Knot | None = Field(description="How it is tied.")
    labels: dict[str, int] = Field(description="What is written on it.")
    either: Side | Knot | None = Field(description="One of both.")
    odd: Odd = Field(description="Something odd.")
    alike: Alike = Field(description="One or the other.")
    size: Size = Field(description="How large.")
    count: int = Field(description="How many.")
    exact: float = Field(description="How much.")
    empty: Empty | None = Field(description="Nothing.")
    words: Words | None = Field(description="Words.")
    anything: object = Field(description="Anything.")


@command(Effect.CHANGE)
def build(arguments: Build, context: Context) -> Stack:
    """Build something."""
    return Stack(**dict(arguments))


@command(Effect.CHANGE)
def tie(arguments: Arguments, context: Context) -> Knot:
    """Tie a knot."""
    return Knot(name="outer", inner=Knot(name="inner"))


@command(Effect.READ)
def vanish(arguments: Arguments, context: Context) -> Empty:
    """Return nothing at all."""
    return Empty()


DOCUMENT = """
mutation(
  $sides: [SideInput!], $main: SideInput, $knot: KnotInput, $labels: JSON, $either: JSON,
  $odd: String, $alike: String, $size: Size, $count: Long, $exact: Float, $empty: JSON,
  $words: [String!], $anything: JSON
) {
  build(
    sides: $sides, mainSide: $main, knot: $knot, labels: $labels, either: $either, odd: $odd,
    alike: $alike, size: $size, count: $count, exact: $exact, empty: $empty, words: $words,
    anything: $anything
  ) {
    sides { edgeLength size } mainSide { edgeLength } knot { name inner } labels either odd alike
    size count exact empty words anything
  }
}
"""
VARIABLES = {
    "sides": [{"edgeLength": 1.5, "size": "EXTRA_LARGE"}, {"edgeLength": 2}],
    "main": {"edgeLength": 3.0},
    "knot": {"name": "outer", "inner": {"name": "inner", "inner": None}},
    "labels": {"front": 1},
    "either": {"name": "a knot", "inner": None},
    "odd": "1st",
    "alike": "A",
    "size": "EXTRA_LARGE",
    "count": 2**40,
    "exact": 0.25,
    "empty": {},
    "words": ["a", "b"],
    "anything": [1, {"two": None}],
}


@pytest.fixture
def plane(plane):
    for entry in (build, tie, vanish):
        plane.commands.add(entry)
    return plane


def test_whatever_a_model_holds_goes_both_ways(ask):
    answer = ask("admin", DOCUMENT, **VARIABLES)["build"]

    assert answer == {
        "sides": [
            {"edgeLength": 1.5, "size": "EXTRA_LARGE"},
            {"edgeLength": 2.0, "size": "SMALL"},
        ],
        "mainSide": {"edgeLength": 3.0},
        **{name: VARIABLES[name] for name in VARIABLES if name not in {"sides", "main"}},
    }


def test_what_is_not_sent_has_its_default(ask):
    fields = "sides { size } size odd alike count mainSide { size }"

    answer = ask("admin", f"mutation {{ build {{ {fields} }} }}")

    assert answer["build"] == {
        "sides": [],
        "size": "SMALL",
        "odd": "with-dash",
        "alike": "a",
        "count": 0,
        "mainSide": None,
    }


def test_a_field_within_an_argument_is_named_as_it_was_sent(plane, tokens):
    variables = {"sides": [{"edgeLength": "long"}]}

    answer = post_json(plane, {"query": DOCUMENT, "variables": variables}, tokens["admin"]).json

    assert answer["errors"][0]["extensions"]["code"] == "invalid_argument"


def test_a_field_that_only_the_command_knows_to_be_wrong_is_named_in_camel_case(plane, tokens):
    document = "mutation { build(either: {}) { size } }"

    (error,) = post_json(plane, {"query": document}, tokens["admin"]).json["errors"]

    assert error["extensions"]["field"] == "either.Side.edgeLength"


def test_models_that_are_within_themselves_are_told_as_json_from_there_on(ask):
    answer = ask("admin", "mutation { tie { name inner } }")

    assert answer["tie"]["name"] == "outer"


def test_a_result_without_fields_is_json(ask):
    assert ask("viewer", "{ vanish }") == {"vanish": {}}


def test_there_need_not_be_a_command_that_changes_anything(registry):
    plane = ControlPlane(registry, grpc_port=None, http_port=0)
    plane.commands = CommandTable([vanish])

    with plane:
        assert Asker(plane, {})(None, "{ vanish }") == {"vanish": {}}


def test_a_command_that_takes_long_does_not_keep_others_waiting(plane, ask):
    running, end, hold = blocking()
    plane.commands.add(hold)
    answers = []
    asking = threading.Thread(
        target=lambda: answers.append(ask("admin", "mutation { hold { text } }"))
    )
    asking.start()
    assert running.wait(10)

    assert ask("viewer", "{ listStacks { total } }") == {"listStacks": {"total": 1}}

    end.set()
    asking.join()
    assert answers == [{"hold": {"text": "held"}}]
