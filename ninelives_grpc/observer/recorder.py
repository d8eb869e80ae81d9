"""Every call that ended, noted in a moment on its way out and counted up later.

The path of a call only appends a tuple to a deque. Whoever asks folds what has gathered into counts
and sliding windows; should nobody ask, a call does so now and then, and the deque stays short.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ninelives_grpc.events import RequestFailed, RequestSucceeded
from ninelives_grpc.forking import afresh_in_children
from ninelives_grpc.outcome import Code, Kind, Outcome
from ninelives_grpc.windows.lru import LeastRecentlyUsed
from ninelives_grpc.windows.sketch import bucket_of, quantile
from ninelives_grpc.windows.sliding import HORIZONS, SLOT, SlidingWindow

if TYPE_CHECKING:
    from ninelives_grpc.call import Call, Method, Side
    from ninelives_grpc.events import Emitter

_FOLD_AT = 1024
"""Calls that may gather before one of them folds; a few milliseconds of work."""
_MAX_METHODS = 1000
_OTHER = "_OTHER"
"""Stands for all methods beyond those; the word of the OpenTelemetry conventions."""
REFUSED = "refused"


class Ending(NamedTuple):
    """How calls ended that are counted together."""

    side: Side
    method: str
    code: str
    result: str
    """"success", "failure", "ignored" or "refused"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The calls of a window.

    Attributes:
        seconds: Length of the window; shorter than asked for when the stack is younger.
        calls: Calls that ended in it.
        successes: Calls that the backend answered.
        failures: Calls that failed.
        refusals: Calls that a policy of ours refused.
        ignored: Calls that were cancelled, aborted, or turned away by an overloaded backend.
        p50, p95, p99: Seconds that so much of the calls did not exceed, refusals apart, or None.
    """

    seconds: float
    calls: int
    successes: int
    failures: int
    refusals: int
    ignored: int
    p50: float | None
    p95: float | None
    p99: float | None

    @property
    def calls_per_second(self) -> float:
        """How many calls ended in a second, on average."""
        return self.calls / self.seconds if self.seconds else 0.0

    @property
    def success_rate(self) -> float:
        """Share of calls that the backend answered, 0..1; 1 when there were none."""
        return self.successes / self.calls if self.calls else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The calls since the start.

    Attributes:
        calls: How many ended how.
        durations: How many of those that were not refused took how long, by bucket.
        retries: How many calls of a method were repeated so often.
        delays: How many of those waited how long between attempts, by bucket.
    """

    calls: Counter[Ending]
    durations: Counter[tuple[Ending, int]]
    retries: Counter[tuple[str, int]]
    delays: Counter[tuple[str, int]]


