import asyncio
import threading
from queue import SimpleQueue

import grpc
import pytest

from ninelives_grpc import (
    Bulkhead,
    CircuitBreaker,
    ConcurrencyBudget,
    ConfigError,
    Hedge,
    Method,
    Refused,
    Respond,
    Retry,
    RetryBudget,
    Routes,
    Stack,
    ThrottleBudget,
    Timeout,
    config,
    server_interceptor,
)
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import Code, failed, refused, succeeded
from ninelives_grpc.policies.gate import Refusal
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.step import Step
from ninelives_grpc.testing import MemorySink, VirtualClock
from ninelives_grpc.windows.recent import RecentSamples
from tests.unit.alone import names
from tests.unit.backend import StatusError

FREE = {"idempotent": True}


@pytest.fixture
def sink():
    return MemorySink()


@pytest.fixture
def stack(registry, clock, sink):
    def build(expression):
        return Stack("s", expression, registry=registry, clock=clock, sink=sink)

    return build


class Race:
    """One call of a stack, driven by hand: every attempt is a branch that ends when told to."""

    def __init__(self, stack, *, timeout=None, inherited=None, idempotent=False):
        self.stack = stack
        now = stack.clock.now()
        self.call = Call(
            Method("shop.Shop/Price", idempotent=idempotent),
            now,
            None if timeout is None else now + timeout,
            inherited=None if inherited is None else now + inherited,
        )
        self.execution = Execution(stack.plan, self.call, self.call.deadline)
        self.started = 0
        self.step = self.execution.start(now)
        self.row = self.execution.current()
        self.raced = self.step is Step.RACE
        self.steps = {}
        self._start()

    @property
    def branches(self):
        return self.row.branches

    @property
    def due(self):
        """Seconds until the next attempt is due, or None."""
        at = self.row.next_branch
        return None if at is None else round(at - self.stack.clock.now(), 9)

    def wait(self, seconds):
        self.stack.clock.advance(seconds)
        self.step = self.execution.branch_due(self.stack.clock.now())
        self._start()

    def end(self, number, outcome):
        branch = self.branches[number]
        assert branch.settle(outcome, self.stack.clock.now()) is Step.FINISH
        self._tell(branch)

    def answer(self, number):
        self.end(number, succeeded(0.0, f"answer {number}"))

    def fail(self, number, code=Code.UNAVAILABLE, **rest):
        self.end(number, failed(StatusError(code, details=f"error {number}", **rest), 0.0))

    def cancel(self):
        for branch in self.branches:
            branch.cancel(self.stack.clock.now())
        self.execution.cancel(self.stack.clock.now())

    def finish(self):
        """Do what a driver does when a race is decided, and what follows the call."""
        now = self.stack.clock.now()
        for branch in self.branches:
            branch.cancel(now)
        self.stack.recorder.ended(self.call, self.execution.outcome, now)

    @property
    def outcome(self):
        assert self.step is Step.FINISH
        return self.execution.outcome

    def _tell(self, branch):
        self.step = self.execution.branch_finished(branch, self.stack.clock.now())
        self._start()

    def _start(self):
        while self.raced and self.step is not Step.FINISH and self.started < len(self.branches):
            branch = self.branches[self.started]
            self.started += 1
            if branch.start(self.stack.clock.now()) is Step.FINISH:
                self._tell(branch)


def reasons(sink):
    return [event.reason for event in sink.events if event.name == "HedgeRefused"]


def learn(stack, seconds, count=20):
    """Have a stack see so many calls that take so long."""
    for _ in range(count):
        race = Race(stack)
        stack.clock.advance(seconds)
        if race.raced:
            race.answer(0)
            race.finish()
        else:
            race.execution.settle(succeeded(seconds), stack.clock.now())


def test_a_hedge_starts_after_the_delay_and_the_first_success_wins(stack, sink):
    race = Race(stack(Hedge(0.5, **FREE)))

    race.wait(0.25)
    before = len(race.branches)
    race.wait(0.25)
    race.answer(1)

    assert (before, len(race.branches)) == (1, 2)
    assert race.outcome.value == "answer 1"
    assert names(sink) == ["HedgeStarted", "HedgeWon"]
    started, won = sink.events
    assert (started.hedge, round(started.after, 9), started.code, won.hedge) == (1, 0.5, "", 1)


