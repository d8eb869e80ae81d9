"""Let as many calls run at once as the backend can do, which is found out from how they go."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from ninelives_grpc.events import ConcurrencyLimitRefused, LimitChanged
from ninelives_grpc.limits.aimd import Aimd
from ninelives_grpc.limits.envoy import Envoy
from ninelives_grpc.limits.gradient2 import Gradient2
from ninelives_grpc.limits.nl import Nl
from ninelives_grpc.limits.vegas import Vegas
from ninelives_grpc.outcome import Code, Kind
from ninelives_grpc.parameters import parameter, policy
from ninelives_grpc.policies.gate import Gate, Permit, Refusal, Verdict
from ninelives_grpc.policies.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ninelives_grpc.call import Call
    from ninelives_grpc.limits.law import Law
    from ninelives_grpc.outcome import Outcome
    from ninelives_grpc.parameters import Value
    from ninelives_grpc.policies.policy import Address

_SUCCESS = Kind.SUCCESS
_TELL_EVERY = 1.0
"""Seconds between two events that tell of the limit: it may move ten times as often."""
_LONGEST_WAIT = 1.0
"""Seconds after which whoever was refused may ask again: by then the limit is another."""


class Algorithm(StrEnum):
    """How the limit is found."""

    NL = "nl"
    """By what keeps the backend busy: calls a second, and how long one takes when nothing waits."""
    AIMD = "aimd"
    """One more while all is well, a tenth less when not."""
    VEGAS = "vegas"
    """By an estimate of the backend's queue, as in TCP Vegas and Netflix's concurrency-limits."""
    GRADIENT2 = "gradient2"
    """By the latency of now and of a long time, as in Netflix's concurrency-limits."""
    ENVOY = "envoy"
    """By the latency of now and of an idle backend, as in Envoy's adaptive concurrency filter."""


LAWS: Mapping[Algorithm, type[Nl | Aimd | Vegas | Gradient2 | Envoy]] = {
    Algorithm.NL: Nl,
    Algorithm.AIMD: Aimd,
    Algorithm.VEGAS: Vegas,
    Algorithm.GRADIENT2: Gradient2,
    Algorithm.ENVOY: Envoy,
}


