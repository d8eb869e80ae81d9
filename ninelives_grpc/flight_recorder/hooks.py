"""What makes a flight recorder write a copy: an unhandled exception, or SIGUSR2."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Hooks:
    """Stands before what Python calls for unhandled exceptions, and before a signal's handler."""

    def __init__(self, dump: Callable[[], object], ask: Callable[[], None]) -> None:
        """Call `dump` at an exception, and `ask`, which must not wait, at a signal."""
        self._dump = dump
        self._ask = ask
        self._installed = False
        self._before: tuple[Any, Any, Any] = (None, None, None)

    def install(self) -> None:
        """Begin; signals only in the main thread, the one that Python lets handle them."""
        handler = None
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGUSR2"):
            handler = signal.signal(signal.SIGUSR2, self._signalled)
        self._before = sys.excepthook, threading.excepthook, handler
        sys.excepthook, threading.excepthook = self._raised, self._raised_in_thread
        self._installed = True

    def remove(self) -> None:
        """Put back what was there, unless somebody else has come before us since."""
        if not self._installed:
            return
        self._installed = False
        main, thread, handler = self._before
        if sys.excepthook == self._raised:
            sys.excepthook = main
        if threading.excepthook == self._raised_in_thread:
            threading.excepthook = thread
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR2, handler)

    def _raised(self, *details: Any) -> None:
        self._copy()
        self._before[0](*details)

    def _raised_in_thread(self, details: Any) -> None:
        if details.exc_type is not SystemExit:
            self._copy()
        self._before[1](details)

    def _copy(self) -> None:
        if self._installed:
            # There is a worse error to be told already.
            with contextlib.suppress(OSError):
                self._dump()

    def _signalled(self, number: int, frame: Any) -> None:
        self._ask()
        before = self._before[2]
        if callable(before):
            before(number, frame)
