"""How many extra attempts a target can bear: shared by retry, fallback and race.

Without a budget, retries multiply the load on a backend that is already in trouble, and keep it
there. The default is paid for by successes: in an outage nothing is paid in, and retries stop.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from ninelives_grpc.parameters import parameter, policy
from ninelives_grpc.policies.policy import Live, Policy, Role

if TYPE_CHECKING:
    from ninelives_grpc.parameters import Value
    from ninelives_grpc.policies.policy import Address

B = TypeVar("B", bound="Budget")


@policy
class Budget(Policy):
    """What all budgets have in common: the same object given to two stacks is one budget."""

    def live(self, address: Address) -> BudgetFlow[Any]:
        """Return the running budget of this declaration, made at its first use."""
        live: BudgetFlow[Any] | None = self.__dict__.get("_live")
        if live is None:
            live = self.start(address)
            object.__setattr__(self, "_live", live)
        return live

    def start(self, address: Address) -> BudgetFlow[Any]:
        """Make the running budget."""
        raise NotImplementedError

    @classmethod
    def default_name(cls) -> str:
        """Return one address for all kinds, as a stack has one budget."""
        return "retry_budget"


class BudgetFlow(Live[B]):
    """A running budget.

    Attributes:
        full: Whether a success would add nothing, so that nobody needs to tell of it.
        withdrawn: Extra attempts paid so far.
        refused: Extra attempts that could not be paid.
    """

    role = Role.BUDGET
    counts_calls = False
    """Whether `begin` and `end` must be called around what a `Retry` repeats."""

    def __init__(self, policy: B, address: Address) -> None:
        super().__init__(policy, address)
        self.full = False
        self.withdrawn = 0
        self.refused = 0

    def begin(self, now: float) -> None:
        """Note that a call starts."""

    def end(self) -> None:
        """Note that a call ended."""

    def succeed(self) -> None:
        """Note that an attempt succeeded."""

    def fail(self) -> None:
        """Note that an attempt failed."""

    def withdraw(self, now: float) -> bool:
        """Pay for one extra attempt, or say that there is nothing left."""
        with self._lock:
            paid = self._pay(now)
            if paid:
                self.withdrawn += 1
            else:
                self.refused += 1
        return paid

    def release(self) -> None:
        """Note that the call that paid for an extra attempt has ended."""

    def _pay(self, now: float) -> bool:
        raise NotImplementedError

    def left(self, now: float) -> float:
        """Return how many extra attempts could be paid right now."""
        raise NotImplementedError

    def state(self, now: float) -> dict[str, Value]:
        """Return what is left, and what was paid."""
        with self._lock:
            left = self.left(now)
        return {"left": left, "withdrawn": self.withdrawn, "refused": self.refused}


@policy
class RetryBudget(Budget):
    """Tokens paid in by successes: `ratio` each, up to `capacity`; an extra attempt takes `cost`.

    Extra attempts are allowed while more than `threshold` of the capacity is there. In a full
    outage that amplifies the load by 1.03 to 1.10, where budgets paid by requests reach 1.2 to 2.0.

    Args:
        ratio: Tokens that a success pays in.
        capacity: Tokens there can be; it starts full.
        cost: Tokens that an extra attempt takes; 0 is no budget at all.
        threshold: Share of the capacity, 0..1, that must be left for an extra attempt.
    """

    ratio: float = parameter(
        default=0.1, low=0.0, high=1.0, unit="tokens", doc="Tokens that a success pays in."
    )
    capacity: float = parameter(
        default=10.0, low=0.0, high=1e6, unit="tokens", doc="Tokens there can be."
    )
    cost: float = parameter(
        default=1.0, low=0.0, high=1e6, unit="tokens", doc="Tokens an extra attempt takes."
    )
    threshold: float = parameter(
        default=0.5, low=0.0, high=1.0, unit="ratio", doc="Share that must be left to try again."
    )

    def start(self, address: Address) -> RetryBudgetFlow:
        """Start full."""
        return RetryBudgetFlow(self, address)


class RetryBudgetFlow(BudgetFlow[RetryBudget]):
    """Counts tokens."""

    def __init__(self, policy: RetryBudget, address: Address) -> None:
        super().__init__(policy, address)
        self._tokens = policy.capacity

    def succeed(self) -> None:
        """Pay in."""
        policy = self.policy
        with self._lock:
            self._tokens = min(policy.capacity, self._tokens + policy.ratio)
            self.full = self._tokens == policy.capacity

    def _pay(self, now: float) -> bool:
        policy = self.policy
        if policy.cost > self._tokens or self._tokens <= policy.threshold * policy.capacity:
            return policy.cost == 0
        self._tokens -= policy.cost
        self.full = False
        return True

    def left(self, now: float) -> float:
        """Return how many extra attempts could be paid right now."""
        policy = self.policy
        spare = max(0.0, self._tokens - policy.threshold * policy.capacity)
        return spare / policy.cost if policy.cost else float(policy.capacity)

    def adopt(self, old: RetryBudget) -> None:
        """Hold no more than fits now."""
        with self._lock:
            self._tokens = min(self._tokens, self.policy.capacity)
            self.full = False


@policy
class ThrottleBudget(Budget):
    """The tokens of gRFC A6: a failure takes one, a success gives `ratio`.

    Extra attempts are free while more than half of `capacity` is there.

    Args:
        capacity: Tokens there can be; it starts full.
        ratio: Tokens that a success gives back.
    """

    capacity: float = parameter(
        default=10.0, low=1.0, high=1000.0, unit="tokens", doc="Tokens there can be."
    )
    ratio: float = parameter(
        default=0.1, low=0.001, high=1000.0, unit="tokens", doc="Tokens a success gives back."
    )

    def start(self, address: Address) -> ThrottleBudgetFlow:
        """Start full."""
        return ThrottleBudgetFlow(self, address)


class ThrottleBudgetFlow(BudgetFlow[ThrottleBudget]):
    """Counts tokens as gRPC's own retry throttling does."""

    def __init__(self, policy: ThrottleBudget, address: Address) -> None:
        super().__init__(policy, address)
        self._tokens = policy.capacity

    def succeed(self) -> None:
        """Give `ratio` back."""
        policy = self.policy
        if self._tokens < policy.capacity:
            with self._lock:
                self._tokens = min(policy.capacity, self._tokens + policy.ratio)

    def fail(self) -> None:
        """Take one."""
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1.0)

    def _pay(self, now: float) -> bool:
        return self._tokens > self.policy.capacity / 2

    def left(self, now: float) -> float:
        """Return how many failures it would still take to stop extra attempts."""
        return max(0.0, self._tokens - self.policy.capacity / 2)

    def adopt(self, old: ThrottleBudget) -> None:
        """Hold no more than fits now."""
        with self._lock:
            self._tokens = min(self._tokens, self.policy.capacity)