@policy
class ConcurrencyLimit(Policy):
    """Let as many calls run at once as the backend can do, and refuse the rest at once.

    Nobody has to know how many that is: the limit follows from how long calls take and how many are
    answered. It belongs on an asyncio server, or before whatever a process waits for. In a sync
    server calls wait for a thread before any policy sees them: what limits those is the pool.
    Several clients of one server should not each use it, as they would take from each other.

    Calls that the backend itself refuses, that a policy further in refuses, that fail or that
    nobody waits for any more do not count as answers; those that miss their deadline do. A stream
    counts until its end, and has taken what it took to its first message. One that lives long, such
    as a subscription, holds a place for reasons other than load: give those a stack of their own,
    with a `Bulkhead`.

    The limit is judged once a window, is raised only when it is used, and does not move while
    nobody calls. To change the algorithm keeps the calls that run and the limit.

    Args:
        algorithm: How the limit is found: `nl` (default), `aimd`, `vegas`, `gradient2`, `envoy`.
        initial_limit: Calls that may run at once to begin with.
        min_limit: Least limit; a probe of `nl` may go to half of it, and not below 1.
        max_limit: Greatest limit.
        window: Seconds after which the limit is judged anew; `nl` waits for as long as a call takes
            if that is more, and up to 5.
        window_calls: Answers that it takes at least.
        deadline_share: `nl`, `aimd`: share of the time that deadlines allow which calls may take.
        tolerance: `nl`: calls in flight beyond those in work, as a share of them.
        headroom: `nl`: the same, as a multiple of their square root.
        burst: `nl`: limit while nothing waits, as a multiple of the calls that ran at once.
        probe_interval: `nl`: seconds between two measurements, under overload, of how long calls
            take when nothing waits; four times as long as the last one took, if that is more.
        probe_share: `nl`: calls in flight meanwhile, as a share of those that keep the backend
            busy.
        probe_calls: `nl`: calls by which that is measured, at least.
        aimd_increase: `aimd`: calls added a window.
        aimd_backoff: `aimd`: what is left of the limit by a cut.
        aimd_latency: `aimd`: mean latency in seconds above which it cuts; None takes
            `deadline_share`.
        vegas_alpha: `vegas`: calls in the queue below which it adds some, times log10(limit).
        vegas_beta: `vegas`: calls in the queue above which it takes some away, likewise.
        vegas_probe: `vegas`: calls after which the base is measured again, times the limit.
        gradient2_tolerance: `gradient2`: how many times the long latency is still all right.
        gradient2_queue: `gradient2`: calls that may wait.
        gradient2_smoothing: `gradient2`: how much of the way the limit goes a window.
        gradient2_long: `gradient2`: windows in the long average.
        envoy_buffer: `envoy`: how much longer calls may take than the base, as a share.
        envoy_interval: `envoy`: seconds between two measurements of the base.
        envoy_calls: `envoy`: calls by which that is measured.
        envoy_concurrency: `envoy`: calls in flight meanwhile.

    Raises:
        ConfigError: A value is outside its bounds; names the field and the bound.
    """

    algorithm: Algorithm = parameter(default=Algorithm.NL, doc="How the limit is found.")
    initial_limit: int = parameter(
        default=20, low=1, high=1_000_000, unit="calls", doc="Limit to begin with."
    )
    min_limit: int = parameter(default=2, low=1, high=1_000_000, unit="calls", doc="Least limit.")
    max_limit: int = parameter(
        default=1000, low=1, high=1_000_000, unit="calls", doc="Greatest limit."
    )
    window: float = parameter(
        default=0.1, low=0.001, high=60.0, unit="seconds", doc="When the limit is judged anew."
    )
    window_calls: int = parameter(
        default=20, low=1, high=100_000, unit="calls", doc="Answers that it takes at least."
    )
    deadline_share: float = parameter(
        default=0.5, low=0.01, high=1.0, unit="ratio", doc="Share of the deadline to use."
    )
    tolerance: float = parameter(
        default=0.5, low=0.0, high=10.0, unit="ratio", doc="Calls beyond those in work."
    )
    headroom: float = parameter(
        default=2.0, low=0.0, high=100.0, doc="The same, as a multiple of their square root."
    )
    burst: float = parameter(
        default=4.0, low=1.0, high=100.0, doc="Limit over what was needed, while nothing waits."
    )
    probe_interval: float = parameter(
        default=10.0, low=0.1, high=3600.0, unit="seconds", doc="Time between two probes."
    )
    probe_share: float = parameter(
        default=0.8,
        low=0.01,
        high=1.0,
        unit="ratio",
        doc="How busy a probe keeps the backend.",
    )
    probe_calls: int = parameter(
        default=50, low=1, high=100_000, unit="calls", doc="Calls that a probe measures."
    )
    aimd_increase: float = parameter(
        default=1.0, low=0.0, high=1000.0, unit="calls", doc="Calls added a window."
    )
    aimd_backoff: float = parameter(
        default=0.9, low=0.1, high=1.0, unit="ratio", doc="What a cut leaves of the limit."
    )
    aimd_latency: float | None = parameter(
        default=None, low=0.0, high=3600.0, unit="seconds", doc="Latency above which it cuts."
    )
    vegas_alpha: float = parameter(
        default=3.0, low=0.0, high=1000.0, unit="calls", doc="Queue below which it adds."
    )
    vegas_beta: float = parameter(
        default=6.0, low=0.0, high=1000.0, unit="calls", doc="Queue above which it takes away."
    )
    vegas_probe: float = parameter(
        default=30.0, low=1.0, high=100_000.0, unit="calls", doc="When the base is forgotten."
    )
    gradient2_tolerance: float = parameter(
        default=1.5, low=1.0, high=100.0, unit="ratio", doc="Latency over the long one allowed."
    )
    gradient2_queue: float = parameter(
        default=4.0, low=0.0, high=1000.0, unit="calls", doc="Calls that may wait."
    )
    gradient2_smoothing: float = parameter(
        default=0.2, low=0.01, high=1.0, unit="ratio", doc="How far the limit goes a window."
    )
    gradient2_long: int = parameter(
        default=600, low=1, high=1_000_000, unit="windows", doc="Windows in the long average."
    )
    envoy_buffer: float = parameter(
        default=0.25, low=0.0, high=10.0, unit="ratio", doc="Latency over the base allowed."
    )
    envoy_interval: float = parameter(
        default=60.0, low=1.0, high=86_400.0, unit="seconds", doc="Time between measurements."
    )
    envoy_calls: int = parameter(
        default=50, low=1, high=100_000, unit="calls", doc="Calls that a measurement takes."
    )
    envoy_concurrency: int = parameter(
        default=3, low=1, high=1_000_000, unit="calls", doc="Calls at once meanwhile."
    )

    def live(self, address: Address) -> ConcurrencyLimitGate:
        """Start with the initial limit."""
        return ConcurrencyLimitGate(self, address)

    def conflict(self) -> str:
        """Say which values do not go together."""
        if self.min_limit > self.max_limit:
            return f"min_limit {self.min_limit} must not be more than max_limit {self.max_limit}"
        return ""


