"""One call on its way: every permit is settled once, whatever happens to the call."""

import pytest

from ninelives_grpc import Bulkhead, Method, RateLimit, Respond, Retry, Stack, Timeout
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import Code, failed, succeeded
from ninelives_grpc.parameters import policy
from ninelives_grpc.policies.gate import PERMIT, Gate
from ninelives_grpc.policies.policy import Policy
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.step import Step
from tests.unit.backend import StatusError


@policy
class Ledger(Policy):
    """Counts what it is asked."""

    def live(self, address):
        return LedgerGate(self, address)


class LedgerGate(Gate[Ledger]):
    def __init__(self, policy, address):
        super().__init__(policy, address)
        self.log = []

    def admit(self, call, now, deadline):
        self.log.append("admit")
        return PERMIT

    def settle(self, permit, outcome, now):
        self.log.append(outcome.code.name)


@pytest.fixture
def begin(registry, clock):
    def build(expression):
        stack = Stack("s", expression, registry=registry, clock=clock)
        execution = Execution(stack.plan, Call(Method("m"), 0.0), None)
        return stack, execution, execution.start(0.0)

    return build


def log(stack, name="ledger"):
    return stack.policy(name).log


def test_gates_are_asked_from_the_outside_in_and_settled_from_the_inside_out(begin):
    order = []

    class Recording(LedgerGate):
        def admit(self, call, now, deadline):
            order.append(f"admit {self.name}")
            return PERMIT

        def settle(self, permit, outcome, now):
            order.append(f"settle {self.name}")

    @policy
    class Recorded(Policy):
        def live(self, address):
            return Recording(self, address)

    _, execution, step = begin(Recorded(name="a") + Recorded(name="b"))
    last = execution.settle(succeeded(0.0), 1.0)

    assert (step, last) == (Step.ATTEMPT, Step.FINISH)
    assert order == ["admit a", "admit b", "settle b", "settle a"]


def test_a_gate_is_settled_once_for_each_attempt(begin):
    retry = Retry(3, initial_backoff=1.0, jitter="none")
    stack, execution, _ = begin(Ledger(name="outside") + retry + Ledger())

    paused = execution.settle(failed(StatusError(), 0.0), 0.0)
    too_early = execution.resume(0.5)
    again = execution.resume(1.0)
    execution.settle(succeeded(0.0), 1.0)

    assert (paused, too_early, again) == (Step.PAUSE, Step.PAUSE, Step.ATTEMPT)
    assert log(stack) == ["admit", "UNAVAILABLE", "admit", "OK"]
    assert log(stack, "outside") == ["admit", "OK"]
    assert execution.call.attempts == 2


def test_what_is_outside_of_a_refusal_is_settled_with_it(begin):
    stack, execution, step = begin(Ledger() + RateLimit(0.001) + RateLimit(0.001, name="inner"))
    execution.settle(succeeded(0.0), 0.0)
    again = Execution(stack.plan, Call(Method("m"), 0.0), None)

    refused = again.start(0.0)

    assert (step, refused) == (Step.ATTEMPT, Step.FINISH)
    assert again.outcome.refusal.policy == "rate_limit"
    assert log(stack) == ["admit", "OK", "admit", "RESOURCE_EXHAUSTED"]


@pytest.mark.parametrize(
    "expression",
    [
        Ledger(),
        Ledger() + Retry(),
        Ledger() + (Timeout(1.0) | Timeout(2.0)),
        Ledger() + (Timeout(1.0) & Timeout(2.0)),
        (Timeout(1.0) | Timeout(2.0)) + Ledger(),
    ],
    ids=repr,
)
def test_a_cancelled_call_gives_every_permit_back_once(begin, expression):
    stack, execution, _ = begin(expression)

    execution.cancel(1.0)
    execution.cancel(2.0)

    settled = [entry for entry in log(stack) if entry != "admit"]
    assert settled == ["CANCELLED"] * log(stack).count("admit")
    assert execution.finished
    assert execution.outcome.code is Code.CANCELLED
    assert execution.child is None


def test_a_call_cancelled_between_two_attempts_is_settled_once_more_outside(begin):
    retry = Retry(3, initial_backoff=1.0, jitter="none")
    stack, execution, _ = begin(Ledger(name="outside") + retry + Ledger())
    execution.settle(failed(StatusError(), 0.0), 0.0)

    execution.cancel(0.5)

    assert log(stack) == ["admit", "UNAVAILABLE"]
    assert log(stack, "outside") == ["admit", "CANCELLED"]


