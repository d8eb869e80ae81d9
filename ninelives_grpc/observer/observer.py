"""What is happening, why, and since when: the stacks of a registry over the last minutes.

The observer listens as a sink, and only notes what it is told. Whoever asks folds the notes into
sliding windows; should nobody ask, an event does so now and then.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from ninelives_grpc.errors import UnknownNameError
from ninelives_grpc.events import ParameterChanged
from ninelives_grpc.forking import afresh_in_children
from ninelives_grpc.observer.inspect import circuits_of, inspected
from ninelives_grpc.observer.model import (
    CircuitMetrics,
    Metrics,
    PolicyMetrics,
    SeriesMetrics,
    StackMetrics,
    StateChange,
)
from ninelives_grpc.observer.transitions import STATES, Transitions
from ninelives_grpc.registry import default_registry
from ninelives_grpc.sinks.sink import LazySink
from ninelives_grpc.windows.lru import LeastRecentlyUsed
from ninelives_grpc.windows.sliding import (
    SLOT,
    EventSlot,
    SlidingWindow,
    beginning,
    check_horizon,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.events import Event
    from ninelives_grpc.events.event import Pending, Values
    from ninelives_grpc.observer.traffic import Traffic
    from ninelives_grpc.policies.policy import Live
    from ninelives_grpc.registry import Registry
    from ninelives_grpc.stacks.stack import PolicyState, Stack

_LOGGER = logging.getLogger("ninelives_grpc")
_FOLD_AT = 1024
_MOST = 1 << 16
"""Events that may wait for that; beyond them the oldest are lost, and counted."""
_MAX_POLICIES = 1000
_MAX_CIRCUITS = 1000
_CHANGES = {*STATES, ParameterChanged}
_RETRIES = ("RetryAttempt", "HedgeStarted")


class Observer(LazySink):
    """Answers what the stacks of a registry do, over 60, 300 or 900 seconds.

    Args:
        registry: The stacks, those to come as well; by default `default_registry`.

    Attributes:
        dropped: Events that were not counted, as too many came at once.
    """

    def __init__(self, registry: Registry | None = None) -> None:
        """Begin to listen."""
        self.dropped = 0
        self.registry = default_registry if registry is None else registry
        self._events: deque[Pending] = deque()
        self._lock = threading.Lock()
        self._windows = LeastRecentlyUsed(_MAX_POLICIES, lambda _: SlidingWindow(EventSlot))
        self._circuits = LeastRecentlyUsed(_MAX_CIRCUITS, lambda _: Transitions())
        self._callbacks: tuple[Callable[[StateChange], None], ...] = ()
        afresh_in_children(self)
        self.registry.attach(self)

    def start_afresh(self) -> None:
        """Make a new lock: a thread that a forked child does not have may hold the old one."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Listen no more; what is known can still be asked for."""
        self.registry.detach(self)

    def take(self, kind: type[Event], values: Values) -> None:
        """Note an event; on the path of calls."""
        events = self._events
        events.append((kind, values))
        if kind in _CHANGES:
            self._changed(kind.from_values(values))
        if len(events) >= _FOLD_AT:
            self._fold()

    def on_change(self, callback: Callable[[StateChange], None]) -> Callable[[], None]:
        """Call `callback(change)` when a circuit or a parameter changes; returns how to end it.

        It is called where the change happens, on the path of a call perhaps, and must not block.
        What it raises is logged.
        """
        with self._lock:
            self._callbacks = (*self._callbacks, callback)

        def end() -> None:
            with self._lock:
                self._callbacks = tuple(each for each in self._callbacks if each is not callback)

        return end

    def metrics(
        self,
        window: float = 60.0,
        *,
        stack: str | None = None,
        policy: str | None = None,
        method: str | None = None,
        target: str | None = None,
    ) -> Metrics:
        """Return all that is known of a window, or the part of it that is asked for.

        Args:
            window: 60, 300 or 900 seconds.
            stack: Only this one.
            policy: Only policies of this name.
            method: Only series of this method.
            target: Only series of this target.

        Raises:
            ValueError: There is no such window; names the three.
            UnknownNameError: Nothing has that name; suggests the nearest.
        """
        check_horizon(window)
        found = tuple(self.registry) if stack is None else (self.registry.stack(stack),)
        if policy is not None:
            found = _those_with(found, policy)
        self._fold()
        stacks = [self._stack(each, window, policy) for each in found]
        for name, wanted in (("method", method), ("target", target)):
            if wanted is not None:
                stacks = _only(stacks, name, wanted)
        return Metrics(at=time.time(), window=window, stacks=tuple(stacks))

    def policy_state(self, path: str) -> PolicyState:
        """Return the state of the policy at `stack/policy`.

        Raises:
            UnknownNameError: There is none; suggests the nearest.
        """
        live = self.registry.policy(path)
        return self.registry.stack(live.stack).policy_state(live.name)

    def error_rate(self, path: str, window: float = 60.0) -> float:
        """Return the share of calls that failed or were refused, 0..1.

        Args:
            path: A stack, or `stack/policy`: of the refusals, then, only those of that policy.
            window: 60, 300 or 900 seconds.

        Raises:
            ValueError: There is no such window; names the three.
            UnknownNameError: There is no such stack or policy; suggests the nearest.
        """
        name, _, policy = path.partition("/")
        stack = self.registry.stack(name)
        if policy:
            stack.policy(policy)
        (found,) = self.metrics(window, stack=name, policy=policy or None).stacks
        return found.policies[0].error_rate if policy else found.traffic.error_rate

    def circuit_state(self, path: str, key: str = "") -> CircuitMetrics:
        """Return the state of a circuit of the breaker at `stack/policy`, over the last minute.

        Raises:
            UnknownNameError: There is no such breaker or circuit; suggests the nearest.
        """
        live = self.registry.policy(path)
        now = self.registry.stack(live.stack).clock.now()
        found = {circuit.key: circuit for circuit in self._of_breaker(live, 60.0, now)}
        if key not in found:
            raise UnknownNameError(f"circuit of {path}", key, found)
        return found[key]

    def snapshot(self, window: float = 60.0) -> dict[str, dict[str, dict[str, float | None]]]:
        """Return each stack in three numbers, in plain values for JSON.

        `{"services": {"s3": {"success_rate": 0.99, "throughput_rps": 50.0, "p99_latency_ms": 12}}}`

        Raises:
            ValueError: There is no such window; names the three.
        """
        services: dict[str, dict[str, float | None]] = {}
        for stack in self.registry:
            traffic = stack.recorder.traffic(window, stack.clock.now())
            services[stack.name] = {
                "success_rate": traffic.success_rate,
                "throughput_rps": traffic.calls_per_second,
                "p99_latency_ms": None if traffic.p99 is None else traffic.p99 * 1e3,
            }
        return {"services": services}

    def _fold(self) -> None:
        """Count what has gathered since the last time, alike ones by the bunch."""
        events = self._events
        with self._lock:
            lost = max(0, len(events) - _MOST)
            for _ in range(lost):
                events.popleft()
            self.dropped += lost
            for (kind, stack, policy, reason, number), count in _alike(events).items():
                slot = self._windows.get(f"{stack}/{policy}").slot(number * SLOT)
                slot.counts[kind.__name__, reason if kind.refuses else ""] += count

    def _changed(self, event: Event) -> None:
        """Keep a change of state, and tell who wants to know."""
        path = f"{event.stack}/{event.policy}"
        if isinstance(event, ParameterChanged):
            path, key = f"{path}/{event.parameter}", ""
            old, new = str(event.old), str(event.new)
        else:
            key = getattr(event, "key", "")
            with self._lock:
                old = self._circuits.get(f"{path} {key}").add(event)
            new = STATES[type(event)]
        if not self._callbacks:
            return
        change = StateChange(at=event.at, path=path, key=key, old=old, new=new, why=event.why())
        for callback in self._callbacks:
            try:
                callback(change)
            except Exception:  # a call must not fail because somebody could not be told
                _LOGGER.exception("a callback for state changes failed on %s", path)

    def _stack(self, stack: Stack, window: float, policy: str | None) -> StackMetrics:
        now, recorder = stack.clock.now(), stack.recorder
        traffic = recorder.traffic(window, now)
        series = [
            SeriesMetrics(method=series.method, target=series.target, traffic=of)
            for series, of in recorder.series(window, now).items()
        ]
        series.sort(key=lambda each: (-each.traffic.calls, each.method, each.target))
        return StackMetrics(
            name=stack.name,
            traffic=traffic,
            series=tuple(series),
            policies=tuple(
                self._policy(live, traffic, window, now)
                for name, live in stack.policies.items()
                if policy in {None, name}
            ),
            overflowed=recorder.overflowed,
        )

    def _policy(
        self, live: Live[Any], traffic: Traffic, window: float, now: float
    ) -> PolicyMetrics:
        with self._lock:
            kept = self._windows.peek(live.path)
            counts = Counter[Any]() if kept is None else kept.total(window, now).counts
        events: Counter[str] = Counter()
        refusals: Counter[str] = Counter()
        for (name, reason), count in counts.items():
            events[name] += count
            if reason:
                refusals[reason] += count
        refused = refusals.total()
        judged = traffic.successes + traffic.failures + refused
        used, left = inspected(live, now)
        return PolicyMetrics(
            path=live.path,
            kind=type(live.policy).__name__,
            events=dict(events),
            refusals=dict(refusals),
            retries=sum(events[name] for name in _RETRIES),
            used=used,
            left=left,
            error_rate=(traffic.failures + refused) / judged if judged else 0.0,
            circuits=self._of_breaker(live, window, now),
        )

    def _of_breaker(self, live: Live[Any], window: float, now: float) -> tuple[CircuitMetrics, ...]:
        started = self.registry.stack(live.stack).recorder.started
        since = max(beginning(window, now), started)
        found = []
        for key, state in circuits_of(live, now).items():
            with self._lock:
                kept = self._circuits.peek(f"{live.path} {key}") or Transitions()
                found.append(kept.told(key, state, since, now))
        return tuple(found)


