"""Let calls through at a steady rate, with a bounded burst.

The generic cell rate algorithm (ITU-T I.371): one timestamp a key says when the next call would be
due if all had kept to the rate; a call may come earlier than that by the burst.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from ninelives_grpc.call import Call
from ninelives_grpc.events import RateLimitDelayed, RateLimitExceeded, RateLimitRefused
from ninelives_grpc.parameters import option, parameter, policy
from ninelives_grpc.policies.gate import PERMIT, Gate, Permit, Refusal, Verdict, Wait
from ninelives_grpc.policies.policy import Policy
from ninelives_grpc.policies.scope import (
    STACK,
    Scope,
    key_function,
    known_on_arrival,
    scope_problem,
)
from ninelives_grpc.priority import Priority
from ninelives_grpc.windows.lru import LeastRecentlyUsed

if TYPE_CHECKING:
    from ninelives_grpc.events import Event
    from ninelives_grpc.outcome import Outcome
    from ninelives_grpc.parameters import Value
    from ninelives_grpc.policies.policy import Address


_ROUNDING = 1e-6
"""Seconds: no clock is finer, and floats are off by less after years; due times do not drift."""


@policy
class RateLimit(Policy):
    """Let `rate` calls a second through, and up to `burst` at once after a quiet time.

    Args:
        rate: Calls per second.
        burst: Calls that may come at once; by default 1.
        max_wait: Seconds a call may wait for its turn, if its deadline allows; 0 refuses at once.
        enforced: Share of the calls for which the limit holds; the others are only counted.
        critical_burst: Calls beyond the burst that those of the class `critical` may borrow; the
            others wait until they are paid back. See `prioritize`.
        max_keys: Keys to remember; the longest unused is forgotten, and starts with a full burst.
        scope: One limit for the `stack` (default), or one for each `method`, `target`, `peer`,
            `metadata:NAME` or value of a function of the call.
        weight: Function from the call to how many calls it counts for; by default 1.

    Raises:
        ConfigError: A value is outside its bounds; names the field and the bound.
    """

    rate: float = parameter(
        low=0.001, high=1e9, unit="per second", doc="Calls let through.", kw_only=False
    )
    burst: float = parameter(
        default=1.0,
        low=1.0,
        high=1e9,
        unit="calls",
        doc="Calls that may come at once after a quiet time.",
        kw_only=False,
    )
    max_wait: float = parameter(
        default=0.0, low=0.0, high=3600.0, unit="seconds", doc="Longest wait for a turn."
    )
    enforced: float = parameter(
        default=1.0,
        low=0.0,
        high=1.0,
        unit="ratio",
        doc="Share of the calls for which the limit holds; the others are only counted.",
    )
    critical_burst: float = parameter(
        default=0.0,
        low=0.0,
        high=1e9,
        unit="calls",
        doc="Calls beyond the burst that critical ones may borrow.",
    )
    max_keys: int = parameter(
        default=10_000, low=1, high=10_000_000, unit="keys", doc="Keys to remember."
    )
    scope: Scope = option(default=STACK)
    weight: Callable[[Call], float] | None = option(default=None)

    def live(self, address: Address) -> RateLimitGate:
        """Start with a full burst."""
        return RateLimitGate(self, address)

    def conflict(self) -> str:
        """Say which option is not of the kind that is expected."""
        if self.weight is not None and not callable(self.weight):
            return f"weight must be a function of the call, not {self.weight!r}"
        return scope_problem(self.scope)


class Due:
    """When the next call of a key would be due if all had kept to the rate, and turns given."""

    __slots__ = ("at", "turns")

    def __init__(self, _key: str = "") -> None:
        self.at = float("-inf")
        self.turns = 0


class Turn(Wait):
    """A reserved turn that is still to come."""

    __slots__ = ("amount", "due", "number")

    def __init__(self, since: float, until: float, due: Due, amount: float) -> None:
        super().__init__(since, until)
        self.due = due
        self.amount = amount
        self.number = 0


class RateLimitGate(Gate[RateLimit]):
    """Keeps one timestamp a key.

    Attributes:
        refused: Calls refused so far.
        exceeded: Calls that came too early but were let through, as `enforced` is below 1.
    """

    records = False

    def __init__(self, policy: RateLimit, address: Address) -> None:
        super().__init__(policy, address)
        self.refused = 0
        self.exceeded = 0
        self._due = Due()
        self._dues = LeastRecentlyUsed(policy.max_keys, Due)
        self._key_of = key_function(policy.scope)
        self._weight = policy.weight
        self._tells_early = policy.weight is None and known_on_arrival(policy.scope)
        self.keyed = self._key_of is not None and self._tells_early

    def admit(self, call: Call, now: float, deadline: float | None) -> Verdict:
        """Let the call through, let it wait for its turn, or refuse it."""
        policy = self.policy
        key = "" if self._key_of is None else self._key_of(call)
        amount = 1.0 if self._weight is None else self._weight(call)
        with self._lock:
            due = self._due if self._key_of is None else self._dues.get(key)
            # Not `max`: a call less on the path of every call.
            start = due.at if due.at > now else now  # noqa: FURB136
            then = start + amount / policy.rate
            delay = then - policy.burst / policy.rate - now
            if delay <= _ROUNDING or (policy.critical_burst and self._borrows(call, delay)):
                due.at = then
                return PERMIT
            turn = None
            if delay <= policy.max_wait and (deadline is None or now + delay < deadline):
                turn = Turn(now, now + delay, due, amount)
            verdict = self._too_early(policy, now, turn)
        heavy = amount > policy.burst
        self._report(policy, verdict, call, now, delay, key, heavy)
        if verdict is not None:
            return verdict
        # Heavier than the whole burst: no wait would help.
        retry_after = None if heavy else delay
        details = f"rate limit {self.path} of {policy.rate:g} calls a second is used up"
        if key:
            details += f" for {key!r}"
        return Refusal(self.name, details, retry_after=retry_after)

    def would_refuse(self, call: Call | None, now: float) -> bool:
        """Tell whether the limit is used up for a call that has just arrived at a server."""
        policy = self.policy
        lenient = policy.max_wait or policy.critical_burst or policy.enforced < 1.0
        if lenient or not self._tells_early:
            return False
        due: Due | None = self._due
        if self._key_of is not None and call is not None:
            due = self._dues.peek(self._key_of(call))
        return due is not None and due.at + (1.0 - policy.burst) / policy.rate - now > _ROUNDING

    def settle(self, permit: Permit, outcome: Outcome, now: float) -> None:
        """Do nothing: a call counts when it starts."""

    def claim(self, wait: Wait, call: Call, now: float) -> Verdict:
        """Let the call through once its turn has come."""
        return PERMIT if now >= wait.until else wait

    def abandon(self, wait: Wait, now: float) -> None:
        """Give the turn back."""
        if isinstance(wait, Turn):
            with self._lock:
                due = wait.due
                # Those after it keep their times: a turn in the middle is nobody's to have.
                if wait.number == due.turns and now < wait.until:
                    due.at -= wait.amount / self.policy.rate
                    due.turns -= 1

    def adopt(self, old: RateLimit) -> None:
        """Keep as many keys as allowed now; what was let through counts as before, in calls."""
        policy, now = self.policy, self._now()
        with self._lock:
            self._dues.resize(policy.max_keys)
            for due in (self._due, *(due for _, due in self._dues.items())):
                if due.at > now:
                    due.at = now + (due.at - now) * old.rate / policy.rate

    def state(self, now: float) -> dict[str, Value]:
        """Return how many calls could come at once now, and how many came too early."""
        policy = self.policy
        with self._lock:
            owed = max(0.0, self._due.at - now) * policy.rate
            state: dict[str, Value] = {"refused": self.refused, "exceeded": self.exceeded}
            if self._key_of is None:
                state["available"] = max(0.0, policy.burst - owed)
            else:
                state["keys"] = len(self._dues)
        return state

    def _borrows(self, call: Call, delay: float) -> bool:
        """Tell whether a call may come early as it is critical."""
        policy = self.policy
        return (
            delay <= policy.critical_burst / policy.rate + _ROUNDING
            and call.rank[0] is Priority.CRITICAL
        )

    def _too_early(self, policy: RateLimit, now: float, turn: Turn | None) -> Permit | Turn | None:
        """Let a call that is too early through, or let it wait, or neither; the lock is held."""
        if policy.enforced < 1.0 and random.random() >= policy.enforced:
            self.exceeded += 1
            return PERMIT
        if turn is not None:
            turn.due.at = max(turn.due.at, now) + turn.amount / policy.rate
            turn.due.turns += 1
            turn.number = turn.due.turns
            return turn
        self.refused += 1
        return None

    def _report(
        self,
        policy: RateLimit,
        verdict: Permit | Turn | None,
        call: Call,
        now: float,
        delay: float,
        key: str,
        heavy: bool,
    ) -> None:
        kind: type[Event] = RateLimitExceeded
        if verdict is not PERMIT:
            kind = RateLimitRefused if verdict is None else RateLimitDelayed
        self._count(kind)
        if self._emitter.sink is None:
            return
        if verdict is PERMIT:
            self._emitter.tell(RateLimitExceeded, *self._about(call, now), key, delay)
        elif verdict is not None:
            self._emitter.tell(RateLimitDelayed, *self._about(call, now), key, delay)
        else:
            self._emitter.tell(
                RateLimitRefused,
                *self._about(call, now, "too_heavy" if heavy else "rate"),
                key,
                delay,
                policy.rate,
                policy.burst,
            )
