"""Read sensors every so often, for one who goes by them, as long as that is so."""

from __future__ import annotations

import logging
import math
import weakref
from typing import TYPE_CHECKING, Protocol

from ninelives_grpc.scheduler import scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ninelives_grpc.pressure.sensor import Sensor

_LOGGER = logging.getLogger("ninelives_grpc")
_MOST = 1000.0
"""What counts of a reading: JSON has no word for an infinite one."""


class Listener(Protocol):
    """Who goes by the readings."""

    def hear(self, readings: Mapping[str, float]) -> float | None:
        """Take readings by name, and return the seconds until the next, or None for no more."""
        ...


class Watch:
    """Sensors, and the thread of the scheduler that reads them.

    It does not keep its listener alive, and ends with it.

    Attributes:
        sensors: What it reads.
        turn: Which of its beginnings counts: the last.
    """

    def __init__(self, sensors: Sequence[Sensor]) -> None:
        """Read nothing yet."""
        self.sensors = tuple(sensors)
        self.turn: object = None
        self._failed: set[int] = set()

    def begin(self, listener: Listener) -> None:
        """Read from now on, in a thread that is there while anything is due; once, if it does.

        Raises:
            RuntimeError: No thread can be started.
        """
        self.turn = turn = object()
        scheduler.later(0.0, _step(self, weakref.ref(listener), turn))

    def readings(self) -> dict[str, float]:
        """Return what the sensors say that know something; one that raises is logged once.

        Of two with one name the greater pressure counts, and none is below 0.
        """
        found: dict[str, float] = {}
        for number, sensor in enumerate(self.sensors):
            name = f"sensor {number}"
            try:
                name = sensor.name
                value = sensor.read()
                if value is not None and not math.isnan(value):
                    found[name] = max(min(value, _MOST), found.get(name, 0.0))
            except Exception:  # the others still count
                if number not in self._failed:
                    self._failed.add(number)
                    _LOGGER.exception("the sensor %s failed; it is asked again", name)
        return found


def _step(watch: Watch, to: weakref.ref[Listener], turn: object) -> Callable[[], None]:
    def step() -> None:
        listener = to()
        if listener is not None and watch.turn is turn:
            again = listener.hear(watch.readings())
            if again is not None:
                scheduler.later(again, step)

    return step