def _those_with(stacks: tuple[Stack, ...], policy: str) -> tuple[Stack, ...]:
    found = tuple(stack for stack in stacks if policy in stack.policies)
    if not found:
        raise UnknownNameError(
            "policy", policy, {name for each in stacks for name in each.policies}
        )
    return found


def _only(stacks: list[StackMetrics], name: str, wanted: str) -> list[StackMetrics]:
    """Keep the series of one method or target."""
    known = {getattr(series, name) for stack in stacks for series in stack.series}
    if wanted not in known:
        raise UnknownNameError(name, wanted, known)
    return [
        dataclasses.replace(
            stack, series=tuple(each for each in stack.series if getattr(each, name) == wanted)
        )
        for stack in stacks
    ]


def _alike(events: deque[Pending]) -> dict[tuple[type[Event], str, str, str, float], int]:
    """Take all events, and count those of a kind, stack, policy, reason and slot of time.

    It goes by their first values, as building them takes longer, and makes no key for one that is
    like the one before: in a flood most are.
    """
    alike: dict[tuple[type[Event], str, str, str, float], list[Values]] = {}
    last: type[Event] | None = None
    stack = policy = reason = ""
    number, same = 0.0, []
    for _ in range(len(events)):
        kind, values = events.popleft()
        if not (
            kind is last
            and values[1] == policy
            and values[5] == reason
            and values[3] // SLOT == number
            and values[0] == stack
        ):
            last = kind
            stack, policy, reason, number = values[0], values[1], values[5], values[3] // SLOT
            same = alike.setdefault((kind, stack, policy, reason, number), [])
        same.append(values)
    return {key: len(found) for key, found in alike.items()}
