"""Every number of a policy, declared once: default, bounds, unit and meaning.

A policy is a frozen dataclass, so one instance of it is a consistent snapshot of all its values.
A running policy holds the current snapshot by reference: a call reads it once, and a change swaps
it whole. `Adaptive` is the handle by which one value of the snapshot is read and changed.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar, dataclass_transform

from ninelives_grpc.errors import ConfigError, RevisionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.policies.policy import Live

T = TypeVar("T")
Value = bool | int | float | str | None
"""What a parameter can hold; a choice is a `StrEnum`, which is a `str`."""

_KEY = "ninelives"
_REQUIRED: Any = dataclasses.MISSING


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What is known of one parameter apart from its value.

    Attributes:
        name: Its name within the policy.
        type: `int`, `float`, `bool`, or the `StrEnum` of the allowed words.
        optional: Whether None is a value: "off" or "without limit", as `doc` says.
        default: The value when none is given, or None.
        low: Smallest allowed value, inclusive.
        high: Largest allowed value, inclusive.
        unit: "seconds", "ratio", "per second", "calls", … or "" for a bare number or word.
        doc: One sentence.
    """

    name: str
    type: type
    optional: bool
    default: Value
    low: float | None
    high: float | None
    unit: str
    doc: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed words, when it is a choice."""
        return tuple(self.type) if issubclass(self.type, StrEnum) else ()

    @property
    def type_name(self) -> str:
        """The type in one word: "float", "int", "bool" or "choice"."""
        return "choice" if self.choices else self.type.__name__

    def bounds(self) -> str:
        """Say what is allowed, for an error message."""
        if self.choices:
            text = f"one of {', '.join(self.choices)}"
        elif self.type is bool:
            text = "true or false"
        else:
            kind = "a whole number" if self.type is int else "a number"
            text = f"{kind} from {_show(self.low)} to {_show(self.high)}"
            text += f" {self.unit}" if self.unit else ""
        return f"{text}, or null" if self.optional else text

    def parse(self, value: object) -> Value:
        """Return the value in this parameter's own type.

        Raises:
            ValueError: It is of another type or outside the bounds; the message says what is
                allowed.
        """
        if value is None and self.optional:
            return None
        parsed = self._convert(value)
        if parsed is None or not self._within(parsed):
            msg = f"must be {self.bounds()}, not {value!r}"
            raise ValueError(msg)
        return parsed

    def _convert(self, value: object) -> Value:
        if self.choices:
            return self.type(value) if value in self.choices else None
        if self.type is bool or isinstance(value, bool):
            return value if self.type is bool and isinstance(value, bool) else None
        if not isinstance(value, int | float) or not _finite(value):
            return None
        if self.type is int:
            return int(value) if value == int(value) else None
        return float(value)

    def _within(self, value: Value) -> bool:
        if self.choices or not isinstance(value, int | float):
            return True
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def parameter(
    *,
    default: T = _REQUIRED,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    doc: str,
    kw_only: bool = True,
) -> T:
    """Declare a value that can be changed while calls are in flight.

    Args:
        default: Value when none is given; without it the parameter is required.
        low: Smallest allowed value, inclusive.
        high: Largest allowed value, inclusive.
        unit: What it counts.
        doc: One sentence for people and agents.
        kw_only: False for the one or two that are clear without their name.
    """
    facts = {"low": low, "high": high, "unit": unit, "doc": doc}
    field: T = dataclasses.field(default=default, kw_only=kw_only, metadata={_KEY: facts})
    return field


def option(*, default: T = _REQUIRED, kw_only: bool = True) -> T:
    """Declare a setting of the structure: fixed once the stack is built."""
    field: T = dataclasses.field(default=default, kw_only=kw_only)
    return field


@dataclass_transform(
    kw_only_default=True, frozen_default=True, field_specifiers=(parameter, option)
)
def policy(cls: type[T]) -> type[T]:
    """Make a frozen dataclass of a class whose fields are parameters and options."""
    # repr=False: a policy prints as it was written, see Policy.__repr__. eq=False: two policies
    # with the same numbers are still two policies.
    return dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)(cls)


_SPECS: dict[type, dict[str, Spec]] = {}


def specs(cls: type) -> dict[str, Spec]:
    """Return the parameters that a policy class declares, by name, in order of declaration."""
    found = _SPECS.get(cls)
    if found is None:
        found = _SPECS[cls] = _specs(cls)
    return found


def _specs(cls: type[Any]) -> dict[str, Spec]:
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    return {
        field.name: _spec(field, hints[field.name]) for field in fields if _KEY in field.metadata
    }


def settings(cls: type[Any]) -> dict[str, bool]:
    """Return the names of all that can be set on a policy class, and whether they must be."""
    return {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(cls)}


def _spec(field: dataclasses.Field[Any], hint: object) -> Spec:
    arms = (
        typing.get_args(hint) if typing.get_origin(hint) in {typing.Union, types.UnionType} else ()
    )
    kinds = [arm for arm in arms or (hint,) if arm is not type(None)]
    default = None if field.default is dataclasses.MISSING else field.default
    return Spec(
        name=field.name,
        type=kinds[0],
        optional=len(kinds) < len(arms),
        default=default,
        **field.metadata[_KEY],
    )


def validated(snapshot: Any, path: str) -> None:
    """Check and normalize every parameter of a new snapshot in place.

    Raises:
        ConfigError: One of them is not allowed; the path ends with its name.
    """
    for name, spec in specs(type(snapshot)).items():
        try:
            value = spec.parse(getattr(snapshot, name))
        except ValueError as error:
            raise ConfigError(str(error), path=f"{path}.{name}") from None
        object.__setattr__(snapshot, name, value)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A parameter that has been changed, or would be (`dry_run`).

    Attributes:
        path: Its address, `stack/policy/parameter`.
        old: Value before.
        new: Value after.
        revision: Revision of the policy after the change.
    """

    path: str
    old: Value
    new: Value
    revision: int


