"""Find the line of a configuration on which a field stands."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SPACE = re.compile(r"[\s,:]*")
_SAID = re.compile(r"\bline (\d+)")


def line_said(message: str) -> int | None:
    """Return the line that a parser's own message names."""
    said = _SAID.search(message)
    return None if said is None else int(said[1])


def line_of(text: str, field: str, *, toml: bool) -> int | None:
    """Return the line of a field such as `stacks.payments.timeout.seconds`, counted from 1.

    Of a field that is not there, the line of the nearest table around it; None at the top.
    """
    keys = _keys(tomllib.loads(text) if toml else json.loads(text), field)
    if not keys:
        return None
    return _toml_line(text, keys) if toml else _json_line(text, keys)


def _keys(data: object, field: str) -> list[str]:
    """Split a field into keys that are there: a key may have dots itself."""
    keys: list[str] = []
    while field and isinstance(data, dict):
        fitting = [key for key in data for form in (key, json.dumps(key)) if _leads(form, field)]
        if not fitting:
            break
        key = max(fitting, key=len)
        form = json.dumps(key) if field.startswith('"') else key
        keys.append(key)
        data, field = data[key], field[len(form) + 1 :]
    return keys


def _leads(form: str, field: str) -> bool:
    return field == form or field.startswith(f"{form}.")


def _toml_line(text: str, keys: Sequence[str]) -> int | None:
    """Ask the parser with which line the field comes in."""
    lines = text.splitlines(keepends=True)
    start = 0
    for end in range(1, len(lines) + 1):
        try:
            data: object = tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue  # in the middle of a value
        for key in keys:
            if not isinstance(data, dict) or key not in data:
                break
            data = data[key]
        else:
            return start + 1
        start = end
    return None


def _json_line(text: str, keys: Sequence[str]) -> int:
    """Walk along the text, key by key."""
    position = place = 0
    for wanted in keys:
        try:
            place, position = _json_key(text, position, wanted)
        except ValueError:
            break  # a key that stands there twice, and is of the other one
    return text.count("\n", 0, place) + 1


def _json_key(text: str, position: int, wanted: str) -> tuple[int, int]:
    """Return where a key of the object at a position stands, and where its value begins."""
    decode = json.JSONDecoder().raw_decode
    # Behind the brace that opens the object.
    position = _skip(text, _skip(text, position) + 1)
    while True:
        place = position
        key, position = decode(text, position)
        position = _skip(text, position)
        if key == wanted:
            return place, position
        _, position = decode(text, position)
        position = _skip(text, position)


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return position if found is None else found.end()
