"""Ask again before the answer has come, for the few of many calls that take far too long.

The rules of gRFC A6 (the codes, pushback, first success wins), which gRPC in Python accepts in a
service config and does nothing with. The delay is that of Dean and Barroso, "The Tail at Scale"
(2013): after the 95th percentile, 5 % more calls take the tail away.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ninelives_grpc.events import HedgeRefused, HedgeStarted, HedgeWon
from ninelives_grpc.outcome import Code, Kind, Outcome
from ninelives_grpc.parameters import option, parameter, policy
from ninelives_grpc.policies.budget import Budget, BudgetFlow
from ninelives_grpc.policies.gate import Gate, Permit
from ninelives_grpc.policies.policy import Policy
from ninelives_grpc.policies.retry import is_idempotent, may_pass, option_problem
from ninelives_grpc.windows.lru import LeastRecentlyUsed
from ninelives_grpc.windows.recent import RecentSamples

if TYPE_CHECKING:
    from typing import Any

    from ninelives_grpc.call import Call, Method
    from ninelives_grpc.parameters import Value
    from ninelives_grpc.policies.policy import Address

_MAX_METHODS = 1000


@policy
class Hedge(Policy):
    """Start another attempt when the first takes longer than `delay`; the first success wins.

    What is inside of it is done once more, while the first attempt goes on; at once when that has
    failed in a way that may pass. The others are cancelled then. Any other error ends the call, and
    so does the failure of all attempts. Only for methods known to be idempotent, with one request
    and one response; all other calls pass as if it were not there. A hedge is paid from the retry
    budget, never waits (in a `Bulkhead`, say), and is not made when less than `delay` is left.

    No attempt needs a thread or a task of its own, but for sync functions (`Stack.call`): these can
    not be cancelled from outside, so each attempt of one has a thread, in which a loser runs to its
    end. A blocking call in a callback of gRPC's is not hedged: it has the thread that would hear of
    the end of the others.

    Args:
        delay: Seconds to wait for an answer; None takes the `quantile` of what calls of the method
            took lately, from `minimum_samples` on, and does not hedge before.
        max_hedges: Attempts besides the first; 0 does not hedge.
        quantile: Share of calls, 0..1, that are to be answered within the delay.
        minimum_samples: Answers there must be of a method before it is hedged.
        window_size: Answers of a method that are remembered.
        max_pushback: Seconds; a server that asks for a longer wait is not asked again.
        idempotent: Whether repeating is known to do no harm, for all methods or those named
            (`package.Service/Method`).
        codes: Status codes that may pass, besides those that `Retry` repeats.
        budget: What pays for hedges; by default the budget of this stack.

    Raises:
        ConfigError: A value is outside its bounds; names the field and the bound.
    """

    delay: float | None = parameter(
        default=None,
        low=0.0,
        high=3600.0,
        unit="seconds",
        doc="Wait before the next attempt; null takes the quantile of recent calls.",
        kw_only=False,
    )
    max_hedges: int = parameter(
        default=1, low=0, high=10, unit="attempts", doc="Attempts besides the first."
    )
    quantile: float = parameter(
        default=0.95, low=0.0, high=1.0, unit="ratio", doc="Share of calls within the delay."
    )
    minimum_samples: int = parameter(
        default=20, low=1, high=100_000, unit="calls", doc="Answers needed before it hedges."
    )
    window_size: int = parameter(
        default=200, low=1, high=100_000, unit="calls", doc="Answers that are remembered."
    )
    max_pushback: float = parameter(
        default=60.0, low=0.0, high=86_400.0, unit="seconds", doc="Longest wait a server may ask."
    )
    idempotent: bool | Collection[str] = option(default=False)
    codes: Collection[Code] = option(default=())
    budget: Budget | None = option(default=None)

    def live(self, address: Address) -> HedgeFlow:
        """Start without a budget; the plan hands it in."""
        return HedgeFlow(self, address)

    def conflict(self) -> str:
        """Say which values do not go together, or are not of the kind that is expected."""
        if self.minimum_samples > self.window_size:
            return (
                f"minimum_samples ({self.minimum_samples}) must not exceed "
                f"window_size ({self.window_size})"
            )
        return option_problem(self.idempotent, self.codes, self.budget)


class Hedging(Permit):
    """How far the hedges of one call have come.

    Attributes:
        policy: The snapshot in force when the call came.
        began: When that was.
        method: Name of the method, or "" when its answers are of no interest.
        delay: Seconds to wait for an answer.
        left: Attempts that may yet be made besides the first.
        paid: Whether one of them is paid, and waits as long as the server asked.
    """

    __slots__ = ("began", "delay", "left", "method", "paid", "policy")

    def __init__(self, policy: Hedge, began: float, method: str, delay: float | None) -> None:
        self.policy = policy
        self.began = began
        self.method = method
        self.delay = 0.0 if delay is None else delay
        self.left = 0 if delay is None else policy.max_hedges
        self.paid = False


class HedgeFlow(Gate[Hedge]):
    """Knows how long calls take, and says whether another attempt may be made.

    Attributes:
        budget: What pays for it.
        feeds: Whether the budget hears of calls from here, because no `Retry` tells it.
        started: Hedges so far.
        won: Hedges that answered first.
        refused: Hedges that were due, and were not made.
    """

    budget: BudgetFlow[Any]

    def __init__(self, policy: Hedge, address: Address) -> None:
        super().__init__(policy, address)
        self.feeds = False
        self.started = 0
        self.won = 0
        self.refused = 0
        self._recent = LeastRecentlyUsed(_MAX_METHODS, lambda _: RecentSamples())
        self._last: float | None = None

    def applies(self, method: Method) -> bool:
        """Tell whether calls of a method may be hedged."""
        return is_idempotent(self.policy.idempotent, method)

    def admit(self, call: Call, now: float, deadline: float | None) -> Hedging:
        """Look how long to wait for this call."""
        if self.feeds and self.budget.counts_calls:
            self.budget.begin(now)
        policy, method = self.policy, call.method
        if not self.applies(method):
            return Hedging(policy, now, "", None)
        if policy.delay is not None:
            return Hedging(policy, now, "", policy.delay)
        return Hedging(policy, now, method.name, self._usual(policy, method.name))

    def settle(self, permit: Permit, outcome: Outcome, now: float) -> None:
        """Note how long the call took, whoever answered: the first attempt or a hedge.

        Were it the winner's own time, the slow ones would leave no trace, and the quantile would
        fall with every hedge.
        """
        assert isinstance(permit, Hedging)
        if self.feeds:
            self._feed(outcome.kind)
        if permit.method and outcome.kind is Kind.SUCCESS and not outcome.local:
            with self._lock:
                self._recent.get(permit.method).add(now - permit.began, permit.policy.window_size)

    def may_pass(self, hedging: Hedging, outcome: Outcome) -> bool:
        """Tell whether a failed attempt leaves hope for another."""
        return may_pass(outcome, hedging.policy.codes, idempotent=True)

    def pay(
        self, hedging: Hedging, call: Call, deadline: float | None, wait: float, now: float
    ) -> bool:
        """Pay for another attempt, to be made after a wait, or give up hedging this call."""
        latest = now + wait + hedging.delay
        late = any(limit is not None and latest > limit for limit in (deadline, call.inherited))
        if late or not call.pay(self.budget, now):
            self.give_up(hedging, call, "deadline" if late else "budget", now)
            return False
        hedging.left -= 1
        return True

    def give_up(self, hedging: Hedging, call: Call, reason: str, now: float) -> None:
        """Make no more attempts for this call."""
        hedging.left = 0
        hedging.paid = False
        self.refuse(call, reason, now)

    def refuse(self, call: Call, reason: str, now: float) -> None:
        """Say that a hedge was due, and was not made."""
        with self._lock:
            self.refused += 1
        self._count(HedgeRefused)
        if self._emitter.sink is not None:
            self._emitter.tell(HedgeRefused, *self._about(call, now, reason))

    def start(self, hedging: Hedging, call: Call, number: int, code: str, now: float) -> None:
        """Say that a hedge starts."""
        hedging.paid = False
        with self._lock:
            self.started += 1
        self._count(HedgeStarted)
        if self._emitter.sink is not None:
            after = now - hedging.began
            self._emitter.tell(HedgeStarted, *self._about(call, now), number, after, code)

    def win(self, call: Call, number: int, now: float) -> None:
        """Say that a hedge answered first."""
        with self._lock:
            self.won += 1
        self._count(HedgeWon)
        if self._emitter.sink is not None:
            self._emitter.tell(HedgeWon, *self._about(call, now), number)

    def state(self, now: float) -> dict[str, Value]:
        """Return the delay, where it is learned that of the last call, and what came of it."""
        fixed = self.policy.delay
        return {
            "delay": self._last if fixed is None else fixed,
            "started": self.started,
            "won": self.won,
            "refused": self.refused,
        }

    def _usual(self, policy: Hedge, method: str) -> float | None:
        """Return what calls of a method usually take at most, or None as long as it is unknown."""
        with self._lock:
            recent = self._recent.peek(method)
            if recent is None or len(recent) < policy.minimum_samples:
                return None
            self._last = recent.quantile(policy.quantile)
            return self._last

    def _feed(self, kind: Kind) -> None:
        budget = self.budget
        if kind is Kind.SUCCESS:
            budget.succeed()
        elif kind is Kind.FAILURE:
            budget.fail()
        if budget.counts_calls:
            budget.end()