def test_the_first_attempt_may_still_win(stack, sink):
    race = Race(stack(Hedge(0.1, **FREE)))

    race.wait(0.1)
    race.answer(0)

    assert race.outcome.value == "answer 0"
    assert names(sink) == ["HedgeStarted"]


def test_an_answer_in_time_is_not_hedged(stack, sink):
    race = Race(stack(Hedge(0.1, **FREE)))

    race.answer(0)

    assert race.outcome.value == "answer 0"
    assert names(sink) == []


def test_a_failure_that_may_pass_is_hedged_at_once(stack, sink):
    race = Race(stack(Hedge(10.0, **FREE)))

    race.fail(0)
    race.answer(1)

    assert race.outcome.value == "answer 1"
    assert sink.events[0].code == "UNAVAILABLE"


@pytest.mark.parametrize("code", [Code.INTERNAL, Code.UNKNOWN])
def test_codes_that_are_retried_on_idempotent_methods_are_hedged_too(stack, code):
    race = Race(stack(Hedge(10.0, **FREE)))

    race.fail(0, code)

    assert len(race.branches) == 2


@pytest.mark.parametrize(
    "code", [Code.NOT_FOUND, Code.CANCELLED, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED]
)
def test_a_fatal_error_ends_all(stack, code):
    race = Race(stack(Hedge(0.1, **FREE)))
    race.wait(0.1)

    race.fail(1, code)

    assert (race.outcome.code, race.outcome.error.details()) == (code, "error 1")


def test_more_codes_may_be_told_to_be_no_reason_to_end(stack):
    race = Race(stack(Hedge(10.0, codes={Code.ABORTED}, **FREE)))

    race.fail(0, Code.ABORTED)

    assert len(race.branches) == 2


def test_the_time_limit_of_an_attempt_is_no_reason_to_end(stack):
    race = Race(stack(Hedge(10.0, **FREE) + Timeout(1.0)))
    race.stack.clock.advance(1.0)

    race.fail(0, Code.DEADLINE_EXCEEDED)

    assert len(race.branches) == 2


def test_if_all_fail_the_first_error_is_raised_with_the_others_as_notes(stack):
    race = Race(stack(Hedge(0.1, **FREE)))
    race.wait(0.1)

    race.fail(1)
    between = race.step
    race.fail(0)

    assert between is Step.PENDING
    assert race.outcome.error.details() == "error 0"
    assert race.outcome.notes == ("the hedge failed too: UNAVAILABLE: error 1",)


def test_one_hedge_by_default_and_as_many_as_allowed(stack):
    one, three = Race(stack(Hedge(0.1, **FREE))), Race(stack(Hedge(0.1, max_hedges=3, **FREE)))

    for race in (one, three):
        for _ in range(5):
            race.wait(0.1)

    assert (len(one.branches), len(three.branches)) == (2, 4)
    assert (one.due, three.due) == (None, None)


def test_the_next_hedge_comes_a_delay_after_the_last_one(stack):
    race = Race(stack(Hedge(1.0, max_hedges=2, **FREE)))

    race.stack.clock.advance(0.4)
    race.fail(0)

    assert (len(race.branches), race.due) == (2, 1.0)


def test_no_hedges_can_be_set_while_calls_are_in_flight(stack):
    built = stack(Hedge(0.1, **FREE))
    before = Race(built)

    built.parameters["hedge/max_hedges"].set(0)
    before.wait(0.1)

    assert len(before.branches) == 2
    assert not Race(built).raced


@pytest.mark.parametrize(
    ("told", "marked", "hedged"),
    [
        (False, False, False),
        (True, False, True),
        (False, True, True),
        (["shop.Shop/Price"], False, True),
        (["shop.Shop/Buy"], False, False),
    ],
)
def test_only_methods_known_to_be_idempotent_are_hedged(stack, told, marked, hedged):
    built = stack(Hedge(0.1, idempotent=told))

    assert Race(built, idempotent=marked).raced is hedged


def test_pushback_is_obeyed_to_the_millisecond(stack):
    race = Race(stack(Hedge(10.0, **FREE)))

    race.fail(0, pushback=250)
    scheduled = race.due
    race.wait(0.2)
    early = len(race.branches)
    race.wait(0.05)
    race.answer(1)

    assert (scheduled, early, race.outcome.value) == (0.25, 1, "answer 1")


