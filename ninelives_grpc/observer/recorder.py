"""Every call that ended, noted in a moment on its way out and counted up later.

The path of a call only appends a tuple to a deque. Whoever asks folds what has gathered into counts
and sliding windows; should nobody ask, a call does so now and then, and the deque stays short.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ninelives_grpc.events import RequestFailed, RequestSucceeded
from ninelives_grpc.forking import afresh_in_children
from ninelives_grpc.observer.reader import CallReader, Reading
from ninelives_grpc.observer.traffic import Traffic, traffic_of
from ninelives_grpc.outcome import Code, Kind, Outcome
from ninelives_grpc.windows.sketch import bucket_of
from ninelives_grpc.windows.sliding import (
    SLOT,
    CallSlot,
    SlidingWindow,
    check_horizon,
)

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from ninelives_grpc.call import Call, Method, Side
    from ninelives_grpc.events import Emitter

_FOLD_AT = 1024
"""Calls that may gather before one of them folds; a few milliseconds of work."""
_MAX_SERIES = 1000
OTHER = "_OTHER"
"""Stands for all methods and targets beyond those; the word of the OpenTelemetry conventions."""
REFUSED = "refused"


class Ending(NamedTuple):
    """How calls ended that are counted together."""

    side: Side
    method: str
    code: str
    result: str
    """"success", "failure", "ignored" or "refused"."""
    target: str = ""
    """Where the channel leads, "" if that is not known."""


class Series(NamedTuple):
    """Calls that a window is kept for: those of a method to a target."""

    method: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemplar:
    """One call of many, and the span that was active when it ended.

    Attributes:
        duration: How long it took, in seconds.
        time: When it ended, seconds since 1970.
        trace_id: The trace, as OpenTelemetry numbers it.
        span_id: The span.
    """

    duration: float
    time: float
    trace_id: int
    span_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The calls since the start.

    Attributes:
        calls: How many ended how.
        durations: How many of those that were not refused took how long, by bucket.
        seconds: How long these took together.
        retries: How many calls of a method were repeated so often.
        delays: How many of those waited how long between attempts, by bucket.
    """

    calls: Counter[Ending]
    durations: Counter[tuple[Ending, int]]
    seconds: dict[Ending, float]
    retries: Counter[tuple[str, int]]
    delays: Counter[tuple[str, int]]


def by_ending(durations: Counter[tuple[Ending, int]]) -> dict[Ending, dict[int, int]]:
    """Return how many calls fell into which bucket, for each way in which they ended."""
    buckets: dict[Ending, dict[int, int]] = defaultdict(dict)
    for (ending, bucket), count in durations.items():
        buckets[ending][bucket] = count
    return buckets


class Ended(NamedTuple):
    """A call that did not simply end well at its first attempt."""

    method: Method
    at: float
    duration: float
    code: Code
    result: str
    attempts: int
    answered: bool


