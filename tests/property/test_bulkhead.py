"""A bulkhead beside a model of who is in and who waits: no place is lost, nobody is passed over."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ninelives_grpc import Bulkhead, Method
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import Code, cancelled, failed, succeeded
from ninelives_grpc.policies.bulkhead import Order
from ninelives_grpc.policies.gate import PERMIT, Permit, Refusal
from tests.property.changing import change, changes
from tests.property.queues import end_all
from tests.unit.alone import alone
from tests.unit.backend import StatusError

# By name and level, most important first: what the model compares is the place in this list.
RANKS = [("critical", "99"), ("normal", "0"), ("normal", "50"), ("normal", "51"), ("low", "0")]
OUTCOMES = st.sampled_from(
    [
        succeeded(0.5),
        failed(StatusError(), 2.0),
        failed(StatusError(Code.RESOURCE_EXHAUSTED, pushback=500), 0.0),
        cancelled(1.0),
    ]
)


class Waiter:
    """Somebody in the queue, with what the model knows of them."""

    def __init__(self, place, call, rank):
        self.place = place
        self.call = call
        self.rank = rank
        self.granted = self.lost = False
        self.woken = 0

    def listen(self):
        self.place.wake = self.wake

    def wake(self):
        self.woken += 1


class BulkheadMachine(RuleBasedStateMachine):
    @initialize(order=st.sampled_from(Order), queue=st.integers(1, 5))
    def begin(self, order, queue):
        self.now = 0.0
        self.running = self.acquired = self.refused = 0
        self.waiting = []
        bulkhead = Bulkhead(2, max_queue=queue, max_wait=5.0, order=order)
        self.gate = alone(bulkhead, now=lambda: self.now)

    @property
    def policy(self):
        return self.gate.policy

    @property
    def queue(self):
        return [waiter for waiter in self.waiting if not (waiter.granted or waiter.lost)]

    @property
    def in_flight(self):
        return self.running + sum(waiter.granted for waiter in self.waiting)

    def grant(self):
        """Let waiters in as the order of the day has it."""
        while self.queue and self.in_flight < self.policy.max_concurrent:
            queue = self.queue
            if self.policy.order == "fifo":
                chosen = queue[0]
            elif self.policy.order == "lifo":
                chosen = queue[-1]
            else:
                chosen = min(queue, key=lambda waiter: waiter.rank)
            chosen.granted = True
            self.acquired += 1

    def chosen(self, data):
        return data.draw(st.sampled_from(self.waiting))

    @rule(
        ranks=st.lists(st.integers(0, len(RANKS) - 1), min_size=1, max_size=4),
        left=st.sampled_from([None, None, 0.0, 0.5, 9.0]),
        listens=st.booleans(),
    )
    def calls_come(self, ranks, left, listens):
        for rank in ranks:
            self.a_call_comes(rank, left, listens)

    def a_call_comes(self, rank, left, listens):
        name, level = RANKS[rank]
        metadata = [("x-ninelives-priority", name), ("x-ninelives-level", level)]
        call = Call(Method("m"), self.now, None, metadata)
        deadline = None if left is None else self.now + left
        patience = self.policy.max_wait if left is None else min(left, self.policy.max_wait)
        has_room = self.in_flight < self.policy.max_concurrent

        verdict = self.gate.admit(call, self.now, deadline)

        if has_room:
            assert isinstance(verdict, Permit)
            self.running += 1
            self.acquired += 1
        elif patience > 0 and self.finds_a_place(rank, verdict):
            assert verdict.until == self.now + patience
            # Whoever came before ranks counted comes before all who have one.
            ranked = self.policy.order == "priority"
            self.waiting.append(Waiter(verdict, call, rank if ranked else -1))
            if listens:
                self.waiting[-1].listen()
        else:
            self.is_refused(verdict)

    def finds_a_place(self, rank, verdict):
        """Tell whether a call may wait: where ranks count, it may take the place of another."""
        queue, most = self.queue, self.policy.max_queue
        ranked = self.policy.order == "priority"
        if len(queue) < most:
            # In the second half of the queue, those go that come after most of the recent ones.
            doubtful = ranked and rank > 0 and 2 * len(queue) > most
            return not (doubtful and isinstance(verdict, Refusal))
        if not ranked or not queue:
            return False
        last = max(reversed(queue), key=lambda waiter: waiter.rank)
        last.lost = last.rank > rank
        return last.lost

    def is_refused(self, verdict):
        assert isinstance(verdict, Refusal)
        assert verdict.code is Code.RESOURCE_EXHAUSTED
        assert verdict.retry_after >= 0
        self.refused += 1

    @precondition(lambda self: self.running)
    @rule(outcome=OUTCOMES)
    def a_call_ends(self, outcome):
        self.running -= 1
        self.gate.settle(PERMIT, outcome, self.now)
        self.grant()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), at_the_end=st.booleans())
    def a_waiter_asks_again(self, data, at_the_end):
        waiter = self.chosen(data)
        if at_the_end:
            self.now = max(self.now, waiter.place.until)
        verdict = self.gate.claim(waiter.place, waiter.call, self.now)

        if not (waiter.granted or waiter.lost) and self.now < waiter.place.until:
            assert verdict is waiter.place
            return
        self.waiting.remove(waiter)
        if waiter.granted:
            assert isinstance(verdict, Permit)
            self.running += 1
        else:
            self.is_refused(verdict)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_waiter_is_cancelled(self, data):
        waiter = self.chosen(data)
        self.waiting.remove(waiter)
        self.gate.abandon(waiter.place, self.now)
        self.grant()

    @rule(seconds=st.sampled_from([0.5, 1.0, 6.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(values=changes(Bulkhead))
    def parameters_change(self, values):
        change(self.gate, values)
        self.grant()

    @invariant()
    def every_place_is_held_by_somebody(self):
        assert self.gate.state(self.now) == {
            "in_flight": self.in_flight,
            "limit": self.policy.max_concurrent,
            "queued": len(self.queue),
            "acquired": self.acquired,
            "refused": self.refused,
        }

    @invariant()
    def those_are_let_in_whose_turn_it_is_and_told_once(self):
        for waiter in self.waiting:
            told = waiter.granted or waiter.lost
            assert waiter.place.ready is told
            if waiter.place.wake is not None:
                assert waiter.woken == told

    @invariant()
    def nobody_waits_while_there_is_room(self):
        assert not self.queue or self.in_flight >= self.policy.max_concurrent

    def teardown(self):
        if not hasattr(self, "gate"):
            return
        end_all(self)
        assert self.gate._queue == []


TestBulkhead = BulkheadMachine.TestCase
TestBulkhead.settings = settings(max_examples=120, stateful_step_count=50)
