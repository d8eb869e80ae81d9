"""A loop reads a stack, asks a law, and sets a parameter; on a clock of its own."""

import contextlib
import logging
import threading

import pytest

from ninelives_grpc import (
    AdmissionQueue,
    Bulkhead,
    ConcurrencyLimit,
    ConfigError,
    FeedbackLoop,
    RateLimit,
    Refused,
    Retry,
    Stack,
    Timeout,
    UnknownNameError,
    laws,
)
from ninelives_grpc.testing import MemorySink
from tests.unit.steered import Says, Steered


def test_the_value_is_set_to_what_the_law_says_and_all_is_told():
    world = Steered(Says(12.0), name="tuner")
    world.calls(20)

    change = world.tick()

    assert (change.path, change.old, change.new) == ("s/bulkhead/max_concurrent", 10, 12)
    assert world.handle.get() == 12
    changed, adjusted = world.told("ParameterChanged", "LawAdjusted")
    assert changed.by == "law:tuner"
    assert "20 calls in 1 s" in changed.reason
    assert (adjusted.policy, adjusted.old, adjusted.new, adjusted.calls) == ("tuner", 10, 12, 20)
    assert "max_concurrent from 10 to 12" in adjusted.why()
    assert world.state["adjusted"] == 1
    assert world.state["value"] == 12


def test_a_law_is_told_of_the_calls_since_it_was_last_asked():
    law = Says()
    world = Steered(law)
    world.calls(20, takes=0.02, failing=5)
    world.tick()
    world.calls(10, takes=0.04)

    world.tick()

    (first, current), (second, _) = law.asked
    assert current == 10.0
    assert (first.calls, first.success_rate) == (20, 0.75)
    assert first.p50 == pytest.approx(0.02, rel=0.02)
    assert (second.calls, second.success_rate) == (10, 1.0)
    assert second.p99 == pytest.approx(0.04, rel=0.02)
    assert second.mean == pytest.approx(0.04)
    assert second.seconds == pytest.approx(1.0)
    assert second.age == pytest.approx(0.6)
    assert second.concurrency == pytest.approx(0.4)


def test_a_law_is_told_who_refused_how_full_gates_are_and_what_is_left_of_the_budget():
    law = Says()
    world = Steered(law, Retry(max_attempts=2) + RateLimit(1.0, 5.0) + Bulkhead(4))
    for _ in range(12):
        with contextlib.suppress(Refused):
            world.stack.call(world.clock.now)

    world.tick()

    ((metrics, _),) = law.asked
    assert metrics.refused_by["rate_limit"] == 7
    assert metrics.levels["bulkhead"] == laws.Level(in_flight=0, limit=4)
    assert metrics.budget_left == pytest.approx(5.0)
    assert metrics.traffic.refusals == 7


def test_how_much_is_used_follows_from_what_the_parameter_limits():
    for expression, parameter, used in (
        (Bulkhead(10), "bulkhead/max_concurrent", 0.05),
        (AdmissionQueue(width=10), "admission_queue/width", 0.05),
        (RateLimit(100.0, 50.0), "rate_limit/rate", 0.1),
        (Timeout(5.0), "timeout/seconds", None),
    ):
        law = Says()
        world = Steered(law, expression, parameter)
        world.calls(10, takes=0.05)

        world.tick()

        assert law.asked[0][0].used == (used if used is None else pytest.approx(used, rel=0.01))


def test_what_is_refused_or_waits_is_all_in_use():
    law = Says()
    world = Steered(law, RateLimit(1.0, 10.0), "rate_limit/rate")
    for _ in range(20):
        with contextlib.suppress(Refused):
            world.stack.call(world.clock.now)

    world.tick()

    assert law.asked[0][0].used == 1.0


def test_a_law_can_be_told_of_a_longer_window():
    law = Says()
    world = Steered(laws.CustomLaw(law=law, window="minute"))
    world.calls(20)
    world.tick()
    world.calls(20)

    world.tick()

    assert [metrics.calls for metrics, _ in law.asked] == [20, 40]