def test_overload_with_pushback_is_hedged_later(stack):
    race = Race(stack(Hedge(10.0, **FREE)))

    race.fail(0, Code.RESOURCE_EXHAUSTED, pushback=250)

    assert (race.step, race.due) == (Step.PENDING, 0.25)


@pytest.mark.parametrize("pushback", [-1, 60_001])
def test_a_server_that_wants_to_be_left_alone_is(stack, sink, pushback):
    race = Race(stack(Hedge(0.1, max_hedges=2, **FREE)))
    race.wait(0.1)

    race.fail(0, pushback=pushback)

    assert (race.step, race.due, len(race.branches)) == (Step.PENDING, None, 2)
    assert reasons(sink) == ["pushback"]


@pytest.mark.parametrize("pushbacks", [(100, 300), (300, 100)])
def test_two_pushbacks_wait_for_the_later_one_and_are_paid_once(stack, pushbacks):
    race = Race(stack(Hedge(0.1, max_hedges=2, **FREE)))
    race.wait(0.1)

    for number, pushback in enumerate(pushbacks):
        race.fail(number, pushback=pushback)

    assert (race.step, race.due) == (Step.PENDING, 0.3)
    assert race.stack.policy("retry_budget").withdrawn == 2


def test_a_hedge_that_waits_for_the_server_is_given_up_when_it_says_never(stack):
    race = Race(stack(Hedge(0.1, max_hedges=2, **FREE)))
    race.wait(0.1)

    race.fail(0, pushback=100)
    race.fail(1, pushback=-1)

    assert race.outcome.error.details() == "error 0"


@pytest.mark.parametrize("limit", ["timeout", "inherited"])
def test_there_is_no_hedge_when_less_than_the_delay_is_left(stack, sink, limit):
    race = Race(stack(Hedge(1.0, **FREE)), **{limit: 1.9})

    race.wait(1.0)

    assert (len(race.branches), race.due) == (1, None)
    assert reasons(sink) == ["deadline"]


def test_each_hedge_is_paid_from_the_budget_when_it_starts(stack):
    race = Race(stack(Hedge(0.1, max_hedges=2, **FREE)))
    budget = race.stack.policy("retry_budget")
    paid = []

    for _ in range(3):
        paid.append(budget.withdrawn)
        race.wait(0.1)

    assert paid == [0, 1, 2]
    assert budget.withdrawn == 2


def test_without_budget_there_is_no_hedge_and_the_first_attempt_goes_on(stack, sink):
    race = Race(stack(Hedge(0.1, budget=RetryBudget(capacity=0), **FREE)))

    race.wait(0.1)
    race.answer(0)

    assert race.outcome.value == "answer 0"
    assert reasons(sink) == ["budget"]


def test_without_budget_a_failure_is_the_end(stack):
    race = Race(stack(Hedge(0.1, budget=RetryBudget(capacity=0), **FREE)))

    race.fail(0)

    assert race.outcome.error.details() == "error 0"


def test_successes_pay_for_hedges(stack):
    built = stack(Hedge(0.1, **FREE))
    for _ in range(10):
        race = Race(built)
        race.wait(0.1)
        race.fail(len(race.branches) - 1, Code.INVALID_ARGUMENT)
    broke = built.policy("retry_budget").left(0.0)

    learn(built, 0.01, 20)

    assert broke < 1
    assert built.policy("retry_budget").left(0.0) >= 1


def test_failures_are_told_to_a_budget_that_counts_them(stack, clock):
    built = stack(Hedge(0.1, budget=ThrottleBudget(capacity=4.0), **FREE))
    race = Race(built)
    race.wait(0.1)

    race.fail(0)
    race.fail(1)

    # Three tokens are left, of which one is more than half.
    assert built.policy("retry_budget").left(clock.now()) == 1


def test_of_two_hedges_with_one_budget_one_tells_it_of_successes(stack):
    built = stack(Hedge(0.1, **FREE) + Hedge(0.1, **FREE))

    assert [built.policy(name).feeds for name in ("hedge", "hedge_2")] == [True, False]


