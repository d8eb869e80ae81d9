"""Stop calling a backend that keeps failing."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import grpc

from ninelives_grpc import events
from ninelives_grpc.outcome import Kind, Outcome
from ninelives_grpc.parameters import option, parameter, policy
from ninelives_grpc.policies.circuit import Circuit, CircuitState, Happened
from ninelives_grpc.policies.gate import PERMIT, Gate, Permit, Refusal, Verdict
from ninelives_grpc.policies.policy import Policy
from ninelives_grpc.policies.scope import (
    STACK,
    Scope,
    key_function,
    known_on_arrival,
    scope_problem,
)
from ninelives_grpc.windows.lru import LeastRecentlyUsed

if TYPE_CHECKING:
    from ninelives_grpc.call import Call
    from ninelives_grpc.parameters import Value
    from ninelives_grpc.policies.policy import Address

_LOGGER = logging.getLogger("ninelives_grpc")
_KEPT = 100
"""Recoveries to remember."""


class Mode(StrEnum):
    """Who decides whether calls pass."""

    AUTO = "auto"
    """The circuit."""
    OPEN = "open"
    """Nobody passes."""
    CLOSED = "closed"
    """All pass; outcomes are recorded, and do not open it."""
    DISABLED = "disabled"
    """All pass, and nothing is recorded."""
    METRICS_ONLY = "metrics_only"
    """All pass, but the circuit opens and closes as it would, for all to see."""


class Window(StrEnum):
    """What "recent" means."""

    COUNT = "count"
    """The last `window_size` calls that are not older than `window_age`."""
    TIME = "time"
    """All calls of the last `window_age` seconds."""


@policy
class CircuitBreaker(Policy):
    """Refuse calls to a backend that keeps failing, and try a few again after a while.

    The circuit opens when the failure rate of recent calls is above the threshold with confidence:
    the lower bound of its Wilson score interval counts, so that a few unlucky calls do not suffice.
    It then refuses for `open_duration`, doubled at each re-opening, and lets a few probes through.
    Cancelled calls, our own refusals and replies that only say "too much to do" teach it nothing.

    Args:
        failure_rate_threshold: Ratio of failures, 0..1, above which the circuit opens.
        minimum_calls: Calls a window must hold before its rates count.
        window_size: Calls a window holds at most.
        window_age: Seconds after which a call leaves the window.
        confidence: Standard deviations by which the rate must be above the threshold; 0 takes the
            plain ratio, as other breakers do.
        consecutive_failures: Open after that many failures in a row as well; None turns it off.
        slow_call_duration: Seconds from which a call counts as slow; None turns it off.
        slow_call_rate_threshold: Ratio of slow calls, 0..1, above which the circuit opens.
        open_duration: Seconds to refuse calls for at the first opening.
        max_open_duration: Seconds to refuse calls for at most.
        jitter: Share by which each open time is varied at random, either way.
        healthy_after: Seconds closed after which the next opening counts as the first again.
        half_open_permits: Probes that decide whether to close.
        half_open_concurrency: Probes that may run at once.
        probe_lease: Seconds after which a probe that has not reported back counts as failed.
        mode: `auto`, or one of the overrides `open`, `closed`, `disabled`, `metrics_only`.
        max_keys: Circuits to remember; the longest unused is forgotten.
        scope: One circuit for the `stack` (default), or one for each `method`, `target`, `peer`,
            `metadata:NAME` or value of a function of the call.
        window: `count` or `time`.
        classify: Own view of an outcome: a function that returns its `Kind`, or None to leave it.

    Raises:
        ConfigError: A value is outside its bounds; names the field and the bound.
    """

    failure_rate_threshold: float = parameter(
        default=0.5, low=0.0, high=1.0, unit="ratio", doc="Failure rate above which it opens."
    )
    minimum_calls: int = parameter(
        default=8, low=1, high=100_000, unit="calls", doc="Calls before the rates count."
    )
    window_size: int = parameter(
        default=100, low=1, high=100_000, unit="calls", doc="Calls a window holds at most."
    )
    window_age: float = parameter(
        default=10.0, low=0.01, high=3600.0, unit="seconds", doc="Age at which calls leave it."
    )
    confidence: float = parameter(
        default=1.96,
        low=0.0,
        high=5.0,
        unit="standard deviations",
        doc="How sure to be that the rate is above the threshold; 0 takes the plain ratio.",
    )
    consecutive_failures: int | None = parameter(
        default=None, low=1, high=100_000, unit="calls", doc="Failures in a row that open it too."
    )
    slow_call_duration: float | None = parameter(
        default=None, low=0.0, high=3600.0, unit="seconds", doc="From when a call is slow."
    )
    slow_call_rate_threshold: float = parameter(
        default=0.5, low=0.0, high=1.0, unit="ratio", doc="Rate of slow calls above which it opens."
    )
    open_duration: float = parameter(
        default=0.5, low=0.001, high=3600.0, unit="seconds", doc="First time to refuse calls for."
    )
    max_open_duration: float = parameter(
        default=5.0, low=0.001, high=3600.0, unit="seconds", doc="Longest time to refuse for."
    )
    jitter: float = parameter(
        default=0.1, low=0.0, high=1.0, unit="ratio", doc="Random variation of the open time."
    )
    healthy_after: float = parameter(
        default=60.0, low=0.0, high=86_400.0, unit="seconds", doc="Closed time that forgives all."
    )
    half_open_permits: int = parameter(
        default=3, low=1, high=1000, unit="calls", doc="Probes that decide whether to close."
    )
    half_open_concurrency: int = parameter(
        default=1, low=1, high=1000, unit="calls", doc="Probes that may run at once."
    )
    probe_lease: float = parameter(
        default=30.0, low=0.01, high=3600.0, unit="seconds", doc="When a probe counts as lost."
    )
    mode: Mode = parameter(default=Mode.AUTO, doc="Who decides whether calls pass.")
    max_keys: int = parameter(
        default=1000, low=1, high=1_000_000, unit="keys", doc="Circuits to remember."
    )
    scope: Scope = option(default=STACK)
    window: str = option(default=Window.COUNT)
    classify: Callable[[Outcome], Kind | None] | None = option(default=None)

    def live(self, address: Address) -> CircuitBreakerGate:
        """Start closed."""
        return CircuitBreakerGate(self, address)

    def conflict(self) -> str:
        """Say which values do not go together."""
        if self.max_open_duration < self.open_duration:
            return (
                f"max_open_duration {self.max_open_duration:g} must not be less than "
                f"open_duration {self.open_duration:g}"
            )
        if self.classify is not None and not callable(self.classify):
            return f"classify must be a function of an outcome, not {self.classify!r}"
        if self.window not in tuple(Window):
            return f"window must be one of {', '.join(Window)}, not {self.window!r}"
        return scope_problem(self.scope)


class CircuitBreakerGate(Gate[CircuitBreaker]):
    """Keeps one circuit, or one a key.

    Attributes:
        refused: Calls refused so far.
        recovered: Circuits that closed so far.
        recoveries: Seconds that the backend was down before, for the last of them.
    """

    def __init__(self, policy: CircuitBreaker, address: Address) -> None:
        super().__init__(policy, address)
        self.refused = 0
        self.recovered = 0
        self.recoveries: deque[float] = deque(maxlen=_KEPT)
        self._key_of = key_function(policy.scope)
        self._tells_early = known_on_arrival(policy.scope)
        self.keyed = self._key_of is not None and self._tells_early
        self._circuit = self._new_circuit("")
        self._circuits = LeastRecentlyUsed(policy.max_keys, self._new_circuit)

    def start_afresh(self) -> None:
        """Forget the probes under way."""
        super().start_afresh()
        for circuit in self._all():
            circuit.probes = []

    @property
    def follows_messages(self) -> bool:
        """Whether slow calls count: a stream is as slow as its first message."""
        return self.policy.slow_call_duration is not None

    def admit(self, call: Call, now: float, deadline: float | None) -> Verdict:
        """Give leave for one attempt, or say why not and until when."""
        policy = self.policy
        key_of = self._key_of
        if key_of is None:
            circuit = self._circuit
            # Without the lock: should it open in between, this permit is of an earlier generation.
            permit: Permit | None = circuit.permit
            if (
                circuit.state is CircuitState.CLOSED
                and policy.mode is Mode.AUTO
                and permit is not None
            ):
                return permit
        key = "" if key_of is None else key_of(call)
        with self._lock:
            circuit = self._circuit if key_of is None else self._circuits.get(key)
            if circuit.state is CircuitState.CLOSED and policy.mode is Mode.AUTO:
                return circuit.permit
            happened: list[Happened] = []
            permit = self._decide(policy, circuit, now, happened)
            if permit is None:
                self.refused += 1
        self._report(circuit, happened, now, call.method.name)
        return permit or self._refuse(policy, circuit, call, now)

    def would_refuse(self, call: Call | None, now: float) -> bool:
        """Tell whether the circuit is open for a call that has just arrived at a server."""
        mode = self.policy.mode
        if mode is not Mode.AUTO or not self._tells_early:
            return mode is Mode.OPEN
        circuit: Circuit | None = self._circuit
        if self._key_of is not None and call is not None:
            circuit = self._circuits.peek(self._key_of(call))
        return (
            circuit is not None and circuit.state is CircuitState.OPEN and now < circuit.open_until
        )

    def settle(self, permit: Permit, outcome: Outcome, now: float) -> None:
        """Take the permit back and learn from the outcome."""
        circuit, policy = permit.circuit, self.policy
        if circuit is None:
            return
        kind = outcome.kind if policy.classify is None else self._view(policy.classify, outcome)
        happened: list[Happened] = []
        with self._lock:
            slow_after = policy.slow_call_duration
            if permit is circuit.permit and kind is Kind.SUCCESS and slow_after is None:
                # As `circuit.settle` would: the end of nearly every call.
                circuit.run = 0
                circuit.window.add(now, False, False)  # noqa: FBT003
            elif policy.mode is Mode.CLOSED:
                circuit.record(policy, permit, outcome, kind, now)
            else:
                circuit.settle(policy, permit, outcome, kind, now, happened)
        if happened:
            self._report(circuit, happened, now, "")

    def reset(self, now: float, key: str | None = None) -> int:
        """Close one circuit, or all, and forget what they knew; returns how many there were."""
        with self._lock:
            circuits = [circuit for circuit in self._all() if key is None or circuit.key == key]
            for circuit in circuits:
                circuit.reset()
        for circuit in circuits:
            self._emitter.emit(
                events.CircuitReset(stack=self.stack, policy=self.name, at=now, key=circuit.key)
            )
        return len(circuits)

    def adopt(self, old: CircuitBreaker) -> None:
        """Fit the windows to their new size; what they hold stays."""
        policy = self.policy
        with self._lock:
            self._circuits.resize(policy.max_keys)
            for circuit in self._all():
                circuit.window.resize(policy.window_size, policy.window_age)

    def circuits(self, now: float) -> dict[str, dict[str, Value]]:
        """Return the state of each circuit by key."""
        with self._lock:
            return {circuit.key: self._describe(circuit, now) for circuit in self._all()}

    def state(self, now: float) -> dict[str, Value]:
        """Return the state of the circuit, or how many of them are in which."""
        mode: dict[str, Value] = {"mode": self.policy.mode, "refused": self.refused}
        circuits = self.circuits(now)
        if self._key_of is None:
            return mode | circuits[""]
        counts: dict[str, Value] = {"closed": 0, "open": 0, "half_open": 0}
        for circuit in circuits.values():
            counts[str(circuit["state"])] = int(counts[str(circuit["state"])] or 0) + 1
        return mode | {"keys": len(circuits)} | counts

    def _view(self, classify: Callable[[Outcome], Kind | None], outcome: Outcome) -> Kind:
        """Ask the application what an outcome means; what it raises is logged, never felt."""
        if outcome.refusal is not None:
            return outcome.kind
        try:
            return classify(outcome) or outcome.kind
        except Exception:
            _LOGGER.exception("the classify function of %s failed", self.path)
            return outcome.kind

    def _new_circuit(self, key: str) -> Circuit:
        return Circuit(key, self.policy)

    def _all(self) -> list[Circuit]:
        if self._key_of is None:
            return [self._circuit]
        return [circuit for _, circuit in self._circuits.items()]

    def _decide(
        self, policy: CircuitBreaker, circuit: Circuit, now: float, happened: list[Happened]
    ) -> Permit | None:
        """Ask the circuit, or whoever overrides it; the lock is held."""
        match policy.mode:
            case Mode.AUTO:
                return circuit.admit(policy, now, happened)
            case Mode.METRICS_ONLY:
                return circuit.admit(policy, now, happened) or PERMIT
            case Mode.CLOSED:
                return circuit.permit
            case Mode.DISABLED:
                return PERMIT
            case Mode.OPEN:
                return None

    def _describe(self, circuit: Circuit, now: float) -> dict[str, Value]:
        calls, failures, slow = circuit.window.tally(now)
        return {
            "state": str(circuit.state),
            "calls": calls,
            "failures": failures,
            "slow_calls": slow,
            "probes": len(circuit.probes),
            "retry_after": circuit.retry_after(self.policy, now)
            if circuit.state != "closed"
            else 0.0,
        }

    def _report(self, circuit: Circuit, happened: list[Happened], now: float, method: str) -> None:
        for what in happened:
            about: dict[str, Any] = {
                "stack": self.stack,
                "policy": self.name,
                "method": method,
                "at": now,
                "key": circuit.key,
            }
            event: events.Event
            if what is Happened.OPENED:
                event = _opened(about, circuit, now)
            elif what is Happened.CLOSED:
                self.recoveries.append(circuit.down)
                self.recovered += 1
                event = events.CircuitClosed(**about, probes=self.policy.half_open_permits)
            else:
                event = _PLAIN[what](**about)
            self._emitter.emit(event)

    def _refuse(self, policy: CircuitBreaker, circuit: Circuit, call: Call, now: float) -> Refusal:
        forced = policy.mode is Mode.OPEN
        retry_after = None if forced else circuit.retry_after(policy, now)
        self._count(events.CircuitRefused)
        if self._emitter.sink is not None:
            self._emitter.tell(
                events.CircuitRefused,
                *self._about(call, now, "forced_open" if forced else str(circuit.state)),
                circuit.key,
                retry_after or 0.0,
                "" if forced else str(circuit.cause or ""),
            )
        name = f"{self.path} for {circuit.key}" if circuit.key else self.path
        details = f"circuit {name} is {'forced open' if forced else circuit.state}"
        if circuit.cause is not None and not forced:
            details += f" after {circuit.cause}"
        return Refusal(
            self.name,
            details,
            code=grpc.StatusCode.UNAVAILABLE,
            retry_after=retry_after,
            cause=circuit.cause,
        )


_PLAIN: dict[Happened, type[events.CircuitHalfOpened | events.ProbeReclaimed]] = {
    Happened.HALF_OPENED: events.CircuitHalfOpened,
    Happened.RECLAIMED: events.ProbeReclaimed,
}


def _opened(about: dict[str, Any], circuit: Circuit, now: float) -> events.CircuitOpened:
    opening, cause = circuit.opening, circuit.cause
    return events.CircuitOpened(
        **about,
        reason=opening.reason,
        duration=circuit.open_until - now,
        calls=opening.calls,
        failures=opening.failures,
        slow=opening.slow,
        failure_rate=opening.failure_rate,
        code="UNKNOWN" if cause is None else cause.code().name,
        cause=str(cause or "a probe did not report back"),
    )
