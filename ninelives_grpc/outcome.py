"""How a call or an attempt ended, and what that teaches a policy."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError
from enum import StrEnum
from typing import TYPE_CHECKING

import grpc

from ninelives_grpc.errors import PUSHBACK_KEY, LocalError, Refused, TimedOut

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ninelives_grpc.policies.gate import Refusal

Code = grpc.StatusCode

STOP_PUSHBACK = -1.0
"""A pushback that says "do not retry", or that cannot be read, which gRFC A6 treats alike."""

_LOST = "Internal error from Core"
_TOO_LARGE = "message larger than max"
"""What gRPC says of a message that it does not send or take, with RESOURCE_EXHAUSTED."""

FAILURES = frozenset(
    {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.DATA_LOSS, Code.UNKNOWN}
)
NEUTRAL = frozenset({Code.CANCELLED, Code.ABORTED})


class Kind(StrEnum):
    """What an outcome teaches."""

    SUCCESS = "success"
    """The backend answered, be it with NOT_FOUND."""
    FAILURE = "failure"
    """The backend is in trouble."""
    IGNORED = "ignored"
    """Nothing: cancelled, refused by us, or the backend only said that it has too much to do."""


class Outcome:
    """The end of one attempt, or of a whole call.

    A plain class with slots and positional arguments: one is made on the path of every call.

    Attributes:
        kind: What it teaches.
        code: Status code; an exception that is no RPC error counts as UNKNOWN.
        duration: Seconds from start to end; for a response stream, to its first message where a
            policy asks for that. gRPC's own call objects do not tell.
        error: What the caller will get raised, or None.
        pushback: Seconds that the server asked to wait, `STOP_PUSHBACK`, or None.
        refusal: The refusal, when a policy of ours said no.
        value: What the work returned, where the driver needs it.
        local: Whether `value` is an answer of our own and not the backend's.
        timed_out: Whether a time limit of ours ran out, and not the caller's deadline.
        lost: Whether gRPC has lost the status that the server sent. Under asyncio a write that
            fails because the server has ended the call is reported in place of the reason.
        notes: What to add to the error, such as how the fallback failed.
    """

    __slots__ = (
        "code",
        "duration",
        "error",
        "kind",
        "local",
        "lost",
        "notes",
        "pushback",
        "refusal",
        "timed_out",
        "value",
    )

    def __init__(
        self,
        kind: Kind,
        code: Code,
        duration: float,
        error: BaseException | None = None,
        pushback: float | None = None,
        refusal: Refusal | None = None,
        value: object = None,
    ) -> None:
        self.kind = kind
        self.code = code
        self.duration = duration
        self.error = error
        self.pushback = pushback
        self.refusal = refusal
        self.value = value
        self.local = False
        self.lost = False
        self.timed_out = False
        self.notes: tuple[str, ...] = ()

    @property
    def overload(self) -> bool:
        """Whether the backend said that it has too much to do."""
        if self.pushback is None and (
            self.code is not Code.RESOURCE_EXHAUSTED or _TOO_LARGE in _details(self.error)
        ):
            return False
        # A stack further in may have refused: it says nothing of the backend.
        return self.refusal is None and not isinstance(self.error, Refused)

    @property
    def failed(self) -> bool:
        """Whether the caller gets an error, be it a harmless one such as NOT_FOUND."""
        return self.code is not Code.OK

    def describe(self) -> str:
        """Say in one line how it ended, for notes and logs."""
        if self.refusal is not None:
            return f"{self.code.name}: {self.refusal.details}"
        return f"{self.code.name}: {_details(self.error)}"

    def __repr__(self) -> str:
        """Show kind, code and milliseconds."""
        return f"<Outcome {self.kind} {self.code.name} {self.duration * 1e3:.1f} ms>"


Classifier = "Callable[[Outcome], Kind | None]"
"""A policy's own view of an outcome; None leaves it as it is."""


def classify(code: Code, pushback: float | None = None) -> Kind:
    """Return what a status code teaches.

    A Python server turns an uncaught exception into UNKNOWN, so that is a failure.
    RESOURCE_EXHAUSTED and any reply with a pushback are ignored: breakers that count them lower the
    goodput of an overloaded server that is alive.
    """
    if code in FAILURES:
        return Kind.FAILURE if pushback is None else Kind.IGNORED
    if code in NEUTRAL or code is Code.RESOURCE_EXHAUSTED or pushback is not None:
        return Kind.IGNORED
    return Kind.SUCCESS


def succeeded(duration: float, value: object = None) -> Outcome:
    """Return the outcome of work that returned a value."""
    return Outcome(Kind.SUCCESS, Code.OK, duration, None, None, None, value)


def refused(refusal: Refusal) -> Outcome:
    """Return the outcome of an attempt that one of our policies refused, or let fail."""
    if refusal.failure is not None:
        return failed(refusal.failure, refusal.waited)
    return Outcome(Kind.IGNORED, refusal.code, 0.0, None, None, refusal)


def cancelled(duration: float = 0.0, error: BaseException | None = None) -> Outcome:
    """Return the outcome of work that nobody waits for any more."""
    return Outcome(Kind.IGNORED, Code.CANCELLED, duration, error)


def failed(error: BaseException, duration: float) -> Outcome:
    """Return the outcome of work that raised."""
    code, pushback = code_of(error), None
    if isinstance(error, grpc.RpcError):
        if isinstance(error, Refused):
            return Outcome(Kind.IGNORED, code, duration, error)
        pushback = pushback_of(error)
    outcome = Outcome(classify(code, pushback), code, duration, error, pushback)
    outcome.lost = code is Code.INTERNAL and _details(error) == _LOST
    return outcome


def code_of(error: BaseException) -> Code:
    """Return the status code that an exception stands for."""
    if isinstance(error, grpc.RpcError):
        # A bare RpcError, as a server's own iterators raise it, has no code.
        code = getattr(error, "code", None)
        return code() if callable(code) else Code.UNKNOWN
    if isinstance(error, asyncio.CancelledError | CancelledError | grpc.FutureCancelledError):
        return Code.CANCELLED
    if isinstance(error, TimeoutError | grpc.FutureTimeoutError):
        return Code.DEADLINE_EXCEEDED
    if isinstance(error, ConnectionError):
        return Code.UNAVAILABLE
    return Code.UNKNOWN


def pushback_of(error: grpc.RpcError) -> float | None:
    """Return the seconds a server asked to wait, `STOP_PUSHBACK`, or None if it did not say."""
    if isinstance(error, LocalError):
        return None
    trailing = getattr(error, "trailing_metadata", None)
    return parse_pushback(trailing() if callable(trailing) else None)


def parse_pushback(metadata: Iterable[tuple[str, str | bytes]] | None) -> float | None:
    """Read `grpc-retry-pushback-ms` from trailing metadata (gRFC A6)."""
    for key, value in metadata or ():
        if key == PUSHBACK_KEY:
            try:
                seconds = int(value) / 1000
            except (ValueError, OverflowError):
                return STOP_PUSHBACK
            return seconds if seconds >= 0 else STOP_PUSHBACK
    return None


def _details(error: BaseException | None) -> str:
    details = getattr(error, "details", None)
    return str(details() if callable(details) else error)


__all__ = [
    "FAILURES",
    "STOP_PUSHBACK",
    "Code",
    "Kind",
    "Outcome",
    "TimedOut",
    "cancelled",
    "classify",
    "code_of",
    "failed",
    "parse_pushback",
    "pushback_of",
    "refused",
    "succeeded",
]
