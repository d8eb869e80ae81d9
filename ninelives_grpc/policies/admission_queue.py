"""Have calls wait only while they can still be served in time, those that matter most first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ninelives_grpc.admission.lines import Place
from ninelives_grpc.admission.nq import Nq
from ninelives_grpc.admission.ticket import TICKET, Ticket
from ninelives_grpc.events import AdmissionAcquired, AdmissionQueued, AdmissionRefused
from ninelives_grpc.outcome import Code
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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ninelives_grpc.call import Call
    from ninelives_grpc.outcome import Outcome
    from ninelives_grpc.parameters import Value
    from ninelives_grpc.policies.policy import Address

DEFAULT_WORKERS = min(32, (os.cpu_count() or 1) + 4)
"""Threads that Python's own pool has when nobody says how many."""
_LONGEST_WAIT = 1.0
"""Seconds after which whoever was refused may ask again: by then the queue is another."""
_WHY = {
    "deadline": "it could not be served in time",
    "queue_full": "the queue is full",
    "displaced": "it gave way to one that matters more",
    "late": "its turn did not come in time",
    "shutdown": "the server shuts down",
}


@policy
class AdmissionQueue(Policy):
    """Let `width` calls run at once; let others wait if they can be in time, and refuse the rest.

    It knows how long a call takes, by those before, and how long it still may take, by its
    deadline. A call that would come too late is refused on arrival; one that has become too late
    is thrown out, and never started. With a place free and nobody waiting a call goes ahead, unless
    others have just been refused, and it has less time than a call takes. Of those who wait the
    oldest is served first, until somebody has been waiting for the whole of a deadline and the line
    still grows. From then on, until it is empty, only so many are let in as are served within a
    moment, and the newest is first, who has most time left.

    Classes of `x-ninelives-priority`, see `prioritize`, are served strictly one after the other:
    nobody of a class is served while one waits who matters more. Within a class everybody of
    `fair_by` has a line of their own, and these are served in turns.

    In a sync server calls wait for a worker before any policy sees them. Serve with an
    `AdmissionExecutor` there, and this queue is that of the workers. Without it, it is one of
    threads that wait. On an asyncio server, and around functions, those who wait are tasks or
    threads.

    What a call takes is the time of its worker or handler, and of a stream the time to its first
    message; yet a stream holds its place to the end. Streams that live long, such as
    subscriptions, do not belong behind a queue.

    The law is NQ: a call needs the mean of the service times, two mean deviations and a margin, and
    has to wait for the length of the queue times that mean, divided by the places.

    Args:
        width: Calls that may run at once; None takes the number of workers of the executor, or as
            many as Python's thread pool has by default. More than its workers do not run.
        max_queue: Calls that may wait; one that matters more takes the place of one that matters
            less, or that stands in a longer line.
        default_wait: Seconds that a call without a deadline may wait.
        over_after: Seconds after which a line that has never been empty, and grows, is served from
            its end; None is a deadline, the mean of those that calls bring, of which none counts
            more than fourfold, or `default_wait`. A tenth of a second favours short waits, and
            loses calls in bursts.
        over_delay: The oldest must have waited for this share of that time.
        over_wait: Seconds that a call may wait in such a line.
        over_share: The same, as a share of the time that a call takes; the greater of both counts.
        deviations: Mean deviations from the mean that a call is taken to need.
        margin: Share of the time that a call has when it arrives which its answer is to have left:
            for its way to the client, and all else that takes time and is no work.
        weight: How far each call moves the mean, as a share of the distance.
        fair_by: Who has a line of their own: `method`, `peer`, `metadata:NAME` or a function of
            the call, which is told no request; by default nobody.

    Raises:
        ConfigError: A value is outside its bounds; names the field and the bound.
    """

    width: int | None = parameter(
        default=None, low=1, high=100_000, unit="calls", doc="Calls that run at once.",
        kw_only=False,
    )  # fmt: skip
    max_queue: int = parameter(
        default=1000, low=0, high=1_000_000, unit="calls", doc="Calls that may wait."
    )
    default_wait: float = parameter(
        default=1.0, low=0.0, high=3600.0, unit="seconds", doc="Longest wait without a deadline."
    )
    over_after: float | None = parameter(
        default=None, low=0.0, high=3600.0, unit="seconds", doc="When the newest come first."
    )
    over_delay: float = parameter(
        default=0.25, low=0.0, high=1.0, unit="ratio", doc="How long the oldest waited by then."
    )
    over_wait: float = parameter(
        default=0.005, low=0.0, high=60.0, unit="seconds", doc="Longest wait in such a line."
    )
    over_share: float = parameter(
        default=0.5, low=0.0, high=100.0, unit="ratio", doc="The same, in service times."
    )
    deviations: float = parameter(
        default=2.0, low=0.0, high=20.0, doc="Mean deviations over the mean that a call needs."
    )
    margin: float = parameter(
        default=0.1, low=0.0, high=0.9, unit="ratio", doc="Share of a call's time to keep."
    )
    weight: float = parameter(
        default=0.02, low=0.0001, high=1.0, unit="ratio", doc="How far each call moves the mean."
    )
    fair_by: Scope = option(default=STACK)

    def live(self, address: Address) -> AdmissionQueueGate:
        """Start with every place free."""
        return AdmissionQueueGate(self, address)

    def conflict(self) -> str:
        """Say what is wrong with `fair_by`, or return ""."""
        return scope_problem(self.fair_by, "fair_by")


