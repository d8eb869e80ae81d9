"""A bulkhead under random arrivals, ends, waits, cancels and changes: no place is ever lost."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ninelives_grpc import Bulkhead, Method
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import succeeded
from ninelives_grpc.policies.gate import Permit, Refusal
from tests.unit.alone import alone

PRIORITIES = ["critical", "high", "normal", "low", "background"]


def call_of(priority):
    return Call(Method("m"), 0.0, None, [("x-ninelives-priority", priority)])


class BulkheadMachine(RuleBasedStateMachine):
    @initialize(
        limit=st.integers(1, 4),
        queue=st.integers(0, 4),
        order=st.sampled_from(["fifo", "lifo", "priority"]),
    )
    def begin(self, limit, queue, order):
        self.now = 0.0
        self.running = 0
        self.waiting = []
        self.before = 0
        self.gate = alone(
            Bulkhead(limit, max_queue=queue, max_wait=5.0, order=order), now=lambda: self.now
        )

    @rule(priority=st.sampled_from(PRIORITIES), deadline=st.sampled_from([None, 0.0, 1.0, 9.0]))
    def a_call_comes(self, priority, deadline):
        policy, queued = self.gate.policy, len(self.gate._queue)
        in_flight = self.gate.in_flight
        call = call_of(priority)
        verdict = self.gate.admit(call, self.now, None if deadline is None else self.now + deadline)

        if isinstance(verdict, Permit):
            assert in_flight < policy.max_concurrent
            assert queued == 0
            self.running += 1
        elif isinstance(verdict, Refusal):
            assert in_flight >= policy.max_concurrent
            assert queued >= policy.max_queue or 0.0 in {deadline, policy.max_wait}
            assert verdict.retry_after >= 0
        else:
            assert queued < policy.max_queue
            assert verdict.until <= self.now + policy.max_wait
            self.waiting.append((verdict, call))

    @precondition(lambda self: self.running)
    @rule(duration=st.floats(0, 10))
    def a_call_ends(self, duration):
        self.running -= 1
        self.gate.settle(PERMIT, succeeded(duration), self.now)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_waiter_asks_again(self, data):
        place, call = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        verdict = self.gate.claim(place, call, self.now)

        if isinstance(verdict, Permit):
            assert place.ready
            self.running += 1
        elif isinstance(verdict, Refusal):
            assert self.now >= place.until
        else:
            assert self.now < place.until
            self.waiting.append((place, call))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_waiter_goes_away(self, data):
        place, _ = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        self.gate.abandon(place, self.now)

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(limit=st.integers(1, 6))
    def it_is_resized(self, limit):
        self.gate.change({"max_concurrent": limit})

    @rule(
        queue=st.integers(0, 4),
        order=st.sampled_from(["fifo", "lifo", "priority"]),
        wait=st.sampled_from([0.0, 1.0, 5.0]),
    )
    def its_queue_changes(self, queue, order, wait):
        self.gate.change({"max_queue": queue, "order": order, "max_wait": wait})

    @invariant()
    def every_place_is_held_by_somebody(self):
        granted = sum(place.ready for place, _ in self.waiting)
        assert self.gate.in_flight == self.running + granted

    @invariant()
    def the_limit_is_never_exceeded_but_while_an_excess_drains(self):
        assert self.gate.in_flight <= max(self.gate.policy.max_concurrent, self.before)
        self.before = self.gate.in_flight

    @invariant()
    def nobody_waits_while_there_is_room(self):
        queued = self.gate.state(self.now)["queued"]
        assert queued == sum(not place.ready for place, _ in self.waiting)
        assert not queued or self.gate.in_flight >= self.gate.policy.max_concurrent

    def teardown(self):
        if not hasattr(self, "gate"):
            return
        for place, _ in self.waiting:
            self.gate.abandon(place, self.now)
        for _ in range(self.running):
            self.gate.settle(PERMIT, succeeded(0.0), self.now)
        assert self.gate.in_flight == 0
        assert self.gate.state(self.now)["queued"] == 0


PERMIT = Permit()
TestBulkhead = BulkheadMachine.TestCase
