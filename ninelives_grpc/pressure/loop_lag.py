"""How long an asyncio loop makes others wait: the time that a callback waits for its turn."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ninelives_grpc.forking import afresh_in_children

if TYPE_CHECKING:
    from collections.abc import Callable


class LoopLag:
    """The seconds that a callback waits in a loop.

    Each reading hands the loop a callback, from outside, so that a loop that is stuck is noticed
    while it is, and that nothing is left in it when nobody reads any more.
    """

    name = "loop_lag"

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without a loop.

        Args:
            clock: Where time comes from.
        """
        self._clock = clock
        self.start_afresh()
        afresh_in_children(self)

    def start_afresh(self) -> None:
        """Forget the loop: in a forked child it does not run."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sent: float | None = None
        self._lag = 0.0

    @property
    def follows(self) -> bool:
        """Whether there is a loop that runs."""
        return self._loop is not None and self._loop.is_running()

    def follow_running_loop(self) -> None:
        """Measure the loop that this is called in, unless there is one already that runs."""
        if self.follows:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._loop, self._sent, self._lag = loop, None, 0.0

    def read(self) -> float | None:
        """Return the seconds of the last callback, or of one that still waits if that is longer."""
        loop, now = self._loop, self._clock()
        if loop is None or not self.follows:
            self._sent = None
            return None
        sent = self._sent
        if sent is not None:
            return now - sent
        lag, self._sent = self._lag, now
        try:
            loop.call_soon_threadsafe(self._turn, loop)
        except RuntimeError:  # it has been closed just now
            self._sent = None
            return None
        return lag

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        sent = self._sent
        if sent is not None and loop is self._loop:
            self._lag = self._clock() - sent
            self._sent = None
