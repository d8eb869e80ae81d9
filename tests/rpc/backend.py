"""A service on loopback that does what a test has written down, call by call.

A `Backend` holds the script and what came of it; `handlers` serves it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from grpc import StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PATIENCE = 20.0
"""Seconds after which something that has not happened will not happen any more."""


class RpcKind(StrEnum):
    """The four kinds of RPC; the values are the names in gRPC, and of the methods served."""

    UNARY_UNARY = "unary_unary"
    UNARY_STREAM = "unary_stream"
    STREAM_UNARY = "stream_unary"
    STREAM_STREAM = "stream_stream"

    @property
    def streams_requests(self) -> bool:
        return self.startswith("stream")

    @property
    def streams_responses(self) -> bool:
        return self.endswith("stream")

    @property
    def path(self) -> str:
        return f"/test.Scripted/{self}"


@dataclass(frozen=True, kw_only=True)
class Play:
    """How one call is served.

    Attributes:
        reads: Requests of a stream to read first; None reads all there are.
        initial: Headers to send before anything else, or None.
        messages: Responses of a stream to send.
        stalls: Whether to wait then, until the test releases it or the client has gone.
        raises: What the handler raises at the end, or None.
        code: How the call ends.
        details: What it says about that.
        trailing: Trailing metadata.
    """

    reads: int | None = None
    initial: tuple[tuple[str, str], ...] | None = None
    messages: int = 3
    stalls: bool = False
    raises: type[Exception] | None = None
    code: StatusCode = StatusCode.OK
    details: str = ""
    trailing: tuple[tuple[str, str | bytes], ...] = ()


ANSWER = Play()
STALL = Play(messages=0, stalls=True)
DOWN = Play(messages=0, code=StatusCode.UNAVAILABLE, details="down")


def fail(code: StatusCode, details: str = "", *, pushback: int | None = None, **rest: Any) -> Play:
    """Return a play that fails at once, perhaps asking for a wait of so many milliseconds."""
    trailing = () if pushback is None else (("grpc-retry-pushback-ms", str(pushback)),)
    return Play(messages=0, code=code, details=details, trailing=trailing, **rest)


class Visit:
    """One call as the server saw it.

    Attributes:
        method: The RPC's kind, which is its name.
        at: When it came.
        metadata: Request metadata.
        requests: What was read.
        remaining: Seconds that were left at the start, or None.
        stalled: Whether it waits, or waited, for the test.
        gone: Whether its handler found that nobody waits any more.
        ended: Whether its handler has ended.
    """

    def __init__(self, method: str, context: Any) -> None:
        self.method = method
        self.at = time.monotonic()
        self.metadata = dict(tuple(context.invocation_metadata()))
        self.peer = context.peer()
        self.requests: list[bytes] = []
        remaining = context.time_remaining()
        self.remaining = None if remaining is None or remaining > 1e9 else remaining
        self.stalled = False
        self.gone = False
        self.ended = False
        self.gate: Future[None] = Future()

    def answer(self) -> bytes:
        """Return what was read, so that a client can check it."""
        return b"+".join(self.requests)

    def release(self) -> None:
        """Let a stalled handler go on."""
        with contextlib.suppress(InvalidStateError):
            self.gate.set_result(None)

    def leave(self) -> None:
        """Let a stalled handler find that the client has gone."""
        self.gate.cancel()


class Backend:
    """A script, and the calls that came.

    Attributes:
        script: Plays that are still to come; calls beyond the script are answered.
        visits: The calls so far.
        changed: Notified at each step of a call.
    """

    def __init__(self, *plays: Play) -> None:
        self.script = deque(plays)
        self.visits: list[Visit] = []
        self.changed = threading.Condition()

    @property
    def attempts(self) -> int:
        """How many calls came."""
        return len(self.visits)

    def plays(self, *plays: Play) -> None:
        """Add to the script."""
        with self.changed:
            self.script.extend(plays)

    def begin(self, method: str, context: Any) -> tuple[Visit, Play]:
        """Note a call, and say how to serve it."""
        visit = Visit(method, context)
        with self.changed:
            self.visits.append(visit)
            play = self.script.popleft() if self.script else ANSWER
            self.changed.notify_all()
        return visit, play

    def take(self, visit: Visit, request: bytes) -> None:
        """Note a request of a call."""
        with self.changed:
            visit.requests.append(request)
            self.changed.notify_all()

    def note(self, visit: Visit, **what: bool) -> None:
        """Note a step of a call."""
        with self.changed:
            for name, value in what.items():
                setattr(visit, name, value)
            self.changed.notify_all()

    def wait_for(self, happened: Callable[[], object]) -> None:
        """Wait until something has come of the calls."""
        with self.changed:
            assert self.changed.wait_for(happened, PATIENCE), "the server waited in vain"

    def wait_until_stalled(self, count: int = 1) -> None:
        """Wait until so many handlers have stalled."""
        self.wait_for(lambda: sum(visit.stalled for visit in self.visits) >= count)

    def wait_until_gone(self, count: int = 1) -> None:
        """Wait until so many handlers have found that nobody waits for them."""
        self.wait_for(lambda: sum(visit.gone for visit in self.visits) >= count)

    def wait_until_all_gone(self) -> None:
        """Wait until every handler that was called has found that nobody waits for it."""
        self.wait_for(lambda: all(visit.gone for visit in self.visits))

    def wait_until_ended(self, count: int = 1) -> None:
        """Wait until so many handlers have ended."""
        self.wait_for(lambda: sum(visit.ended for visit in self.visits) >= count)

    def release(self) -> None:
        """Let every stalled handler go on."""
        for visit in tuple(self.visits):
            visit.release()


def message(number: int, visit: Visit) -> bytes:
    """Return one response of a stream."""
    return b"%d:%b" % (number, visit.answer())


def expected(kind: RpcKind, requests: Sequence[bytes], messages: int = 3) -> list[bytes]:
    """Return what `ANSWER` sends back."""
    whole = b"+".join(requests if kind.streams_requests else requests[:1])
    if kind.streams_responses:
        return [b"%d:%b" % (number, whole) for number in range(messages)]
    return [whole]
