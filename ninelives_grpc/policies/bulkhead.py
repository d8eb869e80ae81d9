"""Let only so many calls run at once, so that one slow backend does not take every worker."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from ninelives_grpc.events import BulkheadAcquired, BulkheadQueued, BulkheadRefused
from ninelives_grpc.parameters import option, parameter, policy
from ninelives_grpc.policies.gate import PERMIT, Gate, Permit, Refusal, Verdict, Wait
from ninelives_grpc.policies.policy import Policy
from ninelives_grpc.policies.ranking import Ranking
from ninelives_grpc.policies.scope import STACK, Scope, scope_problem

if TYPE_CHECKING:
    from ninelives_grpc.call import Call
    from ninelives_grpc.outcome import Outcome
    from ninelives_grpc.parameters import Value
    from ninelives_grpc.policies.policy import Address


class Order(StrEnum):
    """Who is served first of those who wait."""

    FIFO = "fifo"
    LIFO = "lifo"
    PRIORITY = "priority"


@policy
class Bulkhead(Policy):
    """Let at most `max_concurrent` calls run at once; let a few more wait, and refuse the rest.

    Resizing works both ways while calls run: growing lets waiters in at once, shrinking lets the
    excess drain.

    With `order="priority"` the calls that matter most are served first of those who wait: by the
    class and level that they bring in `x-ninelives-priority` and `x-ninelives-level`, see
    `prioritize`, and first come first served among equals. Once the queue is more than half full,
    calls are refused that come after most of the recent ones: the fuller it is, the more. When it
    is full, a call takes the place of one that matters less.

    A call without a level gets one by chance, and keeps it on its way through other services, so
    that they all refuse the same calls. With `fair_by` it depends on use instead: the more time
    somebody's calls have taken of late, compared with the others, the later they come.

    Args:
        max_concurrent: Calls that may run at once.
        max_queue: Calls that may wait for a place; 0 refuses at once.
        max_wait: Seconds a call may wait, if its deadline allows that long.
        order: Who is served first of those who wait: `fifo`; `lifo`, which is better under
            overload, when the oldest have no time left anyway; or `priority`.
        usage_half_life: Seconds after which half of what somebody has used is forgotten.
        fair_by: Who shares fairly, with the order `priority`: `method`, `target`, `peer`,
            `metadata:NAME` or a function of the call; by default nobody is told apart.

    Raises:
        ConfigError: A value is outside its bounds; names the field and the bound.
    """

    max_concurrent: int = parameter(
        low=1, high=1_000_000, unit="calls", doc="Calls that may run at once.", kw_only=False
    )
    max_queue: int = parameter(
        default=0, low=0, high=1_000_000, unit="calls", doc="Calls that may wait for a place."
    )
    max_wait: float = parameter(
        default=0.0, low=0.0, high=3600.0, unit="seconds", doc="Longest wait for a place."
    )
    order: Order = parameter(default=Order.FIFO, doc="Who is served first of those who wait.")
    usage_half_life: float = parameter(
        default=60.0, low=0.1, high=86_400.0, unit="seconds", doc="When half a use is forgotten."
    )
    fair_by: Scope = option(default=STACK)

    def live(self, address: Address) -> BulkheadGate:
        """Start with every place free."""
        return BulkheadGate(self, address)

    def conflict(self) -> str:
        """Say what is wrong with `fair_by`, or return ""."""
        return scope_problem(self.fair_by, "fair_by")


class Place(Wait):
    """A place in the queue.

    Attributes:
        rank: Number of its call's rank, 0 for the first served.
        permit: What it is to become.
        lost: Whether a call that matters more has taken it.
    """

    __slots__ = ("lost", "permit", "rank")

    def __init__(self, since: float, until: float, rank: int, permit: Permit) -> None:
        super().__init__(since, until)
        self.rank = rank
        self.permit = permit
        self.lost = False


class BulkheadGate(Gate[Bulkhead]):
    """Counts who is in, and keeps the queue of who waits.

    Attributes:
        in_flight: Calls that hold a place.
        acquired: Calls that got a place so far.
        refused: Calls that did not.
    """

    def __init__(self, policy: Bulkhead, address: Address) -> None:
        super().__init__(policy, address)
        self.in_flight = 0
        self.acquired = 0
        self.refused = 0
        self._mean = 0.0
        self._queue: list[Place] = []
        self._ranking = Ranking(policy.fair_by, policy.usage_half_life)

    def start_afresh(self) -> None:
        """Free every place, and forget who waits."""
        super().start_afresh()
        self._ranking.start_afresh()
        self.in_flight = 0
        self._queue = []

    @property
    def limit(self) -> int:
        """Calls that may run at once."""
        return self.policy.max_concurrent

    @property
    def queued(self) -> int:
        """Calls that wait."""
        return len(self._queue)

    def admit(self, call: Call, now: float, deadline: float | None) -> Verdict:
        """Give a place, or a place in the queue."""
        policy, permit, rank = self.policy, PERMIT, 0
        if policy.order is Order.PRIORITY:
            rank, permit = self._ranking.rank(call)
        with self._lock:
            in_flight = self.in_flight + 1
            if in_flight <= policy.max_concurrent and not self._queue:
                self.in_flight = in_flight
                self.acquired += 1
                admitted = True
            else:
                admitted = False
        if not admitted:
            return self._enqueue(call, Place(now, now + policy.max_wait, rank, permit), deadline)
        if self._emitter.routine:
            self._report(call, now, in_flight)
        return permit

    def would_refuse(self, call: Call | None, now: float) -> bool:
        """Tell whether every place and every place in the queue is taken."""
        policy = self.policy
        if self.in_flight < policy.max_concurrent:
            return False
        if policy.max_wait <= 0.0 or not policy.max_queue:
            return True
        # One that matters more may take a place in a full queue.
        return policy.order is not Order.PRIORITY and len(self._queue) >= policy.max_queue

    def fill(self) -> float:
        """Return how full the queue is, or how many places are taken where nobody may wait."""
        policy = self.policy
        if policy.max_queue and policy.max_wait > 0.0:
            return len(self._queue) / policy.max_queue
        return self.in_flight / policy.max_concurrent

    def settle(self, permit: Permit, outcome: Outcome, now: float) -> None:
        """Free the place, and give it to the next in the queue."""
        with self._lock:
            self.in_flight -= 1
            self._mean += (0.05 if self._mean else 1.0) * (outcome.duration - self._mean)
            granted = self._grant() if self._queue else ()
        if permit is not PERMIT:
            self._ranking.used(permit, outcome.duration, now)
        for place in granted:
            place.notify()

    def claim(self, wait: Wait, call: Call, now: float) -> Verdict:
        """Take the place that was granted meanwhile, wait on, or give up."""
        assert isinstance(wait, Place)
        with self._lock:
            in_flight = self.in_flight
            if not wait.ready and now < wait.until:
                return wait
            refused = wait.lost or not wait.ready
            if refused:
                self._leave(wait)
                self.refused += 1
        if refused:
            return self._refuse(call, now, now - wait.since)
        if self._emitter.routine:
            self._report(call, now, in_flight)
        return wait.permit

    def abandon(self, wait: Wait, now: float) -> None:
        """Leave the queue, or pass the granted place on."""
        assert isinstance(wait, Place)
        with self._lock:
            if wait.ready and not wait.lost:
                self.in_flight -= 1
            self._leave(wait)
            granted = self._grant()
        for place in granted:
            place.notify()

    def adopt(self, old: Bulkhead) -> None:
        """Let waiters in when the bulkhead has grown."""
        self._ranking.forget_half_in(self.policy.usage_half_life, self._now())
        with self._lock:
            granted = self._grant()
        for place in granted:
            place.notify()

    def state(self, now: float) -> dict[str, Value]:
        """Return how full it is."""
        return {
            "in_flight": self.in_flight,
            "limit": self.limit,
            "queued": self.queued,
            "acquired": self.acquired,
            "refused": self.refused,
        }

    def _enqueue(self, call: Call, place: Place, deadline: float | None) -> Verdict:
        policy, now = self.policy, place.since
        if deadline is not None:
            place.until = min(place.until, deadline)
        with self._lock:
            # A place may have become free since the caller looked.
            if self.in_flight < policy.max_concurrent and not self._queue:
                self.in_flight += 1
                self.acquired += 1
                return place.permit
            loser = self._line_up(policy, place) if place.until > now else place
            self.refused += loser is place
            in_flight, queued = self.in_flight, len(self._queue)
        if loser is place:
            return self._refuse(call, now, 0.0)
        if loser is not None:
            loser.notify()
        self._count(BulkheadQueued)
        if self._emitter.sink is not None:
            self._emitter.tell(BulkheadQueued, *self._about(call, now), in_flight, queued)
        return place

    def _line_up(self, policy: Bulkhead, place: Place) -> Place | None:
        """Put a place into the queue, and return whoever has to go for it, perhaps itself."""
        queue, ranked = self._queue, policy.order is Order.PRIORITY
        loser = None
        if len(queue) >= policy.max_queue:
            loser = max(reversed(queue), key=_rank_of, default=place) if ranked else place
            if loser.rank <= place.rank:
                return place
            loser.lost = True
            self._leave(loser)
        elif ranked and self._ranking.hopeless(
            place.rank, 2.0 * len(queue) / policy.max_queue - 1.0
        ):
            return place
        queue.append(place)
        return loser

    def _grant(self) -> list[Place]:
        """Hand free places to waiters; the lock is held, `notify` is for when it is not."""
        granted = []
        while self._queue and self.in_flight < self.policy.max_concurrent:
            place = self._queue.pop(self._next())
            place.ready = True
            self.in_flight += 1
            self.acquired += 1
            granted.append(place)
        return granted

    def _next(self) -> int:
        order = self.policy.order
        if order is Order.PRIORITY:
            return self._queue.index(min(self._queue, key=_rank_of))
        return 0 if order is Order.FIFO else -1

    def _leave(self, wait: Wait) -> None:
        self._queue[:] = [place for place in self._queue if place is not wait]

    def _report(self, call: Call, now: float, in_flight: int) -> None:
        self._emitter.tell(BulkheadAcquired, *self._about(call, now), in_flight)

    def _refuse(self, call: Call, now: float, waited: float) -> Refusal:
        limit, queued = self.policy.max_concurrent, len(self._queue)
        self._count(BulkheadRefused)
        if self._emitter.sink is not None:
            reason = "waited" if waited else "queue_full" if self.policy.max_queue else "full"
            self._emitter.tell(
                BulkheadRefused,
                *self._about(call, now, reason),
                self.in_flight,
                limit,
                queued,
                waited,
            )
        details = f"bulkhead {self.path} is full: {limit} calls run at once"
        if waited:
            details += f", and none ended in {waited:.3g} s"
        # Places become free at limit / mean duration a second, and those who wait go first.
        retry_after = self._mean * (queued + 1) / limit
        return Refusal(self.name, details, retry_after=retry_after)


def _rank_of(place: Place) -> int:
    return place.rank
