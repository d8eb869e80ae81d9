"""What a sensor is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Sensor(Protocol):
    """Something that can tell how near a limit is.

    A sensor is read several times a second in a thread that others wait for: it must not block. One
    that raises counts as one that does not know.

    Attributes:
        name: What it is called in events and in the state of a policy.
    """

    @property
    def name(self) -> str:
        """What it is called in events and in the state of a policy."""
        ...

    def read(self) -> float | None:
        """Return the pressure, 0 for none and 1 for the limit, or None when it is not known."""
        ...
