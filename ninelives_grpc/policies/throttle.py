"""Send less to a backend that says it has too much to do, so that it need not say so."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from ninelives_grpc.events import ThrottleEnded, ThrottleRefused, ThrottleStarted
from ninelives_grpc.outcome import Kind
from ninelives_grpc.parameters import option, parameter, policy
from ninelives_grpc.policies.gate import PERMIT, Gate, Permit, Refusal, Verdict
from ninelives_grpc.policies.policy import Policy
from ninelives_grpc.policies.scope import STACK, Scope, key_function, scope_problem
from ninelives_grpc.priority import number_of
from ninelives_grpc.shares.line import Line
from ninelives_grpc.shares.log_aimd import LogAimd
from ninelives_grpc.shares.sre import Sre
from ninelives_grpc.windows.lru import LeastRecentlyUsed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ninelives_grpc.call import Call
    from ninelives_grpc.events import Event
    from ninelives_grpc.outcome import Outcome
    from ninelives_grpc.parameters import Value
    from ninelives_grpc.policies.policy import Address

_TELL_EVERY = 1.0
"""Seconds from a start to the end that is told: a single refusal is made up for in no time."""


class Algorithm(StrEnum):
    """How the fraction to send is found."""

    LOG_AIMD = "log_aimd"
    """By steps of its logarithm, down with each overload refusal, up with each answer and time."""
    SRE = "sre"
    """By the share that the backend took in a long window, as in the Google SRE book."""


LAWS: Mapping[Algorithm, type[LogAimd | Sre]] = {
    Algorithm.LOG_AIMD: LogAimd,
    Algorithm.SRE: Sre,
}


@policy
class Throttle(Policy):
    """Send only a fraction of the calls while the backend refuses some for overload.

    A refusal costs a server about as much as a small call, so that one that gets ten times what it
    can do is busy refusing. Clients that send less leave it time for work. Only what a server says
    counts, RESOURCE_EXHAUSTED or a pushback: errors, timeouts and refusals of our own policies
    neither lower nor raise the fraction. Those calls are sent that matter most, see `prioritize`,
    and among equals chance decides.

    It belongs on clients, and is of no use on a server.

    Args:
        algorithm: How the fraction is found: `log_aimd` (default) or `sre`.
        min_fraction: Least fraction, by which it finds out that the backend is back.
        step: `log_aimd`: change of the logarithm of the fraction by a call.
        bearable: `log_aimd`: share of the calls sent that may be refused; that much of a step is
            taken up by an answer, the rest down by a refusal.
        doubling: `log_aimd`: seconds in which the fraction doubles by itself.
        sre_multiplier: `sre`: calls to send for each that the backend takes.
        sre_window: `sre`: seconds to look back.
        max_keys: Keys to remember; the longest unused is forgotten, and starts with all.
        scope: One fraction for the `stack` (default), or one for each `method`, `target`, `peer`,
            `metadata:NAME` or value of a function of the call.

    Raises:
        ConfigError: A value is outside its bounds; names the field and the bound.
    """

    algorithm: Algorithm = parameter(default=Algorithm.LOG_AIMD, doc="How the fraction is found.")
    min_fraction: float = parameter(
        default=0.02, low=1e-6, high=1.0, unit="ratio", doc="Least fraction to send."
    )
    step: float = parameter(
        default=0.15, low=0.001, high=10.0, doc="Change of the logarithm by a call."
    )
    bearable: float = parameter(
        default=0.3, low=0.0, high=1.0, unit="ratio", doc="Share that may be refused."
    )
    doubling: float = parameter(
        default=1.0, low=0.01, high=3600.0, unit="seconds", doc="Time to double by itself."
    )
    sre_multiplier: float = parameter(
        default=2.0, low=1.0, high=100.0, doc="Calls sent for each that is taken."
    )
    sre_window: float = parameter(
        default=120.0, low=0.1, high=3600.0, unit="seconds", doc="Time to look back."
    )
    max_keys: int = parameter(
        default=10_000, low=1, high=10_000_000, unit="keys", doc="Keys to remember."
    )
    scope: Scope = option(default=STACK)

    def live(self, address: Address) -> ThrottleGate:
        """Start by sending all."""
        return ThrottleGate(self, address)

    def conflict(self) -> str:
        """Say what is wrong with the scope, or return ""."""
        return scope_problem(self.scope)


class Flow(Permit):
    """What is sent for one key; it is the permit of its calls.

    Attributes:
        key: Which key.
        rule: What sets the fraction.
        line: Who goes first, while not all is sent.
        held_back: Whether calls are held back, as far as told.
        since: Since when, or since when not.
    """

    __slots__ = ("held_back", "key", "line", "rule", "since")

    def __init__(self, key: str, rule: LogAimd | Sre) -> None:
        self.key = key
        self.rule = rule
        self.line: Line | None = None
        self.held_back = False
        self.since = float("-inf")


class ThrottleGate(Gate[Throttle]):
    """Keeps a fraction for each key.

    Attributes:
        refused: Calls refused so far.
    """

    def __init__(self, policy: Throttle, address: Address) -> None:
        super().__init__(policy, address)
        self.refused = 0
        self._flow = self._new_flow("")
        self._flows = LeastRecentlyUsed(policy.max_keys, self._new_flow)
        self._key_of = key_function(policy.scope)

    def admit(self, call: Call, now: float, deadline: float | None) -> Verdict:
        """Send the call, or say that the backend has enough."""
        if self._key_of is None:
            flow = self._flow
            if not flow.held_back:
                return PERMIT
        else:
            key = self._key_of(call)
            with self._lock:
                flow = self._flows.get(key)
            if not flow.held_back:
                return flow
        return self._choose(flow, call, now)

    def settle(self, permit: Permit, outcome: Outcome, now: float) -> None:
        """Learn from what the backend said to the call."""
        flow = permit if type(permit) is Flow else self._flow
        if outcome.kind is Kind.SUCCESS:
            if outcome.local or not (flow.held_back or flow.rule.remembers):
                return
            with self._lock:
                flow.rule.on_accept(now)
                event = self._change(flow, now)
        elif outcome.overload:
            with self._lock:
                flow.rule.on_overload(now)
                event = self._change(flow, now)
        else:
            return
        if event is not None:
            self._emitter.emit(event)

    def adopt(self, old: Throttle) -> None:
        """Keep as many keys as allowed now; another algorithm goes on from the fraction of now."""
        policy, now = self.policy, self._now()
        with self._lock:
            self._flows.resize(policy.max_keys)
            if policy.algorithm is not old.algorithm:
                for flow in (self._flow, *(flow for _, flow in self._flows.items())):
                    flow.rule = LAWS[policy.algorithm](self._settings, flow.rule.fraction(now), now)

    def state(self, now: float) -> dict[str, Value]:
        """Return the fraction that is sent, and how many calls were refused."""
        with self._lock:
            flows = [self._flow] if self._key_of is None else [f for _, f in self._flows.items()]
            fractions = [flow.rule.fraction(now) for flow in flows]
            state: dict[str, Value] = {
                "fraction": min(fractions, default=1.0),
                "algorithm": str(self.policy.algorithm),
                "refused": self.refused,
            }
        if self._key_of is not None:
            state["keys"] = len(flows)
            state["held_back"] = sum(fraction < 1.0 for fraction in fractions)
        return state

    def _new_flow(self, key: str) -> Flow:
        return Flow(key, LAWS[self.policy.algorithm](self._settings, 1.0, self._now()))

    def _settings(self) -> Throttle:
        return self.policy

    def _choose(self, flow: Flow, call: Call, now: float) -> Verdict:
        rank = number_of(call.rank)
        with self._lock:
            fraction = flow.rule.fraction(now)
            line = flow.line
            passes = fraction >= 1.0 or line is None or line.passes(rank, fraction)
            event = self._change(flow, now)
            if not passes:
                flow.rule.on_refuse(now)
                self.refused += 1
        if event is not None:
            self._emitter.emit(event)
        if passes:
            return PERMIT if self._key_of is None else flow
        return self._refuse(flow, call, fraction, now)

    def _change(self, flow: Flow, now: float) -> Event | None:
        """Note whether calls are held back, and return the event that tells; the lock is held."""
        fraction = flow.rule.fraction(now)
        held_back = fraction < 1.0
        if held_back is flow.held_back or (flow.held_back and now < flow.since + _TELL_EVERY):
            return None
        lasted = now - flow.since
        flow.held_back = held_back
        flow.line = Line() if held_back else None
        flow.since = now
        about = {"stack": self.stack, "policy": self.name, "at": now, "key": flow.key}
        if held_back:
            return ThrottleStarted(**about, fraction=fraction)  # type: ignore[arg-type]
        return ThrottleEnded(**about, lasted=lasted)  # type: ignore[arg-type]

    def _refuse(self, flow: Flow, call: Call, fraction: float, now: float) -> Refusal:
        self._count(ThrottleRefused)
        if self._emitter.sink is not None:
            self._emitter.tell(
                ThrottleRefused,
                *self._about(call, now, str(self.policy.algorithm)),
                flow.key,
                fraction,
            )
        whose = f" for {flow.key!r}" if flow.key else ""
        details = f"throttle {self.path} sends {fraction:.2g} of the calls{whose}: the backend "
        # No time to come back at: a call that comes at once has the same chance.
        return Refusal(self.name, details + "has too much to do")
