"""Of what is alike and comes in a flood, one row a second stands for all."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from ninelives_control.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ninelives_grpc.clock import Clock

T = TypeVar("T")
_SECOND = 1.0
_REST = None
"""The kind of those that are too many to be told apart."""


@dataclass(slots=True)
class _Flood(Generic[T]):
    ends: float
    last: T
    count: int = 0


class Floods(Generic[T]):
    """Counts what comes within a second of another one of its kind.

    The first of a kind is written down at once. Those of the second after it are counted, and
    written down together, by the last of them, once that is over and somebody calls `settle`.

    Args:
        write: Writes down one of a kind that stands for so many.
        clock: What tells the time.
        kinds: Kinds that are told apart at a time; the rest count as one.
    """

    def __init__(self, write: Callable[[T, int], object], clock: Clock, kinds: int) -> None:
        """Begin without any."""
        self._write = write
        self._clock = clock
        self._kinds = kinds
        self._floods: dict[Hashable, _Flood[T]] = {}
        self._lock = threading.Lock()

    def add(self, kind: Hashable, one: T) -> float | None:
        """Write down one of a kind, or count it.

        Returns:
            When its row is due, if it is the first that is only counted; or else None.
        """
        now = self._clock.now()
        with self._lock:
            # What comes after a quiet second is the first again.
            for known in [*self._floods]:
                if self._floods[known].ends <= now and not self._floods[known].count:
                    del self._floods[known]
            if kind not in self._floods and len(self._floods) >= self._kinds:
                kind = _REST
            flood = self._floods.get(kind)
            if flood is not None:
                flood.last = one
                flood.count += 1
                return flood.ends if flood.count == 1 else None
            self._floods[kind] = _Flood(now + _SECOND, one)
        self._write(one, 1)
        return None

    def settle(self) -> None:
        """Write down what was counted in a second that is over."""
        if self._floods:
            self._settle(self._clock.now())

    def close(self) -> None:
        """Write down all that was counted."""
        self._settle(float("inf"))

    def _settle(self, now: float) -> None:
        over: list[_Flood[T]] = []
        with self._lock:
            for kind, flood in self._floods.items():
                if flood.ends <= now and flood.count:
                    over.append(flood)
                    # It may go on: the next row is due a second later.
                    self._floods[kind] = _Flood(self._clock.now() + _SECOND, flood.last)
        for flood in over:
            # Whoever asks now has nothing to do with it; the log has the reason.
            with contextlib.suppress(CommandError):
                self._write(flood.last, flood.count)