def test_a_retry_with_the_same_budget_pays_in_alone(stack, clock):
    budget = RetryBudget(ratio=1.0, capacity=10.0, threshold=0.0)
    built = stack(Retry(1, budget=budget) + Hedge(0.1, **FREE))
    for _ in range(2):
        race = Race(built)
        race.wait(0.1)
        race.fail(1, Code.NOT_FOUND)
    race = Race(built)
    race.wait(0.1)
    race.answer(0)

    assert not built.policy("hedge").feeds
    # Three hedges took three, and each of three answers brought one.
    assert built.policy("retry_budget").left(clock.now()) == 10


def test_a_budget_of_running_calls_gets_everything_back(stack, clock):
    budget = ConcurrencyBudget(ratio=0.0, minimum=1)
    built = stack(Hedge(0.1, budget=budget, **FREE))
    first, second = Race(built), Race(built)

    first.wait(0.1)
    second.wait(0.1)
    hedged = (len(first.branches), len(second.branches))
    first.answer(0)
    first.finish()
    second.cancel()
    second.finish()

    assert hedged == (2, 1)
    live = built.policy("retry_budget")
    assert (live.left(clock.now()), live._running) == (1, 0)


def test_a_hedge_never_waits_in_a_queue(stack, sink):
    built = stack(Hedge(0.1, **FREE) + Bulkhead(1, max_queue=5, max_wait=60.0))
    race = Race(built)

    race.wait(0.1)

    assert built.policy("bulkhead").state(0.0)["queued"] == 0
    assert reasons(sink) == ["refused"]
    assert race.step is Step.PENDING
    race.answer(0)
    assert race.outcome.value == "answer 0"


def test_a_refusal_of_the_first_attempt_is_not_asked_again(stack):
    built = stack(Hedge(0.1, **FREE) + Bulkhead(1))
    Race(built)

    second = Race(built)

    assert second.outcome.refusal.policy == "bulkhead"


def test_what_the_backend_said_comes_before_a_refusal_of_ours(stack):
    built = stack(Hedge(0.1, **FREE) + Bulkhead(1))
    race = Race(built)
    race.wait(0.1)

    race.fail(0)

    assert race.outcome.error.details() == "error 0"
    assert len(race.outcome.notes) == 1


def test_a_refusal_of_the_first_attempt_comes_after_the_error_of_the_hedge(stack):
    race = Race(stack(Hedge(0.1, **FREE)))
    race.wait(0.1)

    race.end(0, refused(Refusal("limit", "too many")))
    race.fail(1)

    assert race.outcome.error.details() == "error 1"
    assert race.outcome.notes == ("the hedge failed too: RESOURCE_EXHAUSTED: too many",)


def test_losers_teach_nothing_and_give_their_permits_back(stack):
    built = stack(Hedge(0.1, **FREE) + CircuitBreaker() + Bulkhead(2))
    race = Race(built)
    race.wait(0.1)

    race.answer(1)
    race.finish()

    assert built.policy("bulkhead").in_flight == 0
    assert built.policy("circuit_breaker").state(1000.0)["calls"] == 1


def test_a_retry_outside_begins_again_with_a_hedge_of_its_own(stack):
    race = Race(stack(Retry(2, initial_backoff=0.0, jitter="none") + Hedge(0.1, **FREE)))
    race.wait(0.1)

    race.fail(0)
    race.fail(1)

    assert race.step is Step.RACE
    assert len(race.execution.current().branches) == 1


def test_the_delay_is_the_quantile_of_recent_calls_once_there_are_enough(stack, clock):
    built = stack(Hedge(**FREE))

    learn(built, 0.01, 19)
    unknown = Race(built).raced
    learn(built, 0.2, 1)
    race = Race(built)

    assert not unknown
    assert race.due == 0.01
    assert built.policy("hedge").state(clock.now())["delay"] == pytest.approx(0.01)


def test_a_hedged_call_counts_from_its_first_attempt(stack):
    built = stack(Hedge(quantile=1.0, **FREE))
    learn(built, 0.1)

    race = Race(built)
    race.wait(0.1)
    race.stack.clock.advance(0.02)
    race.answer(1)

    assert Race(built).due == 0.12


def test_each_method_has_a_delay_of_its_own(stack):
    built = stack(Hedge(**FREE))
    learn(built, 0.1)

    other = Execution(built.plan, Call(Method("shop.Shop/Buy"), 0.0), None)

    assert other.start(0.0) is Step.ATTEMPT
    assert Race(built).raced