class ConcurrencyLimitGate(Gate[ConcurrencyLimit]):
    """Counts who is in, and tells its law how they went.

    Attributes:
        in_flight: Calls that run.
        acquired: Calls let in so far.
        refused: Calls refused so far.
    """

    def __init__(self, policy: ConcurrencyLimit, address: Address) -> None:
        super().__init__(policy, address)
        self.in_flight = 0
        self.acquired = 0
        self.refused = 0
        self._law: Law = self._new_law(policy.initial_limit)
        self._told = self._law.limit
        self._tell_at = float("-inf")

    def start_afresh(self) -> None:
        """Forget the calls under way, and go on from the limit."""
        super().start_afresh()
        self.in_flight = 0
        self._law = self._new_law(self._law.limit)

    @property
    def follows_messages(self) -> bool:
        """Whether streams are followed, which they are: one is as slow as its first message."""
        return True

    @property
    def limit(self) -> int:
        """Calls that may run at once now."""
        return int(self._law.limit)

    def admit(self, call: Call, now: float, deadline: float | None) -> Verdict:
        """Let the call in, or say why not."""
        remaining = None if deadline is None else deadline - now
        with self._lock:
            law = self._law
            in_flight = self.in_flight + 1
            if in_flight <= law.limit:
                self.in_flight = in_flight
                self.acquired += 1
                return law.on_admit(call.method.name, in_flight, remaining, now)
            law.on_refuse(now)
            self.refused += 1
            refused, latency, limit = law.refused, law.latency, int(law.limit)
        return self._refuse(call, now, limit, latency, refused)

    def would_refuse(self, call: Call | None, now: float) -> bool:
        """Tell whether as many run as may."""
        return self.in_flight + 1 > self._law.limit

    def fill(self) -> float:
        """Return how many run, as a share of the limit."""
        return self.in_flight / max(self._law.limit, 1.0)

    def settle(self, permit: Permit, outcome: Outcome, now: float) -> None:
        """Count the call out, and have the law learn from it."""
        with self._lock:
            self.in_flight = in_flight = self.in_flight - 1
            law = self._law
            if permit.law is law:
                if outcome.kind is _SUCCESS and not outcome.local:
                    law.on_settle(permit, outcome.duration, in_flight, now)
                else:
                    _learn(law, permit, outcome, in_flight, now)
            if law.limit == self._told or now < self._tell_at:
                return
            changed = self._change(now)
        if changed is not None:
            self._emitter.emit(changed)

    def adopt(self, old: ConcurrencyLimit) -> None:
        """Keep to the new bounds; another algorithm goes on from the limit of the one before."""
        with self._lock:
            if self.policy.algorithm is not old.algorithm:
                self._law = self._new_law(self._law.limit)
            self._law.on_change()

    def state(self, now: float) -> dict[str, Value]:
        """Return the limit, how full it is, and what it goes by."""
        with self._lock:
            law = self._law
            return {
                "in_flight": self.in_flight,
                "limit": int(law.limit),
                "algorithm": str(self.policy.algorithm),
                "reason": law.reason,
                "base": law.base,
                "latency": law.latency,
                "q": law.latency / law.base if law.base else None,
                "acquired": self.acquired,
                "refused": self.refused,
            }

    def _new_law(self, limit: float) -> Law:
        law = LAWS[self.policy.algorithm](self._settings, limit)
        law.on_change()
        return law

    def _settings(self) -> ConcurrencyLimit:
        return self.policy

    def _change(self, now: float) -> LimitChanged | None:
        """Return the event that tells of the new limit; the lock is held."""
        law, old = self._law, int(self._told)
        self._told = law.limit
        if int(law.limit) == old:
            return None
        self._tell_at = now + _TELL_EVERY
        return LimitChanged(
            stack=self.stack,
            policy=self.name,
            at=now,
            reason=law.reason,
            old=old,
            new=int(law.limit),
            in_flight=self.in_flight,
            latency=law.latency,
            base=law.base,
        )

    def _refuse(self, call: Call, now: float, limit: int, latency: float, refused: int) -> Refusal:
        self._count(ConcurrencyLimitRefused)
        if self._emitter.sink is not None:
            self._emitter.tell(
                ConcurrencyLimitRefused,
                *self._about(call, now, "limit"),
                self.in_flight,
                limit,
            )
        details = f"concurrency limit {self.path} is reached: {limit} calls run at once now"
        # Places become free at limit / latency a second, and all who were refused want one.
        retry_after = (latency or self.policy.window) * refused / max(limit, 1)
        return Refusal(self.name, details, retry_after=min(retry_after, _LONGEST_WAIT))


def _learn(law: Law, permit: Permit, outcome: Outcome, in_flight: int, now: float) -> None:
    """Have a law learn from a call that was not answered as usual."""
    if outcome.overload:
        law.on_drop(permit, in_flight, now)
    elif (
        outcome.code is Code.DEADLINE_EXCEEDED
        and outcome.refusal is None
        and outcome.duration > (law.base or law.latency)
    ):
        # It would have taken longer still. One that had less time than a call takes says nothing.
        law.on_settle(permit, outcome.duration, in_flight, now)
    else:
        law.on_ignore(permit, in_flight, now)