def test_a_value_stays_within_the_bounds_of_the_loop_and_of_the_parameter():
    world = Steered(Says(1000.0, -5.0), bounds=(4, 20))
    for expected in (20, 4):
        world.calls()

        world.tick()

        assert world.handle.get() == expected
    world = Steered(Says(-5.0))
    world.calls()
    world.tick()
    assert world.handle.get() == 1


def test_bounds_are_parameters_and_hold_from_the_next_look_on():
    world = Steered(Says(30.0, 30.0), name="tuner", bounds=(4, 20))
    world.calls()
    world.tick()
    world.stack.parameters["tuner/high"].set(25.0)
    world.calls()

    world.tick()

    assert world.handle.get() == 25


def test_parts_of_a_whole_number_add_up():
    class Slow:
        def calculate(self, metrics, current):
            return current + 0.3

    world = Steered(Slow())
    for expected in (10, 11, 11):
        world.calls()
        world.tick()
        assert world.handle.get() == expected


def test_a_change_too_small_is_not_made_and_not_forgotten():
    class Slow:
        def calculate(self, metrics, current):
            return current * 1.004

    world = Steered(Slow(), RateLimit(1000.0, 1000.0), "rate_limit/rate")
    for expected in (1000.0, 1000.0, pytest.approx(1012.0, abs=0.1)):
        world.calls()
        world.tick()
        assert world.handle.get() == expected
    assert world.handle.revision == 2


def test_a_small_change_that_is_said_twice_is_made():
    world = Steered(Says(1001.0, 1001.0), RateLimit(1000.0, 1000.0), "rate_limit/rate")
    for expected in (1000.0, 1001.0):
        world.calls()
        world.tick()
        assert world.handle.get() == expected


def test_after_a_change_a_loop_only_looks_until_the_cooldown_is_over():
    law = Says(12.0, 14.0, 16.0)
    world = Steered(law, cooldown=1.5)
    for expected in (12, 12, 16):
        world.calls()
        world.tick()
        assert world.handle.get() == expected
    assert len(law.asked) == 3


def test_what_somebody_else_has_set_stays_for_a_while_and_is_gone_on_from():
    law = Says(12.0, 50.0)
    world = Steered(laws.CustomLaw(law=law, hold=1.5))
    world.calls()
    world.tick()
    world.handle.set(30, by="ann")

    for expected in (30, 30, 50):
        world.calls()
        world.tick()
        assert world.handle.get() == expected
    assert law.asked[-1][1] == 30.0
    paused, resumed = world.told("LoopPaused", "LoopResumed")
    assert (paused.reason, resumed.reason) == ("changed", "changed")
    assert paused.why() == "somebody else has set s/bulkhead/max_concurrent"
    assert "2 s after" in resumed.why()


def test_how_long_a_loop_holds_and_rests_can_be_cut_short():
    world = Steered(laws.CustomLaw(law=Says(12.0, 14.0, 16.0), hold=3600.0), cooldown=3600.0)
    world.calls()
    world.tick()
    world.loop.parameter("cooldown").set(0.0)
    world.calls()
    world.tick()
    rested = world.handle.get()
    world.handle.set(30, by="ann")
    world.calls()
    world.tick()
    held = world.handle.get()

    world.loop.parameter("hold").set(0.0)
    world.calls()
    world.tick()

    assert (rested, held, world.handle.get()) == (14, 30, 16)


def test_who_changes_the_value_while_the_law_thinks_wins():
    class Beaten:
        def calculate(self, metrics, current):
            world.handle.set(30, by="ann")
            return 12.0

    world = Steered(Beaten())
    world.calls()

    assert world.tick() is None
    assert world.handle.get() == 30
    assert world.state["lost"] == 1


def test_a_loop_pauses_without_calls_and_says_so_once():
    law = Says()
    world = Steered(law)
    world.calls()
    world.tick()
    for _ in range(6):
        world.tick()

    assert len(law.asked) == 1
    (paused,) = world.told("LoopPaused")
    assert paused.reason == "no_calls"
    assert paused.why().startswith("the last call ended")
    assert world.state["paused"] == "no_calls"

    world.calls()
    world.tick()

    assert len(law.asked) == 2
    (resumed,) = world.told("LoopResumed")
    assert resumed.reason == "no_calls"
    assert world.state["paused"] == ""


