"""An admission queue beside a model of who runs and who waits: in turn, in time, and none lost."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ninelives_grpc import AdmissionQueue, Method
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import Code, cancelled, failed, succeeded
from ninelives_grpc.policies.admission_queue import DEFAULT_WORKERS
from ninelives_grpc.policies.gate import PERMIT, Permit, Refusal
from tests.property.changing import change, changes
from tests.property.queues import end_all
from tests.unit.alone import alone
from tests.unit.backend import StatusError

CLASSES = ["critical", "high", "normal", "background"]
TENANTS = ["a", "b", "c"]
OUTCOMES = st.sampled_from(
    [
        succeeded(0.5),
        succeeded(1.5),
        failed(StatusError(), 0.25),
        failed(StatusError(Code.RESOURCE_EXHAUSTED, pushback=500), 0.0),
        cancelled(1.0),
    ]
)


class Waiter:
    """Somebody in line, with what the model knows of them."""

    def __init__(self, place, call, rank, tenant, deadline):
        self.place = place
        self.call = call
        self.rank = rank
        self.tenant = tenant
        self.deadline = deadline
        self.woken = 0
        place.wake = self.wake

    def wake(self):
        self.woken += 1


class AdmissionMachine(RuleBasedStateMachine):
    @initialize(width=st.integers(1, 3), queue=st.integers(1, 8), wait=st.sampled_from([1.0, 5.0]))
    def begin(self, width, queue, wait):
        self.now = 0.0
        self.running = self.acquired = self.refused = 0
        self.waiting = []
        policy = AdmissionQueue(
            width, max_queue=queue, default_wait=wait, fair_by="metadata:x-tenant"
        )
        self.gate = alone(policy, now=lambda: self.now)

    @property
    def in_line(self):
        return [waiter for waiter in self.waiting if not waiter.place.ready]

    @property
    def in_flight(self):
        return self.running + sum(waiter.place.granted for waiter in self.waiting)

    @property
    def limit(self):
        return self.gate.policy.width or DEFAULT_WORKERS

    def look(self, in_line):
        """See who was let in of those who were in line, and that it was their turn."""
        granted = [each for each in in_line if each.place.granted]
        self.acquired += len(granted)
        for each in in_line:
            if each.place.ready:
                assert each.woken == 1
        still = [each.rank for each in self.in_line]
        for each in granted:
            # Never what can not finish, and nobody who matters less than one who waits on.
            assert each.place.until > self.now
            assert all(rank >= each.rank for rank in still)
        self.fair(in_line, granted)

    def fair(self, in_line, granted):
        """See that nobody of a class was let in twice while another tenant was passed over."""
        for rank in {each.rank for each in granted}:
            served = [each.tenant for each in granted if each.rank == rank]
            passed = {each.tenant for each in self.in_line if each.rank == rank} - set(served)
            if passed:
                assert len(served) == len(set(served))

    @rule(
        rank=st.integers(0, 3),
        tenant=st.sampled_from(TENANTS),
        left=st.sampled_from([None, None, 0.0, 0.5, 2.0, 9.0]),
    )
    def a_call_comes(self, rank, tenant, left):
        metadata = [("x-ninelives-priority", CLASSES[rank]), ("x-tenant", tenant)]
        call = Call(Method("m"), self.now, None, metadata)
        deadline = None if left is None else self.now + left
        before = self.in_line

        verdict = self.gate.admit(call, self.now, deadline)

        self.look(before)
        if isinstance(verdict, Permit):
            self.running += 1
            self.acquired += 1
        elif isinstance(verdict, Refusal):
            self.is_refused(verdict)
        else:
            assert self.in_flight >= self.limit
            assert verdict.until > self.now
            assert deadline is None or verdict.until <= deadline
            self.waiting.append(Waiter(verdict, call, rank, tenant, deadline))

    def is_refused(self, verdict):
        assert verdict.code is Code.RESOURCE_EXHAUSTED
        # Before the first call has ended nobody knows.
        assert (verdict.retry_after is None) == (self.gate.state(self.now)["service_time"] == 0.0)
        assert verdict.retry_after is None or 0.0 < verdict.retry_after <= 1.0
        self.refused += 1

    @precondition(lambda self: self.running)
    @rule(outcome=OUTCOMES)
    def a_call_ends(self, outcome):
        before = self.in_line
        self.running -= 1
        self.gate.settle(PERMIT, outcome, self.now)
        self.look(before)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), at_the_end=st.booleans())
    def a_waiter_asks_again(self, data, at_the_end):
        waiter = data.draw(st.sampled_from(self.waiting))
        if at_the_end:
            self.now = max(self.now, waiter.place.until)
        told = waiter.place.ready
        verdict = self.gate.claim(waiter.place, waiter.call, self.now)

        if not told and self.now < waiter.place.until:
            assert verdict is waiter.place
            return
        self.waiting.remove(waiter)
        if waiter.place.granted:
            assert verdict is PERMIT
            self.running += 1
        else:
            assert isinstance(verdict, Refusal)
            self.is_refused(verdict)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_waiter_is_cancelled(self, data):
        waiter = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(waiter)
        before = self.in_line
        self.gate.abandon(waiter.place, self.now)
        self.look(before)

    @rule(seconds=st.sampled_from([0.25, 1.0, 6.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def somebody_looks_who_is_late(self):
        before = self.in_line
        until = self.gate.throw_out(self.now)
        self.look(before)

        assert until == min((each.place.until for each in self.in_line), default=None)
        assert until is None or until > self.now

    @rule(values=changes(AdmissionQueue))
    def parameters_change(self, values):
        before = self.in_line
        change(self.gate, values)
        self.look(before)

    @invariant()
    def every_place_is_held_by_somebody(self):
        state = self.gate.state(self.now)
        assert state["in_flight"] == self.in_flight
        assert state["queued"] == len(self.in_line)
        assert state["limit"] == self.limit
        assert (state["acquired"], state["refused"]) == (self.acquired, self.refused)

    @invariant()
    def nobody_waits_while_there_is_room(self):
        assert not self.in_line or self.in_flight >= self.limit

    def teardown(self):
        if not hasattr(self, "gate"):
            return
        end_all(self)
        lines = self.gate._law.lines
        assert lines.size == 0
        assert list(lines) == []
        assert lines.next_until() is None


TestAdmissionQueue = AdmissionMachine.TestCase
TestAdmissionQueue.settings = settings(max_examples=120, stateful_step_count=50)
