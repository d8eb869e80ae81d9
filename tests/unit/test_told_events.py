"""Policies tell the values of events without their names: these have to be in order."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path

import pytest

import ninelives_grpc
from ninelives_grpc.events.event import KINDS, Event

_COMMON = len(fields(Event))


def _tellings() -> list[tuple[str, list[str], list[ast.expr]]]:
    """Return where events are told, of which kinds, and with which values."""
    root = Path(ninelives_grpc.__file__).parent
    found = []
    for file in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr == "tell" and len(node.args) > 1:
                kind = ast.unparse(node.args[0]).rpartition(".")[2]
                kinds = [kind] if kind in KINDS else ["FallbackSkipped", "FallbackUsed"]
                if kind in KINDS or file.name == "leaves.py":
                    where = f"{file.relative_to(root)}:{node.lineno}"
                    found.append((where, kinds, node.args[1:]))
    return found


TELLINGS = _tellings()


def test_all_places_are_found() -> None:
    assert len(TELLINGS) >= 28


@pytest.mark.parametrize(
    ("kinds", "values"),
    [(kinds, values) for _, kinds, values in TELLINGS],
    ids=[where for where, _, _ in TELLINGS],
)
def test_values_are_told_in_the_order_of_the_fields(
    kinds: list[str], values: list[ast.expr]
) -> None:
    about, *own = values
    assert isinstance(about, ast.Starred), "what all events have comes first, as one tuple"
    for kind in kinds:
        names = [field.name for field in fields(KINDS[kind])][_COMMON:]
        assert len(own) == len(names)
        for name, value in zip(names, own, strict=True):
            said = ast.unparse(value).rpartition(".")[2]
            assert said == name or said not in names


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
def test_an_event_is_built_again_of_its_values(kind: type[Event]) -> None:
    values = tuple(f"value of {field.name}" for field in fields(kind))

    event = kind.from_values(values)

    assert event.values() == values
    assert event.fields() == {field.name: f"value of {field.name}" for field in fields(kind)}