class AdmissionQueueGate(Gate[AdmissionQueue]):
    """Asks its law who is in, who waits and who has to go, and tells of it.

    Attributes:
        refused: Calls refused so far.
        workers: Threads that executors have for its calls; 0 when it is asked by handlers.
        executors: How many executors these are of.
        in_threads: Whether a sync server has it.
    """

    queues = True

    def __init__(self, policy: AdmissionQueue, address: Address) -> None:
        super().__init__(policy, address)
        self.refused = 0
        self.workers = 0
        self.executors = 0
        self.in_threads = False
        self._law = Nq(self._settings, self._limit())
        self._key_of = key_function(policy.fair_by)

    def start_afresh(self) -> None:
        """Free every place, and forget who waits and which executors there are."""
        super().start_afresh()
        self.workers = self.executors = 0
        self._law.limit = self._limit()
        self._law.start_afresh()

    @property
    def in_flight(self) -> int:
        """Calls that hold a place."""
        return self._law.in_flight

    @property
    def acquired(self) -> int:
        """Calls that got a place so far."""
        return self._law.acquired

    @property
    def limit(self) -> int:
        """Calls that may run at once."""
        return self._law.limit

    @property
    def queued(self) -> int:
        """Calls that wait."""
        return self._law.lines.size

    def fill(self) -> float:
        """Return how many places are taken, as a share of them."""
        return self._law.in_flight / max(self._law.limit, 1)

    def add_workers(self, number: int) -> None:
        """Count the workers of an executor; a negative number takes some away."""
        with self._lock:
            self.workers += number
            self.executors += 1 if number > 0 else -1
            self._law.limit = self._limit()
            told = self._law.advance(self._now())
        _notify(told)

    def admit(self, call: Call, now: float, deadline: float | None) -> Verdict:
        """Give a place, or one in a line; or show what the executor was told on arrival."""
        ticket = TICKET.get()
        if ticket is not None and ticket.gate is self and not ticket.used:
            return ticket.show()
        law = self._law
        with self._lock:
            in_flight = law.in_flight + 1
            if in_flight <= law.limit and not law.lines.size and now >= law.pressed:
                law.in_flight = in_flight
                law.acquired += 1
                admitted = True
            else:
                admitted = False
        if not admitted:
            return self._line_up(call, now, deadline)
        if self._emitter.routine:
            self._report(call, now)
        return PERMIT

    @property
    def keyed(self) -> bool:  # type: ignore[override]
        """Whether it looks into the call: while somebody waits, and no executor asks on arrival."""
        return self._law.lines.size > 0 and not self.workers

    def would_refuse(self, call: Call | None, now: float) -> bool:
        """Tell whether more come than can be served, and as many wait as may by now.

        That holds whatever the call's deadline is, which is not known before its request is. An
        executor knows it, and asks before the request is read as well.
        """
        if call is None or not self.keyed or not known_on_arrival(self.policy.fair_by):
            return False
        key, rank = "" if self._key_of is None else self._key_of(call), call.rank[0]
        with self._lock:
            return self._law.hopeless(rank, key, now)

    def settle(self, permit: Permit, outcome: Outcome, now: float) -> None:
        """Free the place, and give it to the next; with a ticket that is for the executor to do."""
        if permit is not PERMIT:
            assert isinstance(permit, Ticket)
            permit.settled(outcome)
            return
        learned = (
            outcome.refusal is None and not outcome.local and outcome.code is not Code.CANCELLED
        )
        self._free(outcome.duration if learned else None, now)

    def enter(self, now: float) -> bool:
        """Give a place if one is free and nobody waits, for `finish` to take back.

        It asks nothing of the call, and tells nobody: it says no where there is more to it.
        """
        law = self._law
        with self._lock:
            in_flight = law.in_flight + 1
            if in_flight > law.limit or law.lines.size or now < law.pressed:
                return False
            if self._emitter.routine:
                return False
            law.in_flight = in_flight
            law.acquired += 1
        return True

    def finish(self, seconds: float | None, now: float) -> None:
        """Free the place of a call whose worker is done with it, whatever became of it.

        Args:
            seconds: What it took, if that says what others will take.
            now: The time.
        """
        self._free(seconds, now)

    def claim(self, wait: Wait, call: Call, now: float) -> Verdict:
        """Take the place that was granted meanwhile, wait on, or give up."""
        assert isinstance(wait, Place)
        with self._lock:
            if not wait.ready and now < wait.until:
                return wait
            if not wait.granted:
                if not wait.ready:
                    self._law.lines.remove(wait)
                    wait.ready, wait.reason = True, "late"
                self.refused += 1
        if not wait.granted:
            return self._refuse(call, now, wait.reason, now - wait.since)
        if self._emitter.routine:
            self._report(call, now)
        return PERMIT

    def abandon(self, wait: Wait, now: float) -> None:
        """Leave the line, or pass the granted place on."""
        assert isinstance(wait, Place)
        with self._lock:
            told = self._law.leave(wait, now)
        _notify(told)

    def throw_out(self, now: float) -> float | None:
        """Throw out who has become too late; returns when the next will be, or None."""
        with self._lock:
            told = self._law.advance(now)
            until = self._law.lines.next_until()
        _notify(told)
        return until

    def shut(self, call: Call, now: float) -> Refusal:
        """Return why a call is refused when there are no workers any more."""
        with self._lock:
            self.refused += 1
        return self._refuse(call, now, "shutdown", 0.0, Code.UNAVAILABLE)

    def adopt(self, old: AdmissionQueue) -> None:
        """Let more in when there is more room."""
        with self._lock:
            self._law.limit = self._limit()
            told = self._law.advance(self._now())
        _notify(told)

    def state(self, now: float) -> dict[str, Value]:
        """Return how full it is, who waits, and what it goes by."""
        law = self._law
        with self._lock:
            return {
                "in_flight": law.in_flight,
                "limit": law.limit,
                "queued": law.lines.size,
                "over": law.over(now),
                "service_time": law.service.mean,
                "deviation": law.service.deviation,
                "workers": self.workers,
                "acquired": law.acquired,
                "refused": self.refused,
            }

    def _settings(self) -> AdmissionQueue:
        return self.policy

    def _limit(self) -> int:
        width, workers = self.policy.width, self.workers
        if not workers:
            return width or DEFAULT_WORKERS
        return workers if width is None else min(width, workers)

    def _line_up(self, call: Call, now: float, deadline: float | None) -> Verdict:
        key = "" if self._key_of is None else self._key_of(call)
        rank = call.rank[0]
        told: list[Place] = []
        try:
            with self._lock:
                place, reason = self._law.line_up(rank, key, now, deadline, told)
                self.refused += bool(reason)
        finally:
            # Also if `fair_by` gave a key that is none.
            _notify(told)
        if reason:
            return self._refuse(call, now, reason, 0.0)
        if place is not None:
            self._tell_queued(call, now)
            return place
        if self._emitter.routine:
            self._report(call, now)
        return PERMIT

    def _free(self, seconds: float | None, now: float) -> None:
        with self._lock:
            told = self._law.free(seconds, now)
        if told:
            _notify(told)

    def _report(self, call: Call, now: float) -> None:
        self._emitter.tell(AdmissionAcquired, *self._about(call, now), self.in_flight)

    def _tell_queued(self, call: Call, now: float) -> None:
        self._count(AdmissionQueued)
        if self._emitter.sink is not None:
            self._emitter.tell(
                AdmissionQueued,
                *self._about(call, now),
                self.in_flight,
                self._law.lines.size,
            )

    def _refuse(
        self,
        call: Call,
        now: float,
        reason: str,
        waited: float,
        code: Code = Code.RESOURCE_EXHAUSTED,
    ) -> Refusal:
        law = self._law
        limit, queued, mean = law.limit, law.lines.size, law.service.mean
        self._count(AdmissionRefused)
        if self._emitter.sink is not None:
            self._emitter.tell(
                AdmissionRefused,
                *self._about(call, now, reason),
                law.in_flight,
                limit,
                queued,
                mean,
                waited,
            )
        details = f"admission queue {self.path}: {_WHY[reason]}, {queued} wait for {limit} places"
        retry_after = None
        if mean and code is not Code.UNAVAILABLE:
            # When all who wait now have been served.
            retry_after = min(mean * (queued / limit + 1.0), _LONGEST_WAIT)
        return Refusal(self.name, details, code=code, retry_after=retry_after)


def _notify(places: Sequence[Place]) -> None:
    for place in places:
        place.notify()
