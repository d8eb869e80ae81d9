"""A response stream that came as a plain iterator, as the call object that gRPC promises.

Interceptors of others may return a generator in place of gRPC's stream, as the OpenTelemetry
instrumentation does for sync response streams. It knows nothing of codes, callbacks or `cancel`.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import grpc

from ninelives_grpc.outcome import Code, code_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    Future = grpc.Future[Any]
else:
    Future = grpc.Future

T = TypeVar("T")


def call_object(started: Any) -> Any:
    """Return what an attempt started, which others may have made an iterator, as a call object."""
    return started if hasattr(started, "add_callback") else IteratedStream(started)


class IteratedStream(grpc.RpcError, grpc.Call, Future, Generic[T]):
    """Iterates, and notes how that ends: only who takes the messages brings the end about."""

    def __init__(self, messages: Iterator[T]) -> None:
        """Hold what has been started, or will be at the first message."""
        super().__init__()
        self._messages = messages
        self._inner: Any = None
        self._code: grpc.StatusCode | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def __iter__(self) -> Self:
        """Go through the messages."""
        return self

    def __next__(self) -> T:
        """Return the next message."""
        if self._code is not None:
            raise StopIteration if self._code is Code.OK else self
        try:
            message = next(self._messages)
        except StopIteration:
            if not self._end(Code.OK):
                raise self from None
            raise
        except BaseException as error:
            self._end(code_of(error), error)
            raise
        if self._code is not None:
            self._close()
            raise self
        if self._inner is None:
            self._inner = getattr(self._messages, "gi_yieldfrom", None)
        return message

    def cancel(self) -> bool:
        """End the stream, and from the first message on gRPC's own inside of it.

        A generator does not show what it waits for while it runs: a thread that waits in it for
        the first message does so until that comes, or the deadline.
        """
        if not self._end(Code.CANCELLED):
            return False
        if hasattr(self._inner, "cancel"):
            self._inner.cancel()
        self._close()
        return True

    def _close(self) -> None:
        # A generator in which another thread waits can not be closed; that thread will do it.
        with contextlib.suppress(ValueError):
            getattr(self._messages, "close", _nothing)()

    def code(self) -> grpc.StatusCode | None:  # type: ignore[override]
        """Return the code once it has ended, and None before: waiting would not bring it about."""
        return self._code

    def details(self) -> str:
        """Return the details of the error, or nothing."""
        if self._code is Code.CANCELLED and self._error is None:
            return "Locally cancelled by application!"
        return str(self._told("details", "" if self._error is None else str(self._error)) or "")

    def debug_error_string(self) -> str:
        """Return what gRPC says of the error for debugging, or nothing."""
        return str(self._told("debug_error_string", "") or "")

    def initial_metadata(self) -> Any:
        """Return the headers where they can be known, and nothing otherwise."""
        return getattr(self._inner, "initial_metadata", tuple)()

    def trailing_metadata(self) -> Any:
        """Return the trailing metadata of the error, or nothing."""
        return self._told("trailing_metadata", ())

    def _told(self, name: str, otherwise: Any) -> Any:
        return getattr(self._error, name, lambda: otherwise)()

    def is_active(self) -> bool:
        """Tell whether it is under way."""
        return self._code is None

    def running(self) -> bool:
        """Tell whether it is under way."""
        return self._code is None

    def done(self) -> bool:
        """Tell whether it is over."""
        return self._code is not None

    def cancelled(self) -> bool:
        """Tell whether it was cancelled here."""
        return self._code is Code.CANCELLED and self._error is None

    def time_remaining(self) -> float | None:  # type: ignore[override]
        """Return None: it is not known."""

    def result(self, timeout: float | None = None) -> Any:
        """Raise the error there was; a stream has no result, as in gRPC."""
        if self._code not in {None, Code.OK}:
            raise self

    def exception(self, timeout: float | None = None) -> Any:
        """Return the error there was, or None."""
        return self if self._error is None and self.cancelled() else self._error

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        """Return the traceback of the error, or None."""
        return None if self._error is None else self._error.__traceback__

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call back at the end; False when that has passed."""
        with self._lock:
            if self._code is None:
                self._callbacks.append(callback)
                return True
        return False

    def add_done_callback(self, fn: Callable[[Future], None]) -> None:
        """Call `fn` with this object at the end, or at once when that has passed."""
        if not self.add_callback(lambda: fn(self)):
            fn(self)

    def _end(self, code: grpc.StatusCode, error: BaseException | None = None) -> bool:
        with self._lock:
            if self._code is not None:
                return False
            self._code, self._error = code, error
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        return True

    def __str__(self) -> str:
        """Show how it ended, or that it has not."""
        return repr(self)

    def __repr__(self) -> str:
        """Show how it ended, or that it has not."""
        if self._code is None:
            return f"<{type(self).__name__}>"
        return f"<{type(self).__name__} {self._code.name}: {self.details()}>"


def _nothing() -> None:
    """Close nothing: it is no generator."""