class Recorder:
    """The calls of one stack.

    Attributes:
        overflowed: Calls of methods or targets beyond the first so many, counted as `OTHER`.
        ended_at: When the last call ended of those that were counted, or None.
    """

    def __init__(self, emitter: Emitter, started: float) -> None:
        """Begin with none."""
        self.overflowed = 0
        self.ended_at: float | None = None
        self.started = started
        self._emitter = emitter
        self._count_event = emitter.counter_of("")
        self._answered: deque[tuple[Method, float, float]] = deque()
        self._others: deque[Ended] = deque()
        self._gathered = 0
        self._lock = threading.Lock()
        self._totals = Totals(
            calls=Counter(), durations=Counter(), seconds={}, retries=Counter(), delays=Counter()
        )
        self._exemplars: dict[Ending, Exemplar] = {}
        self._windows: dict[Series, SlidingWindow[CallSlot]] = {}
        self._window = SlidingWindow(CallSlot)
        self._readers: tuple[CallReader, ...] = ()
        afresh_in_children(self)

    def start_afresh(self) -> None:
        """Make a new lock: a thread that a forked child does not have may hold the old one."""
        self._lock = threading.Lock()

    def ended(self, call: Call, outcome: Outcome, now: float) -> None:
        """Note a call that ended; on the path of every call."""
        emitter = self._emitter
        if outcome.code is Code.OK and call.attempts == 1 and not outcome.local:
            self._answered.append((call.method, now, now - call.started))
            if emitter.routine:
                self._publish(call, outcome, now)
        else:
            self._note(call, outcome, now)
        if call.delay or call.paid:
            self._note_extra(call)
        # Threads may count past each other: then it is a few calls later.
        self._gathered = gathered = self._gathered + 1
        if gathered >= _FOLD_AT:
            self.fold()
            self._exemplify(call.method, outcome.code, outcome.kind.value, now - call.started)

    def exemplars(self) -> dict[Ending, Exemplar]:
        """Return an example for each way in which calls ended, of those with an active span.

        Of good calls that is one in a thousand, and of others the last.
        """
        with self._lock:
            return dict(self._exemplars)

    def _exemplify(self, method: Method, code: Code, result: str, duration: float) -> None:
        """Keep a call as an example, if a span is active that is recorded."""
        span = _active_span()
        if span is None:
            return
        with self._lock:
            series = self._series(method)
            ending = Ending(method.side, series.method, code.name, result, series.target)
            self._exemplars[ending] = Exemplar(
                duration=duration, time=time.time(), trace_id=span.trace_id, span_id=span.span_id
            )

    def _note(self, call: Call, outcome: Outcome, now: float) -> None:
        """Note a call that ended otherwise."""
        kind, attempts = outcome.kind, call.attempts
        result = kind.value if outcome.refusal is None else REFUSED
        answered = kind is Kind.SUCCESS and attempts > 0 and not outcome.local
        duration = now - call.started
        self._others.append(
            Ended(call.method, now, duration, outcome.code, result, attempts, answered)
        )
        if self._emitter.routine or kind is not Kind.SUCCESS:
            self._publish(call, outcome, now)
        if result != REFUSED:
            self._exemplify(call.method, outcome.code, result, duration)

    def fold(self) -> None:
        """Count what has gathered since the last time."""
        self._gathered = 0
        self._emitter.fold()
        with self._lock:
            # Many calls end alike, so they are sorted first, and counted by the bunch.
            for (method, slot), durations in self._answered_alike().items():
                calls = len(durations)
                self._count(method, Code.OK, Kind.SUCCESS.value, slot, durations, calls, calls)
            for (method, code, result, slot), ended in self._others_alike().items():
                self._count(
                    method,
                    code,
                    result,
                    slot,
                    [each.duration for each in ended],
                    sum(each.attempts for each in ended),
                    sum(each.answered for each in ended),
                )

    def _answered_alike(self) -> dict[tuple[Method, float], list[float]]:
        answered = self._answered
        alike: dict[tuple[Method, float], list[float]] = {}
        last: Method | None = None
        slot, durations = -1.0, []
        for _ in range(len(answered)):
            method, at, duration = answered.popleft()
            if method is not last or at // SLOT != slot:
                last, slot = method, at // SLOT
                durations = alike.setdefault((method, slot), [])
            durations.append(duration)
        if alike:
            self.ended_at = at
        return alike

    def _others_alike(self) -> dict[tuple[Method, Code, str, float], list[Ended]]:
        others = self._others
        alike: dict[tuple[Method, Code, str, float], list[Ended]] = {}
        for _ in range(len(others)):
            ended = others.popleft()
            key = ended.method, ended.code, ended.result, ended.at // SLOT
            alike.setdefault(key, []).append(ended)
        if alike:
            self.ended_at = max(ended.at, self.ended_at or ended.at)
        return alike

    def _count(
        self,
        method: Method,
        code: Code,
        result: str,
        slot: float,
        durations: list[float],
        attempts: int,
        answered: int,
    ) -> None:
        series, calls, totals = self._series(method), len(durations), self._totals
        if series.method == OTHER:
            self.overflowed += calls
        ending = Ending(method.side, series.method, code.name, result, series.target)
        totals.calls[ending] += calls
        buckets: Counter[int] = Counter()
        seconds = 0.0
        if result != REFUSED:
            buckets.update(map(bucket_of, durations))
            seconds = math.fsum(durations)
            totals.seconds[ending] = totals.seconds.get(ending, 0.0) + seconds
        for bucket, count in buckets.items():
            totals.durations[ending, bucket] += count
        for window in (self._window, self._windows[series]):
            place = window.slot(slot * SLOT)
            place.add(result, calls, attempts, answered)
            place.durations.put(buckets, seconds)
        for reader in self._readers:
            reader.slot.add(result, calls, attempts, answered)
            reader.slot.durations.put(buckets, seconds)

    def follow(self, now: float) -> CallReader:
        """Return a reader of the calls that end from now on."""
        self.fold()
        reader = CallReader(now)
        with self._lock:
            self._readers = (*self._readers, reader)
        return reader

    def read(self, reader: CallReader, now: float) -> Reading:
        """Return the calls that a reader has gathered; it goes on."""
        self.fold()
        with self._lock:
            return reader.reading(now)

    def restart(self, reader: CallReader, now: float) -> None:
        """Have a reader begin anew with the calls that it has not been read of."""
        with self._lock:
            reader.restart(now)

    def leave(self, reader: CallReader) -> None:
        """Tell a reader of no more calls."""
        with self._lock:
            self._readers = tuple(other for other in self._readers if other is not reader)

    def totals(self) -> Totals:
        """Return all calls since the start."""
        self.fold()
        with self._lock:
            totals = self._totals
            return Totals(
                calls=Counter(totals.calls),
                durations=Counter(totals.durations),
                seconds=dict(totals.seconds),
                retries=Counter(totals.retries),
                delays=Counter(totals.delays),
            )

    def traffic(self, horizon: float, now: float) -> Traffic:
        """Return all calls of the last 60, 300 or 900 seconds.

        Raises:
            ValueError: Another window is asked for; names the three.
        """
        check_horizon(horizon)
        self.fold()
        with self._lock:
            return self._summary(self._window.total(horizon, now), now)

    def series(self, horizon: float, now: float) -> dict[Series, Traffic]:
        """Return the calls of the last 60, 300 or 900 seconds, by method and target."""
        check_horizon(horizon)
        self.fold()
        with self._lock:
            return {
                series: self._summary(window.total(horizon, now), now)
                for series, window in self._windows.items()
            }

    def methods(self, horizon: float, now: float) -> dict[str, Traffic]:
        """Return the calls of the last 60, 300 or 900 seconds, by method."""
        check_horizon(horizon)
        self.fold()
        totals: dict[str, CallSlot] = {}
        with self._lock:
            for series, window in self._windows.items():
                found = window.total(horizon, now)
                if series.method in totals:
                    totals[series.method].merge(found)
                else:
                    totals[series.method] = found
        return {method: self._summary(total, now) for method, total in totals.items()}

    def _series(self, method: Method) -> Series:
        """Return what the calls of a method are counted under; the lock is held."""
        series = Series(method.name, method.target)
        if series not in self._windows:
            if len(self._windows) >= _MAX_SERIES:
                series = Series(OTHER, OTHER if method.target else "")
            self._windows.setdefault(series, SlidingWindow(CallSlot))
        return series

    def _note_extra(self, call: Call) -> None:
        """Count the repetitions of a call, and tell the budgets that they are over."""
        for budget in call.paid:
            budget.release()
        repeated = call.attempts - 1
        if repeated < 1:
            # What was paid for or waited for was then refused.
            return
        with self._lock:
            name = self._series(call.method).method
            self._totals.retries[name, repeated] += 1
            self._totals.delays[name, bucket_of(call.delay)] += 1

    def _summary(self, slot: CallSlot, now: float) -> Traffic:
        return traffic_of(slot, max(now - max(slot.start, self.started), 1e-9))

    def _publish(self, call: Call, outcome: Outcome, now: float) -> None:
        emitter, duration = self._emitter, now - call.started
        failed = outcome.kind is not Kind.SUCCESS
        if failed:
            if outcome.code is Code.CANCELLED:
                return
            self._count_event(RequestFailed)
        if emitter.sink is None:
            return
        about = emitter.stack, "", call.method.name, now, call.attempts, ""
        if failed:
            emitter.tell(RequestFailed, *about, duration, outcome.code.name)
        else:
            emitter.tell(RequestSucceeded, *about, duration)


def _active_span() -> SpanContext | None:
    """Return the span that is active and recorded; none is where nobody has imported tracing."""
    tracing = sys.modules.get("opentelemetry.trace")
    if tracing is None:
        return None
    context: SpanContext = tracing.get_current_span().get_span_context()
    return context if context.trace_flags.sampled else None