def test_a_call_cancelled_while_it_waits_is_not_resumed(begin):
    stack, execution, step = begin(Retry(initial_backoff=1.0, jitter="none") + Bulkhead(1))
    assert step is Step.ATTEMPT
    assert execution.settle(failed(StatusError(Code.UNAVAILABLE), 0.0), 0.0) is Step.PAUSE

    execution.cancel(0.5)

    # Whoever waited for it may wake up before it hears of the end.
    assert execution.resume(2.0) is Step.FINISH
    assert stack.policy("bulkhead").state(2.0)["in_flight"] == 0


@pytest.mark.parametrize("granted", [False, True])
def test_a_call_cancelled_in_a_queue_leaves_no_trace(begin, granted):
    stack, first, _ = begin(Ledger() + Bulkhead(1, max_queue=1, max_wait=9.0))
    second = Execution(stack.plan, Call(Method("m"), 0.0), None)
    step = second.start(0.0)
    if granted:
        first.settle(succeeded(0.0), 0.5)

    second.cancel(1.0)
    if not granted:
        first.settle(succeeded(0.0), 2.0)

    assert step is Step.PAUSE
    assert stack.policy("bulkhead").state(0.0)["queued"] == 0
    assert stack.policy("bulkhead").in_flight == 0
    assert second.outcome.code is Code.CANCELLED


def test_a_call_cancelled_in_the_queue_of_a_second_side_leaves_it(begin):
    stack, first, _ = begin(Timeout(5.0, name="one") | Bulkhead(1, max_queue=1, max_wait=9.0))
    first.settle(failed(StatusError(), 0.0), 0.0)
    second = Execution(stack.plan, Call(Method("m"), 0.0), None)
    second.start(0.0)
    step = second.settle(failed(StatusError(), 0.0), 0.0)

    second.cancel(1.0)

    assert step is Step.PAUSE
    assert stack.policy("bulkhead").state(0.0)["queued"] == 0


def test_who_waits_in_a_queue_is_let_in_or_refused(begin):
    stack, first, _ = begin(Bulkhead(1, max_queue=2, max_wait=9.0))
    lucky, unlucky = (Execution(stack.plan, Call(Method("m"), 0.0), None) for _ in range(2))
    lucky.start(0.0)
    unlucky.start(0.0)

    first.settle(succeeded(0.0), 3.0)
    let_in = lucky.resume(3.0)
    still_waiting = unlucky.resume(3.0)
    refused = unlucky.resume(9.0)

    assert (let_in, still_waiting, refused) == (Step.ATTEMPT, Step.PAUSE, Step.FINISH)
    assert unlucky.outcome.refusal.policy == "bulkhead"


def test_the_deadline_of_an_attempt_is_that_of_all_layers_around_it(begin):
    _, execution, _ = begin(Timeout(5.0) + Retry(3, initial_backoff=0.0) + Timeout(2.0))
    first = execution.deadline

    execution.settle(failed(StatusError(), 0.0), 1.0)
    second = execution.deadline
    execution.settle(failed(StatusError(), 0.0), 4.0)
    third = execution.deadline
    execution.settle(succeeded(0.0), 4.5)

    assert (first, second, third) == (2.0, 3.0, 5.0)
    assert execution.deadline is None


def test_a_shorter_deadline_of_the_call_holds(registry, clock):
    stack = Stack("s", Timeout(5.0), registry=registry, clock=clock)
    execution = Execution(stack.plan, Call(Method("m"), 0.0, 2.0), 2.0)

    execution.start(0.0)

    assert execution.deadline == 2.0


def test_a_local_answer_finishes_at_once_and_is_marked_as_such(begin):
    _, execution, step = begin(Ledger() + Respond("local"))

    assert step is Step.FINISH
    assert (execution.outcome.value, execution.outcome.local) == ("local", True)
    assert execution.call.attempts == 0


def test_an_application_function_that_raises_in_a_gate_loses_no_permit(registry):
    def broken(_):
        raise ZeroDivisionError

    stack = Stack(
        "t", Ledger() + Retry() + Bulkhead(1) + RateLimit(1.0, scope=broken), registry=registry
    )

    with pytest.raises(ZeroDivisionError):
        stack.call(lambda: None)

    assert log(stack) == ["admit", "CANCELLED"]
    assert stack.policy("bulkhead").in_flight == 0