@policy
class WindowBudget(Budget):
    """Extra attempts up to a share of the calls in a window, and a few a second besides.

    Args:
        ratio: Extra attempts for each call of the window.
        window: Seconds to look back.
        minimum: Extra attempts a second that are always allowed.
    """

    ratio: float = parameter(
        default=0.2, low=0.0, high=10.0, unit="ratio", doc="Extra attempts for each call."
    )
    window: float = parameter(
        default=10.0, low=0.1, high=600.0, unit="seconds", doc="Time to look back."
    )
    minimum: float = parameter(
        default=1.0, low=0.0, high=1e6, unit="per second", doc="Always allowed."
    )

    def start(self, address: Address) -> WindowBudgetFlow:
        """Start with no calls seen."""
        return WindowBudgetFlow(self, address)


class WindowBudgetFlow(BudgetFlow[WindowBudget]):
    """Keeps the times of recent calls and extra attempts."""

    counts_calls = True

    def __init__(self, policy: WindowBudget, address: Address) -> None:
        super().__init__(policy, address)
        self._calls: deque[float] = deque()
        self._extra: deque[float] = deque()

    def begin(self, now: float) -> None:
        """Note that a call starts."""
        with self._lock:
            self._calls.append(now)
            _expire(self._calls, now - self.policy.window)

    def _pay(self, now: float) -> bool:
        if self.left(now) < 1:
            return False
        self._extra.append(now)
        return True

    def left(self, now: float) -> float:
        """Return how many extra attempts could be paid right now."""
        policy = self.policy
        for times in (self._calls, self._extra):
            _expire(times, now - policy.window)
        allowed = policy.ratio * len(self._calls) + policy.minimum * policy.window
        return max(0.0, allowed - len(self._extra))


@policy
class ConcurrencyBudget(Budget):
    """Extra attempts up to a share of the calls that run right now.

    Args:
        ratio: Extra attempts for each running call.
        minimum: Extra attempts at once that are always allowed.
    """

    ratio: float = parameter(
        default=0.2, low=0.0, high=10.0, unit="ratio", doc="Extra attempts for each running call."
    )
    minimum: int = parameter(default=3, low=0, high=1_000_000, unit="calls", doc="Always allowed.")

    def start(self, address: Address) -> ConcurrencyBudgetFlow:
        """Start with nothing running."""
        return ConcurrencyBudgetFlow(self, address)


class ConcurrencyBudgetFlow(BudgetFlow[ConcurrencyBudget]):
    """Counts running calls, and those of them that are repetitions."""

    counts_calls = True

    def __init__(self, policy: ConcurrencyBudget, address: Address) -> None:
        super().__init__(policy, address)
        self._running = 0
        self._extra = 0

    def start_afresh(self) -> None:
        """Forget who runs."""
        super().start_afresh()
        self._running = self._extra = 0

    def begin(self, now: float) -> None:
        """Note that a call starts."""
        with self._lock:
            self._running += 1

    def end(self) -> None:
        """Note that a call ended."""
        with self._lock:
            self._running -= 1

    def release(self) -> None:
        """Note that an extra attempt is over."""
        with self._lock:
            self._extra -= 1

    def _pay(self, now: float) -> bool:
        if self.left(now) < 1:
            return False
        self._extra += 1
        return True

    def left(self, now: float) -> float:
        """Return how many extra attempts could be paid right now."""
        policy = self.policy
        return max(0.0, max(policy.minimum, policy.ratio * self._running) - self._extra)


def _expire(times: deque[float], oldest: float) -> None:
    while times and times[0] < oldest:
        times.popleft()