def test_a_reading_goes_on_until_it_holds_enough_calls():
    law = Says()
    world = Steered(law)
    world.calls(6)
    world.tick()
    assert law.asked == []
    world.calls(6)

    world.tick()

    assert [metrics.calls for metrics, _ in law.asked] == [12]
    assert law.asked[0][0].seconds == pytest.approx(2.0)


def test_a_loop_pauses_when_calls_are_too_few_for_too_long():
    law = Says()
    world = Steered(law)
    for _ in range(3):
        world.calls(2)
        world.tick()

    assert law.asked == []
    assert [event.reason for event in world.told("LoopPaused")] == ["few_calls"]


def test_a_loop_that_was_not_asked_for_long_throws_its_reading_away():
    law = Says()
    world = Steered(law)
    world.calls()
    world.tick()
    world.calls()
    world.clock.advance(60.0)
    world.calls()

    world.tick()

    assert len(law.asked) == 1
    assert [event.reason for event in world.told("LoopPaused")] == ["late"]
    world.calls()
    world.tick()
    assert law.asked[-1][0].calls == 20


def test_a_disabled_loop_does_nothing_and_goes_on_from_what_it_finds():
    law = Says(12.0)
    world = Steered(law, name="tuner")
    world.stack.parameters["tuner/enabled"].set(False)
    world.calls()
    world.tick()
    world.handle.set(30)
    world.calls()
    world.tick()
    assert (world.handle.get(), law.asked) == (30, [])
    world.stack.parameters["tuner/enabled"].set(True)
    world.calls(15)

    world.tick()

    assert world.handle.get() == 12
    assert (law.asked[0][0].calls, law.asked[0][1]) == (15, 30.0)


def test_errors_of_a_law_are_logged_once_in_a_row_and_counted_and_end_nothing(caplog):
    world = Steered(Says(ValueError("no"), ValueError("no"), 12.0, float("nan"), 14.0))
    with caplog.at_level(logging.ERROR, "ninelives_grpc"):
        for expected in (10, 10, 12, 12, 14):
            world.calls()
            world.tick()
            assert world.handle.get() == expected

    assert len(caplog.records) == 2
    assert [event.error for event in world.told("LawFailed")] == [
        "ValueError: no",
        "ValueError: the law says nan, which is no value",
    ]
    assert world.state["errors"] == 3
    assert world.state["last_error"].startswith("ValueError: the law says nan")


def test_a_value_that_does_not_go_with_others_is_an_error_of_the_law():
    world = Steered(Says(1.0), ConcurrencyLimit(), "concurrency_limit/max_limit")
    world.calls()

    assert world.tick() is None
    assert world.handle.get() == 1000
    assert "min_limit" in world.state["last_error"]


def test_a_gauge_that_raises_is_an_error_too():
    def gauge():
        raise OSError("gone")

    world = Steered(Says(12.0), gauge=gauge)
    world.calls()
    world.tick()

    assert world.state["last_error"] == "OSError: gone"
    assert world.handle.get() == 10


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -float("inf")])
def test_a_gauge_that_says_nonsense_for_once_is_an_error_and_the_law_never_hears_of_it(nonsense):
    said = iter([3.0, 3.0, nonsense])
    world = Steered(
        laws.PredictionLaw(load="gauge", headroom=10.0, used_from=0.0),
        Bulkhead(30),
        gauge=lambda: next(said, 3.0),
    )
    for _ in range(6):
        world.calls()
        world.tick()

    assert world.state["errors"] == 1
    assert world.state["last_error"] == f"ValueError: the gauge says {nonsense}, which is no value"
    assert world.state["load_forecast"] == pytest.approx(3.0)
    assert world.handle.get() == 30


