"""Sync call objects of our own, for calls that may take more than one attempt.

They are what gRPC returns in their place: `grpc.Call`, `grpc.Future`, and for response streams an
iterator. Code, details and metadata are those of the last attempt.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import grpc

from ninelives_grpc.errors import LocalError
from ninelives_grpc.outcome import Code
from ninelives_grpc.scheduler import scheduler
from ninelives_grpc.stacks.edge import error_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from ninelives_grpc.interceptors.driver import Driver
    from ninelives_grpc.stacks.stack import Stack

    Future = grpc.Future[Any]
else:
    Future = grpc.Future

T = TypeVar("T")


class ProtectedCall(grpc.RpcError, grpc.Call, Future, Generic[T]):
    """A call with a unary response, in the form of a future.

    Like gRPC's own, it is also an `RpcError`, but what is raised is the error of the last attempt.
    """

    def __init__(self, stack: Stack, driver: Driver) -> None:
        """Show what the driver does."""
        super().__init__()
        self._stack = stack
        self._driver = driver

    def result(self, timeout: float | None = None) -> T:
        """Return the response, or raise as gRPC's future does."""
        ended = self._ended(timeout, asked="result")
        if self._driver.execution.outcome.local:
            value: T = self._driver.execution.outcome.value  # type: ignore[assignment]
            return value
        self._raise_if_cancelled()
        if isinstance(ended, LocalError):
            raise ended
        result: T = ended.result()
        return result

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Return the error, or None."""
        ended = self._ended(timeout, asked="exception")
        self._raise_if_cancelled()
        error: Exception | None = None if ended is None else ended.exception()
        return error

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        """Return the traceback of the error, or None."""
        ended = self._ended(timeout, asked="traceback")
        self._raise_if_cancelled()
        return None if ended is None else ended.traceback()

    def code(self) -> grpc.StatusCode:
        """Return the status code of the last attempt, once the call is over."""
        ended = self._ended(asked="code")
        code: grpc.StatusCode = Code.OK if ended is None else ended.code()
        return code

    def details(self) -> str:
        """Return the details of the last attempt, once the call is over."""
        ended = self._ended(asked="details")
        return "answered locally" if ended is None else str(ended.details() or "")

    def debug_error_string(self) -> str:
        """Return what gRPC says for debugging, once the call is over."""
        ended = self._ended(asked="debug_error_string")
        return "" if ended is None else str(ended.debug_error_string() or "")

    def trailing_metadata(self) -> Any:
        """Return the trailing metadata of the last attempt, once the call is over."""
        ended = self._ended(asked="trailing_metadata")
        return () if ended is None else ended.trailing_metadata()

    def initial_metadata(self) -> Any:
        """Return the headers as soon as an attempt has some; from then on nothing is repeated."""
        driver, attempt = self._driver, None
        while True:
            attempt = driver.next_attempt(attempt)
            if attempt is None:
                return () if driver.attempt is None else driver.attempt.initial_metadata()
            metadata = attempt.initial_metadata()
            with driver.lock:
                if driver.attempt is attempt and attempt.is_active():
                    # Without headers of the server's it may be a failure whose code is on its way.
                    driver.execution.call.committed |= bool(metadata)
                    return metadata
                if driver.finished:
                    return metadata

    def cancel(self) -> bool:
        """Cancel the attempt, or the wait between two."""
        return self._driver.cancel()

    def cancelled(self) -> bool:
        """Tell whether it was cancelled here: a server may end a call with that code too."""
        driver = self._driver
        if not driver.finished or driver.execution.outcome.code is not Code.CANCELLED:
            return False
        error = driver.execution.outcome.error
        return error.cancelled() if isinstance(error, grpc.Future) else True

    def running(self) -> bool:
        """Tell whether it is under way."""
        return not self._driver.finished

    def done(self) -> bool:
        """Tell whether it is over."""
        return self._driver.finished

    def is_active(self) -> bool:
        """Tell whether it is under way."""
        return not self._driver.finished

    def time_remaining(self) -> float | None:  # type: ignore[override]
        """Return the seconds left, or None without a deadline."""
        deadline = self._driver.execution.call.deadline
        return None if deadline is None else max(0.0, deadline - self._stack.clock.now())

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call back at the end; False when that has passed."""
        return self._driver.when_finished(callback)

    def add_done_callback(self, fn: Callable[[Future], None]) -> None:
        """Call `fn` with this object at the end, or at once when that has passed."""
        if not self._driver.when_finished(partial(fn, self)):
            fn(self)

    def _ended(self, timeout: float | None = None, asked: str = "code") -> Any:
        """Wait for the end, and return what knows about it; None is a local answer."""
        driver = self._driver
        with driver.changed:
            if not driver.wait_for(
                lambda: driver.finished or _waits_for_its_reader(driver.attempt), timeout
            ):
                raise grpc.FutureTimeoutError
            if not driver.finished:
                # Raises `UsageError`: nobody else would bring about what it would wait for.
                getattr(driver.attempt, asked)()
        return _end_of(driver, self._stack)

    def _raise_if_cancelled(self) -> None:
        if self.cancelled():
            raise grpc.FutureCancelledError

    def __str__(self) -> str:
        """Show how it ended, or that it has not."""
        return repr(self)

    def __repr__(self) -> str:
        """Show how it ended, or that it has not."""
        if not self._driver.finished:
            return f"<{type(self).__name__} of {self._driver.execution.call.method.name}>"
        return f"<{type(self).__name__} {_end_of(self._driver, self._stack)!r}>"

    def __del__(self) -> None:
        """Cancel a call that nobody holds any more, as gRPC does.

        In another thread: garbage collection may come at any moment, also under a policy's lock.
        """
        driver: Driver | None = getattr(self, "_driver", None)
        if driver is not None and not driver.finished:
            scheduler.later(0.0, driver.drop)


