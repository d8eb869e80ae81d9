"""What every event has, whatever it tells."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from ninelives_grpc.parameters import Value


class Severity(StrEnum):
    """How much an event matters, from least to most."""

    DEBUG = "debug"
    """Every good call has one."""
    INFO = "info"
    """Policies do their work."""
    WARNING = "warning"
    """A call has been refused or has failed."""
    ERROR = "error"
    """From now on many calls will."""

    @property
    def rank(self) -> int:
        """Its place in that order, from 0."""
        return _RANKS[self]


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}

KINDS: dict[str, type[Event]] = {}
"""All kinds of events by name."""


About = tuple[str, str, str, float, int, str]
"""The first values of every event: stack, policy, method, time, attempt and reason."""
Values = tuple[Any, ...]
"""The values of an event in the order of its fields.

A tuple is made in a quarter of the time that a dict takes.
"""
Pending = tuple["type[Event]", Values]
"""An event that is built when somebody looks: its kind, and its values.

That is a tenth of its cost on the path of a call.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something a policy did.

    Attributes:
        stack: Name of the stack.
        policy: Name of the policy in it, "" for the stack itself.
        method: `package.Service/Method`, "" where no call is concerned.
        at: Time on the stack's clock; `clock.wall_time(at)` converts it.
        attempt: Which attempt of the call it concerns, from 1; 0 if none.
        reason: One word that says why, "" where there is nothing to choose from.
        severity: How much it matters.
        routine: Whether every good call has one.
        refuses: Whether a call was turned away by it.
    """

    routine: ClassVar[bool] = False
    refuses: ClassVar[bool] = False
    severity: ClassVar[Severity] = Severity.INFO

    stack: str
    policy: str = ""
    method: str = ""
    at: float
    attempt: int = 0
    reason: str = ""

    def __init_subclass__(cls) -> None:
        """Take the kind into `KINDS`."""
        KINDS[cls.__name__] = cls

    @property
    def name(self) -> str:
        """The kind of event, such as "CircuitOpened"."""
        return type(self).__name__

    def why(self) -> str:
        """Say in a sentence what led to it, with the numbers."""
        return self.reason

    @classmethod
    def from_values(cls, values: Values) -> Self:
        """Build one of its values, in the order of the fields."""
        return cls(**dict(zip(names_of(cls), values, strict=True)))

    def values(self) -> Values:
        """Return its values, in the order of the fields."""
        return tuple(getattr(self, name) for name in names_of(type(self)))

    def fields(self) -> dict[str, Any]:
        """Return what it is made of."""
        return dict(zip(names_of(type(self)), self.values(), strict=True))

    def details(self) -> dict[str, Value]:
        """Return what this kind of event adds to the fields that all have."""
        return {name: value for name, value in self.fields().items() if name not in _COMMON}


_NAMES: dict[type[Event], tuple[str, ...]] = {}


def names_of(kind: type[Event]) -> tuple[str, ...]:
    """Return the names of an event's fields, in their order."""
    names = _NAMES.get(kind)
    if names is None:
        names = _NAMES[kind] = tuple(field.name for field in dataclasses.fields(kind))
    return names


_COMMON = {field.name for field in dataclasses.fields(Event)}


def seconds(duration: float) -> str:
    """Write a duration with three digits, for the sentences."""
    return f"{duration:.3g} s"


def times(count: int, what: str) -> str:
    """Write "1 call" or "2 calls", for the sentences."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