@pytest.mark.parametrize("silent", [None, OSError("gone")])
def test_a_loop_pauses_when_its_gauge_says_nothing_and_does_not_make_up_for_that_time(silent):
    said = [0.95] * 20 + [silent] * 60 + [0.6] * 3

    def gauge():
        found = said.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    world = Steered(laws.GovernorLaw(100.0), RateLimit(100.0), "rate_limit/rate", gauge=gauge)
    for _ in range(80):
        world.tick()
    cut, paused = world.handle.get(), world.state["paused"]
    rates = [(world.tick(), world.handle.get())[1] for _ in range(3)]

    assert paused == "no_gauge"
    (told,) = world.told("LoopPaused")
    assert told.why() == "what it goes by is not known"
    assert rates == pytest.approx([cut, cut + 5.0, cut + 10.0])


def test_a_loop_that_is_told_to_go_by_a_gauge_and_has_none_says_so():
    world = Steered(laws.PidLaw(0.5))
    world.loop.parameter("measure").set("gauge")
    for _ in range(4):
        world.calls()
        world.tick()

    assert world.state["paused"] == "no_gauge"


def test_a_loop_is_found_among_the_policies_of_its_stack_and_its_law_can_be_tuned():
    world = Steered(laws.AimdLaw(increase=5.0))
    handle = world.stack.parameters["aimd/increase"]
    assert handle.path == "s/aimd/increase"
    assert world.registry.parameter("s/aimd/interval").get() == 1.0
    handle.set(7.0)
    world.handle.set(1)
    world.stack.parameters["aimd/hold"].set(0.0)
    for _ in range(20):
        world.calls(20, takes=0.05)
        if world.tick():
            break

    assert world.handle.get() == 8
    assert world.stack.state().policies[-1].kind == "AimdLaw"


def test_a_shorter_interval_holds_at_once():
    world = Steered(Says(), name="tuner", interval=600.0)
    before = world.loop.due

    world.stack.parameters["tuner/interval"].set(1.0)

    assert world.loop.due == before - 599.0


def test_loops_of_one_law_are_numbered_and_a_name_that_is_taken_is_said():
    world = Steered(laws.AimdLaw())
    queue = FeedbackLoop(laws.AimdLaw(), world.stack.parameters["bulkhead/max_queue"])
    world.registry.add_loop(queue, start=False)
    assert queue.name == "aimd_2"
    taken = FeedbackLoop(
        laws.AimdLaw(), world.stack.parameters["bulkhead/max_wait"], name="bulkhead"
    )

    with pytest.raises(ConfigError, match="two policies are named 'bulkhead'"):
        world.registry.add_loop(taken, start=False)


def test_a_parameter_has_one_loop():
    world = Steered(laws.AimdLaw())

    with pytest.raises(ConfigError, match="a loop moves it already"):
        world.registry.add_loop(FeedbackLoop(laws.AimdLaw(), world.handle), start=False)


def test_a_loop_moves_numbers_only():
    world = Steered(laws.AimdLaw())

    with pytest.raises(ConfigError, match="s/bulkhead/order is a choice"):
        FeedbackLoop(laws.AimdLaw(), world.stack.parameters["bulkhead/order"])


def test_bounds_have_an_order():
    world = Steered(laws.AimdLaw())

    with pytest.raises(ConfigError, match="low 5 must not be greater than high 4"):
        FeedbackLoop(laws.AimdLaw(), world.handle, bounds=(5, 4))


@pytest.mark.parametrize("bounds", [(2e6, None), (None, 0.5)])
def test_bounds_overlap_with_those_of_the_parameter(bounds):
    with pytest.raises(ConfigError, match=r"a whole number from 1 to 1e.06 calls, and the loop"):
        Steered(laws.AimdLaw(), bounds=bounds)


def test_bounds_that_are_moved_out_of_those_of_the_parameter_end_at_them():
    world = Steered(Says(5.0), name="tuner")
    world.stack.parameters["tuner/low"].set(2e6)
    world.calls()

    world.tick()

    assert world.handle.get() == 1_000_000


def test_a_value_that_can_not_be_set_is_logged_once_in_a_row(caplog):
    world = Steered(Says(*[1.0] * 3), ConcurrencyLimit(), "concurrency_limit/max_limit")
    for _ in range(3):
        world.calls()
        world.tick()

    assert len(caplog.records) == 1
    assert world.state["errors"] == 3