class Recorder:
    """The calls of one stack."""

    def __init__(self, emitter: Emitter, started: float) -> None:
        """Begin with none."""
        self._emitter = emitter
        self._started = started
        self._answered: deque[tuple[Method, float, float]] = deque()
        self._others: deque[tuple[Method, float, float, Code, str]] = deque()
        self._gathered = 0
        self._lock = threading.Lock()
        self._totals = Totals(
            calls=Counter(), durations=Counter(), retries=Counter(), delays=Counter()
        )
        self._names: set[str] = set()
        self._windows = LeastRecentlyUsed(_MAX_METHODS, lambda _: SlidingWindow())
        self._window = SlidingWindow()
        afresh_in_children(self)

    def start_afresh(self) -> None:
        """Make a new lock: a thread that a forked child does not have may hold the old one."""
        self._lock = threading.Lock()

    def ended(self, call: Call, outcome: Outcome, now: float) -> None:
        """Note a call that ended; on the path of every call."""
        emitter = self._emitter
        if outcome.code is Code.OK:
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

    def _note(self, call: Call, outcome: Outcome, now: float) -> None:
        """Note a call that ended otherwise than with OK."""
        kind, refused = outcome.kind, outcome.refusal is not None
        result = REFUSED if refused else kind.value
        self._others.append((call.method, now, now - call.started, outcome.code, result))
        if self._emitter.routine or kind is not Kind.SUCCESS:
            self._publish(call, outcome, now)

    def fold(self) -> None:
        """Count what has gathered since the last time."""
        self._gathered = 0
        with self._lock:
            # Many calls end alike, so they are sorted first, and counted by the bunch.
            for (method, slot), durations in self._answered_alike().items():
                self._count(method, Code.OK, Kind.SUCCESS.value, slot, durations)
            for (method, code, result, slot), durations in self._others_alike().items():
                self._count(method, code, result, slot, durations)

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
        return alike

    def _others_alike(self) -> dict[tuple[Method, Code, str, float], list[float]]:
        others = self._others
        alike: dict[tuple[Method, Code, str, float], list[float]] = {}
        for _ in range(len(others)):
            method, at, duration, code, result = others.popleft()
            alike.setdefault((method, code, result, at // SLOT), []).append(duration)
        return alike

    def _count(
        self, method: Method, code: Code, result: str, slot: float, durations: list[float]
    ) -> None:
        name = self._name(method)
        ending = Ending(method.side, name, code.name, result)
        totals = self._totals
        totals.calls[ending] += len(durations)
        buckets: Counter[int] = Counter()
        if result != REFUSED:
            buckets.update(map(bucket_of, durations))
        for bucket, count in buckets.items():
            totals.durations[ending, bucket] += count
        for window in (self._window, self._windows.get(name)):
            window.add(slot * SLOT, result, len(durations), buckets)

    def totals(self) -> Totals:
        """Return all calls since the start."""
        self.fold()
        with self._lock:
            totals = self._totals
            return Totals(
                calls=Counter(totals.calls),
                durations=Counter(totals.durations),
                retries=Counter(totals.retries),
                delays=Counter(totals.delays),
            )

    def traffic(self, horizon: float, now: float) -> Traffic:
        """Return all calls of the last 60, 300 or 900 seconds."""
        self.fold()
        with self._lock:
            return self._summary(self._window, horizon, now)

    def methods(self, horizon: float, now: float) -> dict[str, Traffic]:
        """Return the calls of the last 60, 300 or 900 seconds, by method."""
        self.fold()
        with self._lock:
            return {
                method: self._summary(window, horizon, now)
                for method, window in self._windows.items()
            }

    def _name(self, method: Method) -> str:
        if method.name not in self._names:
            if len(self._names) >= _MAX_METHODS:
                return _OTHER
            self._names.add(method.name)
        return method.name

    def _note_extra(self, call: Call) -> None:
        """Count the repetitions of a call, and tell the budgets that they are over."""
        for budget in call.paid:
            budget.release()
        repeated = call.attempts - 1
        if repeated < 1:
            # What was paid for or waited for was then refused.
            return
        with self._lock:
            name = self._name(call.method)
            self._totals.retries[name, repeated] += 1
            self._totals.delays[name, bucket_of(call.delay)] += 1

    def _summary(self, window: SlidingWindow, horizon: float, now: float) -> Traffic:
        if horizon not in HORIZONS:
            msg = f"a window of {horizon:g} s is not kept; ask for one of {HORIZONS}"
            raise ValueError(msg)
        total = window.total(horizon, now)
        return Traffic(
            seconds=min(horizon, max(now - self._started, 1e-9)),
            calls=total.results.total(),
            successes=total.results[Kind.SUCCESS.value],
            failures=total.results[Kind.FAILURE.value],
            refusals=total.results[REFUSED],
            ignored=total.results[Kind.IGNORED.value],
            p50=quantile(total.durations, 0.50),
            p95=quantile(total.durations, 0.95),
            p99=quantile(total.durations, 0.99),
        )

    def _publish(self, call: Call, outcome: Outcome, now: float) -> None:
        about = {"stack": self._emitter.stack, "method": call.method.name}
        duration = now - call.started
        if outcome.kind is Kind.SUCCESS:
            self._emitter.emit(RequestSucceeded(**about, at=now, duration=duration))
        elif outcome.code is not Code.CANCELLED:
            code = outcome.code.name
            self._emitter.emit(RequestFailed(**about, at=now, duration=duration, code=code))
