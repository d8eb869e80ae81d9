"""How long a channel is open: closing it ends the waits of its calls too."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Lifetime:
    """Tells those who wait between two attempts that their channel has been closed.

    Attributes:
        closed: Whether it has.
    """

    def __init__(self) -> None:
        """Start open."""
        self.closed = False
        self._waiting: set[Callable[[], object]] = set()
        self._lock = threading.Lock()

    def on_close(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back when it is closed, or at once if it is; returns how to call that off."""
        with self._lock:
            self._waiting.add(callback)
            closed = self.closed
        if closed:
            callback()
        return lambda: self._waiting.discard(callback)

    def close(self) -> None:
        """Close, and tell those who wait."""
        with self._lock:
            self.closed = True
            waiting, self._waiting = self._waiting, set()
        for callback in waiting:
            callback()