def test_nothing_is_set_any_more_once_a_loop_has_been_removed():
    asked, go_on = threading.Event(), threading.Event()

    class Slow:
        def calculate(self, metrics, current):
            asked.set()
            go_on.wait(10)
            return 12.0

    world = Steered(Slow())
    world.calls()
    looking = threading.Thread(target=world.tick)
    looking.start()
    asked.wait(10)
    values = []

    def remove():
        world.registry.remove_loop(world.loop)
        values.append(world.handle.get())

    removing = threading.Thread(target=remove)
    removing.start()
    go_on.set()
    removing.join(10)
    looking.join(10)

    # The look under way has come to its end first.
    assert values == [12]


def test_a_sink_may_remove_the_loop_from_inside_a_look():
    class Removes(MemorySink):
        def take(self, kind, values):
            if kind.__name__ == "LawAdjusted":
                world.registry.remove_loop(world.loop)

    world = Steered(Says(12.0, 14.0))
    world.stack.attach(Removes())
    world.calls()

    world.tick()

    assert world.registry.loops == ()
    assert world.handle.get() == 12


def test_a_law_does_not_stand_in_an_expression(registry):
    with pytest.raises(ConfigError, match="give it to a FeedbackLoop"):
        Stack("s", laws.AimdLaw() + Timeout(1.0), registry=registry)


def test_a_loop_of_a_stack_that_is_elsewhere_is_not_taken_in(registry):
    world = Steered(laws.AimdLaw())

    with pytest.raises(UnknownNameError):
        registry.add_loop(FeedbackLoop(laws.AimdLaw(), world.handle))


def test_a_loop_of_a_stack_whose_name_another_one_has_now_is_not_taken_in(registry):
    first = Stack("s", Bulkhead(10), registry=registry)
    loop = FeedbackLoop(laws.AimdLaw(), first.parameters["bulkhead/max_concurrent"])
    second = Stack("s", Bulkhead(10), registry=registry)

    with pytest.raises(ConfigError, match="another stack"):
        registry.add_loop(loop, start=False)

    assert registry.loops == ()
    assert list(second.policies) == ["bulkhead"]


def test_a_loop_that_is_taken_in_again_does_not_make_up_for_the_time_between():
    law = laws.PidLaw(0.02, measure="mean", proportional=0.0, integral=0.1, used_from=0.0)
    world = Steered(law)
    world.calls()
    world.tick()
    world.registry.remove_loop(world.loop)
    world.clock.advance(3600.0)

    world.registry.add_loop(world.loop, start=False)
    world.calls()
    world.tick()

    assert world.handle.get() == 10


def test_a_removed_loop_is_gone_and_the_value_stays():
    world = Steered(Says(12.0))
    world.calls()
    world.tick()

    world.registry.remove_loop(world.loop)

    assert world.registry.loops == ()
    assert list(world.stack.policies) == ["bulkhead"]
    assert world.loop.tick(world.clock.now() + 5.0) is None
    assert world.handle.get() == 12


def test_a_loop_in_a_nested_stack_goes_by_the_calls_of_the_one_around_it():
    law = Says(12.0)
    world = Steered(Says())
    outer = Stack("outer", world.stack + Timeout(1.0), registry=world.registry, clock=world.clock)
    world.registry.remove_loop(world.loop)
    loop = FeedbackLoop(law, world.handle, source=outer)
    world.registry.add_loop(loop, start=False)
    for _ in range(20):
        outer.call(world.clock.now)
    world.clock.advance(5.0)

    loop.tick(world.clock.now())

    assert world.handle.get() == 12
    assert law.asked[0][0].calls == 20


def test_loops_go_with_their_stack():
    world = Steered(Says())
    other = Stack("other", Bulkhead(3), registry=world.registry)
    kept = FeedbackLoop(Says(), other.parameters["bulkhead/max_concurrent"])
    world.registry.add_loop(kept, start=False)

    world.registry.remove("s")

    assert world.registry.loops == (kept,)
    Stack("other", Bulkhead(3), registry=world.registry)
    assert world.registry.loops == ()