class ProtectedStream(ProtectedCall[T]):
    """A call with a response stream."""

    def __init__(self, stack: Stack, driver: Driver) -> None:
        """Show what the driver does."""
        super().__init__(stack, driver)
        self._attempt: Any = None
        self._take: Callable[[Any], T] = next
        self._local: Iterator[T] | None = None

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end; a stream has no result, as in gRPC."""
        self._ended(timeout, asked="result")
        return super().result() if not self._driver.execution.outcome.local else None

    def __iter__(self) -> Self:
        """Go through the messages."""
        return self

    def __next__(self) -> T:
        """Return the next message."""
        if self._attempt is not None:
            try:
                return self._take(self._attempt)
            except grpc.RpcError:
                self._driver.failed(self._attempt)
                raise
        return self._first()

    def next(self) -> T:
        """Return the next message: gRPC's streams have this name for it too."""
        return next(self)

    def _first(self) -> T:
        driver, attempt = self._driver, None
        while True:
            attempt = driver.next_attempt(attempt)
            if attempt is None:
                return self._after_the_last()
            try:
                message: T = driver.read(attempt)
            except grpc.RpcError:
                # Another attempt may follow; if not, `_after_the_last` raises this error.
                continue
            if driver.followed:
                self._take = driver.take
            self._attempt = attempt
            return message

    def _after_the_last(self) -> T:
        """Go on where no attempt is left to read from: a local answer, or the end."""
        driver = self._driver
        outcome = driver.execution.outcome
        if outcome.local:
            if self._local is None:
                self._local = iter(outcome.value)  # type: ignore[call-overload]
            return next(self._local)
        if not outcome.failed:
            raise StopIteration
        raise self._ended()


def single_threaded(attempt: Any) -> bool:
    """Tell whether an attempt is a stream that only goes on while it is read, and never calls back.

    gRPC makes them where a channel has the experimental option `SingleThreadedUnaryStream`.
    """
    return type(attempt).__name__ == "_SingleThreadedRendezvous"


def _waits_for_its_reader(attempt: Any) -> bool:
    return single_threaded(attempt) and attempt.is_active()


def _tells_of(attempt: Any, error: BaseException | None) -> bool:
    """Tell whether it is for an error of no call that gRPC made this object of an attempt."""
    return error is not None and attempt.done() and attempt.exception() is error


def _end_of(driver: Driver, stack: Stack) -> Any:
    """Return the object that knows how a call ended; None for a local answer."""
    outcome = driver.execution.outcome
    if not outcome.failed:
        return None if outcome.local else driver.attempt
    if outcome.refusal is not None and outcome.error is None:
        outcome.error = error_of(outcome, stack.name)
    if isinstance(outcome.error, grpc.Call):
        return error_of(outcome, stack.name)
    attempt = driver.attempt
    if attempt is not None and (attempt.cancelled() or _tells_of(attempt, outcome.error)):
        return attempt
    # Cancelled between two attempts, or the channel was closed meanwhile.
    details = str(outcome.error or "Locally cancelled by application!")
    return LocalError(details, code=outcome.code)
