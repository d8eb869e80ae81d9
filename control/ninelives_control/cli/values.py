"""What words of a command line stand for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence


class Value(click.ParamType[Any]):
    """JSON if it is that (5, true, null, "5"), and a text otherwise."""

    name = "value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value."""
        try:
            return _parsed(value)
        except ValueError:
            return value


class Json(click.ParamType[Any]):
    """JSON, and nothing else."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value."""
        try:
            return _parsed(value)
        except ValueError as error:
            self.fail(f"{value!r} is not JSON: {error}", param, ctx)


class Words(click.Choice[str]):
    """One of several words, or numbers."""

    def __init__(self, values: Sequence[object]) -> None:
        """Take them as JSON has them."""
        self._values = {str(value): value for value in values}
        super().__init__(list(self._values))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word as JSON has it."""
        return self._values[super().convert(value, param, ctx)]


class Pair(click.ParamType[dict[str, Any]]):
    """An object with two things in it, as `PATH=VALUE`; one with more in it as JSON."""

    def __init__(
        self, left: tuple[str, click.ParamType[Any]], right: tuple[str, click.ParamType[Any]]
    ) -> None:
        """Take names and types of both."""
        self._left, self._right = left, right
        self.name = f"{left[0].upper()}={right[0].upper()}"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        """Return the object."""
        if value.startswith("{"):
            found = JSON.convert(value, param, ctx)
            assert isinstance(found, dict)
            return found
        before, equals, after = value.partition("=")
        if not equals or not before:
            self.fail(f"{value!r} is neither {self.name} nor a JSON object", param, ctx)
        (left, one), (right, other) = self._left, self._right
        return {left: one.convert(before, param, ctx), right: other.convert(after, param, ctx)}


class Pairs(click.ParamType[list[dict[str, Any]]]):
    """Objects of a list: each as in `Pair`, or `@FILE` for all those that a file has.

    Args:
        name: The name of the list; a file may have it under that name, as answers have it.
        pair: How one of them is written.
    """

    def __init__(self, name: str, pair: Pair) -> None:
        """Hold both."""
        self._list = name
        self._pair = pair
        self.name = pair.name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[dict[str, Any]]:
        """Return the objects that a word stands for."""
        if not value.startswith("@"):
            return [self._pair.convert(value, param, ctx)]
        path = value[1:]
        try:
            with click.open_file(path, encoding="utf-8") as file:
                found = _parsed(file.read())
        except OSError as error:
            self.fail(f"{path!r} cannot be read: {error.strerror}", param, ctx)
        except ValueError as error:
            self.fail(f"{path!r} is not JSON: {error}", param, ctx)
        if isinstance(found, dict) and found.keys() == {self._list}:
            found = found[self._list]
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            self.fail(f"{path!r} has no list of objects, and no {self._list}", param, ctx)
        return found


def _parsed(text: Any) -> Any:
    if not isinstance(text, str):
        # A default, which is what it is.
        return text
    try:
        return json.loads(text, parse_constant=_no_json)
    except RecursionError:
        raise ValueError("it goes too deep") from None


def _no_json(word: str) -> object:
    """Leave NaN and Infinity to be texts, as JSON has none of them."""
    raise ValueError(word)


JSON, VALUE = Json(), Value()