class Adaptive(Generic[T]):
    """The handle of one parameter: read it, change it, hear of changes.

    Attributes:
        live: The running policy that it belongs to.
        spec: What is known of it apart from its value.

    A change is validated first, holds from the next call on, leaves running calls and the policy's
    state (windows, permits, open circuits) as they are, and is published as `ParameterChanged`.
    """

    def __init__(self, live: Live[Any], spec: Spec) -> None:
        """Point at one parameter of a running policy; stacks make these."""
        self.live = live
        self.spec = spec

    @property
    def path(self) -> str:
        """Its address, `stack/policy/parameter`."""
        return f"{self.live.path}/{self.spec.name}"

    @property
    def revision(self) -> int:
        """How often the policy's parameters have changed, starting with 1."""
        return self.live.revision

    def get(self) -> T:
        """Return the value that the next call will use."""
        value: T = getattr(self.live.policy, self.spec.name)
        return value

    def set(
        self,
        value: T,
        *,
        expected_revision: int | None = None,
        dry_run: bool = False,
        by: str = "",
        reason: str = "",
    ) -> Change:
        """Change the value for all calls that start from now on.

        Args:
            value: The new value.
            expected_revision: Change only if the policy is still at this revision.
            dry_run: Validate, and change nothing.
            by: Who asks, for the event.
            reason: Why, for the event.

        Raises:
            ConfigError: The value is outside its bounds or of the wrong type.
            RevisionError: The policy is at another revision.
        """
        return self.live.change(
            {self.spec.name: value},
            expected_revision=expected_revision,
            dry_run=dry_run,
            by=by,
            reason=reason,
        )[0]

    def update(self, function: Callable[[T], T]) -> Change:
        """Change the value to `function(value)`, without losing another's change in between."""
        while True:
            revision = self.revision
            try:
                return self.set(function(self.get()), expected_revision=revision)
            except RevisionError:
                continue

    def subscribe(self, callback: Callable[[T], None]) -> Callable[[], None]:
        """Call `callback(new_value)` after each change; returns a function that ends it.

        The callback runs in the thread that made the change, and must not raise.
        """
        return self.live.subscribe(self.spec.name, callback)

    def __repr__(self) -> str:
        """Show address and value."""
        return f"<Adaptive {self.path} = {self.get()!r}>"


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def _show(bound: float | None) -> str:
    return "any" if bound is None else f"{bound:g}"