def test_local_answers_and_failures_say_nothing_of_the_delay(stack):
    built = stack(Hedge(minimum_samples=1, **FREE) + Respond("local"))
    down = stack(Hedge(minimum_samples=1, **FREE))

    for _ in range(3):
        Race(built)
    race = Race(down)
    race.execution.settle(failed(StatusError(), 0.1), 0.0)

    assert not Race(built).raced
    assert not Race(down).raced


def test_old_samples_are_forgotten():
    recent = RecentSamples()
    for sample in (5.0, 1.0, 3.0, 2.0):
        recent.add(sample, 3)

    assert len(recent) == 3
    assert (recent.quantile(0.0), recent.quantile(0.5), recent.quantile(1.0)) == (1.0, 2.0, 3.0)


def test_a_stack_tells_what_came_of_its_hedges(stack):
    built = stack(Hedge(0.1, **FREE) + Bulkhead(2))
    won, refused = Race(built), None
    won.wait(0.1)
    refused = Race(built)
    won.answer(1)
    won.finish()

    assert refused.outcome.refusal is not None
    assert built.policy("hedge").state(0.0) == {
        "delay": 0.1,
        "started": 1,
        "won": 1,
        "refused": 0,
    }


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"delay": -1}, "Hedge.delay"),
        ({"max_hedges": 11}, "Hedge.max_hedges"),
        ({"quantile": 2}, "Hedge.quantile"),
        ({"minimum_samples": 500}, "must not exceed"),
        ({"idempotent": "shop.Shop/Price"}, "list of methods"),
        ({"codes": ["UNAVAILABLE"]}, "status codes"),
        ({"budget": 5}, "must be a budget"),
    ],
)
def test_what_is_wrong_with_a_hedge_is_said(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        Hedge(**settings)


def test_a_server_has_nothing_to_hedge(stack):
    with pytest.raises(ConfigError, match="Hedge makes no sense on a server"):
        server_interceptor(stack(Timeout(1.0) + Hedge(**FREE)))


def test_a_file_can_ask_for_hedges(registry):
    table = {"delay": 0.1, "idempotent": ["shop.Shop/Price"], "codes": ["ABORTED"]}
    routes = config.parse(
        {"stacks": {"prices": {"expression": "timeout + hedge", "timeout": {"seconds": 1.0},
                               "hedge": table}}},
        registry=registry,
    )  # fmt: skip

    hedge = registry.stack("prices").policy("hedge").policy

    assert isinstance(routes, Routes)
    assert (hedge.delay, list(hedge.idempotent), set(hedge.codes)) == (
        0.1,
        ["shop.Shop/Price"],
        {grpc.StatusCode.ABORTED},
    )


def test_the_plan_of_a_method_that_is_never_hedged_has_no_hedge_in_it(stack):
    plan = stack(Timeout(1.0) + (Hedge(idempotent=["a/b"]) + Retry() | Respond("x"))).plan

    assert (plan.races, plan.unhedged.races, plan.unhedged.hedges) == (True, False, ())
    assert plan.of_method(Method("a/b"), streams=False) is plan
    assert plan.of_method(Method("a/b"), streams=True) is plan.unhedged
    assert plan.of_method(Method("a/c"), streams=False) is plan.unhedged


class Turns(VirtualClock):
    """Time for the next hedge comes when every attempt so far has stalled; not before."""

    def __init__(self):
        super().__init__()
        self.turns = SimpleQueue()

    def wait(self, woken, until):
        if self.turns.get(timeout=10):
            super().wait(woken, until)
        else:
            woken.wait(10)

    def stalls(self):
        self.turns.put(True)  # noqa: FBT003

    def ends(self):
        self.turns.put(False)  # noqa: FBT003


@pytest.fixture
def release():
    """Lets go of a loser; no thread outlives the test."""
    event = threading.Event()
    yield event
    event.set()
    for thread in threading.enumerate():
        if thread.name == "ninelives-race":
            thread.join(10)


def test_around_a_sync_function_the_answer_comes_from_the_hedge(registry, sink, release):
    clock = Turns()
    built = Stack("s", Hedge(0.1, **FREE) + Bulkhead(2), registry=registry, clock=clock, sink=sink)
    calls = []

    def function():
        calls.append(clock.now())
        if len(calls) == 1:
            clock.stalls()
            release.wait(10)
            return "first"
        return "hedge"

    assert built.call(function) == "hedge"
    assert calls == [1000.0, 1000.1]
    assert names(sink) == ["HedgeStarted", "HedgeWon"]


def test_around_a_sync_function_a_failure_is_hedged_at_once(registry):
    clock = Turns()
    built = Stack("s", Hedge(60.0, max_hedges=1, **FREE), registry=registry, clock=clock)
    calls = []

    def function():
        calls.append(clock.now())
        clock.ends()
        if len(calls) == 1:
            raise StatusError
        return "hedge"

    assert built.call(function) == "hedge"
    assert calls == [1000.0, 1000.0]


def test_around_a_sync_function_pushback_is_waited_for_with_nothing_running(registry):
    clock = Turns()
    built = Stack("s", Hedge(60.0, **FREE), registry=registry, clock=clock)
    calls = []

    def function():
        calls.append(clock.now())
        if len(calls) == 1:
            clock.ends()
            clock.stalls()
            raise StatusError(pushback=500)
        return "hedge"

    assert built.call(function) == "hedge"
    assert calls == [1000.0, 1000.5]


def test_a_hedge_that_does_not_apply_leaves_the_function_in_its_thread(stack):
    threads = []

    stack(Hedge(0.1)).call(lambda: threads.append(threading.current_thread()))

    assert threads == [threading.current_thread()]


def after(clock, *seconds):
    """Make a coroutine function that takes the next so many seconds, call after call."""
    takes = iter(seconds)
    cancelled = []

    async def function():
        number = len(function.calls)
        function.calls.append(clock.now())
        try:
            await clock.wait_async(asyncio.Event(), clock.now() + next(takes))
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    function.calls = []
    function.cancelled = cancelled
    return function


def test_under_asyncio_the_loser_is_cancelled_and_not_waited_for(stack, clock):
    built = stack(Hedge(0.1, **FREE) + Bulkhead(2))
    function = after(clock, 60.0, 0.05)

    async def main():
        answer = await built.acall(function)
        for _ in range(5):
            await asyncio.sleep(0)
        return answer, clock.now(), built.policy("bulkhead").in_flight, asyncio.all_tasks()

    answer, at, in_flight, tasks = asyncio.run(main())

    assert (answer, round(at, 9), in_flight, len(tasks)) == (1, 1000.15, 0, 1)
    assert function.cancelled == [0]


def test_under_asyncio_a_call_that_is_answered_in_time_is_made_once(stack, clock):
    function = after(clock, 0.05)

    assert asyncio.run(stack(Hedge(0.1, **FREE)).acall(function)) == 0
    assert function.calls == [1000.0]


def test_under_asyncio_cancelling_the_call_cancels_every_attempt(stack, clock):
    built = stack(Bulkhead(1, name="whole") + Hedge(0.1, **FREE) + Bulkhead(2))
    cancelled, started = [], []

    async def function():
        started.append(clock.now())
        if len(started) == 2:
            both.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(clock.now())

    both = asyncio.Event()

    async def main():
        task = asyncio.ensure_future(built.acall(function))
        await both.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(5):
            await asyncio.sleep(0)
        return built.policy("whole").in_flight, built.policy("bulkhead").in_flight

    assert asyncio.run(main()) == (0, 0)
    assert (started, len(cancelled)) == ([1000.0, 1000.1], 2)


def test_what_an_application_function_raises_in_a_hedge_only_loses(stack, clock):
    calls = []

    def broken(_):
        calls.append(None)
        if len(calls) > 1:
            raise ZeroDivisionError
        return ""

    built = stack(Hedge(0.1, **FREE) + CircuitBreaker(scope=broken))
    function = after(clock, 0.3)

    assert asyncio.run(built.acall(function)) == 0
    assert len(calls) == 2


def test_a_refusal_reaches_the_caller_as_itself(stack, call):
    built = stack(Hedge(0.1, **FREE) + Bulkhead(1))
    built.policy("bulkhead").admit(Call(Method("m"), 1000.0), 1000.0, None)

    with pytest.raises(Refused) as caught:
        call(built, lambda: None)

    assert caught.value.policy == "bulkhead"
