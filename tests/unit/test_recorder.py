import contextlib
import threading

import pytest

from ninelives_grpc import Fallback, Method, RateLimit, Refused, Retry, Stack, Timeout
from ninelives_grpc.call import Call, Side
from ninelives_grpc.events import Emitter
from ninelives_grpc.observer import recorder as module
from ninelives_grpc.observer.recorder import Ending, Recorder
from ninelives_grpc.outcome import Code, cancelled, failed, refused, succeeded
from ninelives_grpc.policies.gate import Refusal
from ninelives_grpc.testing import MemorySink
from ninelives_grpc.windows.sketch import bucket_of
from tests.unit.backend import Backend, StatusError

GET = "shop.v1.Payments/Get"
REFUSED = refused(Refusal("bulkhead", "full"))


def ended(recorder, outcome, *, method=GET, target="", start=0.0, end=0.5, attempts=1):
    call = Call(Method(method, side=Side.CLIENT, target=target), start)
    call.attempts = 0 if outcome.refusal is not None else attempts
    recorder.ended(call, outcome, end)


@pytest.fixture
def recorder():
    return Recorder(Emitter("s"), 0.0)


def test_calls_are_counted_by_how_they_ended(recorder):
    for outcome in (
        succeeded(0.0),
        succeeded(0.0),
        failed(StatusError(Code.INTERNAL), 0.0),
        failed(StatusError(Code.NOT_FOUND), 0.0),
        failed(StatusError(Code.RESOURCE_EXHAUSTED), 0.0),
        cancelled(),
        REFUSED,
    ):
        ended(recorder, outcome)

    assert recorder.totals().calls == {
        Ending(Side.CLIENT, GET, "OK", "success"): 2,
        Ending(Side.CLIENT, GET, "INTERNAL", "failure"): 1,
        Ending(Side.CLIENT, GET, "NOT_FOUND", "success"): 1,
        Ending(Side.CLIENT, GET, "RESOURCE_EXHAUSTED", "ignored"): 1,
        Ending(Side.CLIENT, GET, "CANCELLED", "ignored"): 1,
        Ending(Side.CLIENT, GET, "RESOURCE_EXHAUSTED", "refused"): 1,
    }


def test_durations_are_those_of_the_whole_call_and_not_of_refusals(recorder):
    ended(recorder, succeeded(99.0), start=1.0, end=1.25)
    ended(recorder, REFUSED)

    assert recorder.totals().durations == {
        (Ending(Side.CLIENT, GET, "OK", "success"), bucket_of(0.25)): 1
    }


def test_traffic_sums_up_a_window(recorder):
    for n in range(100):
        ended(recorder, succeeded(0.0), start=10.0, end=10.0 + (n + 1) / 1000)
    for outcome in (failed(StatusError(), 0.0), REFUSED, cancelled()):
        ended(recorder, outcome, start=10.0, end=10.05)

    traffic = recorder.traffic(60.0, 20.0)

    assert (traffic.calls, traffic.successes, traffic.failures) == (103, 100, 1)
    assert (traffic.refusals, traffic.ignored) == (1, 1)
    assert traffic.seconds == 20.0
    assert traffic.calls_per_second == pytest.approx(103 / 20)
    assert traffic.success_rate == pytest.approx(100 / 103)
    assert traffic.p50 == pytest.approx(0.05, rel=0.03)
    assert traffic.p95 == pytest.approx(0.095, rel=0.03)
    assert traffic.p99 == pytest.approx(0.099, rel=0.03)


def test_a_quiet_stack_is_a_healthy_one(recorder):
    traffic = recorder.traffic(60.0, 0.0)

    assert (traffic.calls, traffic.success_rate, traffic.calls_per_second) == (0, 1.0, 0.0)
    assert (traffic.p50, traffic.p95, traffic.p99) == (None, None, None)


@pytest.mark.parametrize(("now", "seconds"), [(5010.0, 300.0), (5011.0, 301.0), (5024.0, 314.0)])
def test_a_window_is_as_long_as_the_slots_that_are_counted(recorder, now, seconds):
    assert recorder.traffic(300.0, now).seconds == seconds


@pytest.mark.parametrize("horizon", [0.0, 30.0, 61.0])
def test_other_windows_are_not_kept(recorder, horizon):
    with pytest.raises(ValueError, match="is not kept; ask for one of"):
        recorder.traffic(horizon, 0.0)


def test_traffic_is_told_by_method_too(recorder):
    ended(recorder, succeeded(0.0), method="a/A")
    ended(recorder, failed(StatusError(), 0.0), method="b/B")

    methods = recorder.methods(60.0, 1.0)

    assert set(methods) == {"a/A", "b/B"}
    assert (methods["a/A"].successes, methods["b/B"].failures) == (1, 1)


def test_traffic_is_told_by_method_and_target(recorder):
    for target in ("north:1", "south:1", "north:1"):
        ended(recorder, succeeded(0.0), target=target)

    series = recorder.series(60.0, 1.0)

    assert {key: traffic.calls for key, traffic in series.items()} == {
        (GET, "north:1"): 2,
        (GET, "south:1"): 1,
    }
    assert recorder.methods(60.0, 1.0)[GET].calls == 3
    assert recorder.methods(60.0, 1.0)[GET].p50 is not None
    assert {ending.target for ending in recorder.totals().calls} == {"north:1", "south:1"}


def test_beyond_so_many_methods_and_targets_the_rest_is_one(recorder, monkeypatch):
    monkeypatch.setattr(module, "_MAX_SERIES", 2)

    for n in range(5):
        ended(recorder, succeeded(0.0), method=f"s/{n}")
    ended(recorder, succeeded(0.0), method="s/0")
    ended(recorder, succeeded(0.0), method="s/0", target="north:1")

    calls = {
        (ending.method, ending.target): count for ending, count in recorder.totals().calls.items()
    }
    assert calls == {("s/0", ""): 2, ("s/1", ""): 1, ("_OTHER", ""): 3, ("_OTHER", "_OTHER"): 1}
    assert recorder.overflowed == 4
    assert recorder.traffic(60.0, 1.0).calls == 7


def test_what_callers_saw_is_told_apart_from_what_backends_answered(recorder):
    local = succeeded(0.0)
    local.local = True
    ended(recorder, succeeded(0.0))
    ended(recorder, succeeded(0.0), attempts=3)
    ended(recorder, failed(StatusError(Code.NOT_FOUND), 0.0), attempts=2)
    ended(recorder, failed(StatusError(), 0.0), attempts=3)
    ended(recorder, local, attempts=2)
    ended(recorder, local, attempts=0)
    ended(recorder, REFUSED)

    traffic = recorder.traffic(60.0, 1.0)

    assert (traffic.calls, traffic.successes) == (7, 5)
    assert (traffic.attempts, traffic.answered) == (11, 3)
    assert traffic.success_rate == pytest.approx(5 / 7)
    assert traffic.backend_success_rate == pytest.approx(3 / 11)
    assert traffic.error_rate == pytest.approx(2 / 7)


def test_seconds_are_summed_up_exactly(recorder):
    for end in (0.1, 0.2, 0.7):
        ended(recorder, succeeded(0.0), end=end)
    ended(recorder, REFUSED)

    ((_, seconds),) = recorder.totals().seconds.items()
    assert seconds == pytest.approx(1.0)


def test_what_has_gathered_is_counted_up_now_and_then_though_nobody_asks(recorder, monkeypatch):
    monkeypatch.setattr(module, "_FOLD_AT", 10)

    for _ in range(25):
        ended(recorder, succeeded(0.0))

    assert len(recorder._answered) == 5


def test_totals_are_a_copy(recorder):
    ended(recorder, succeeded(0.0))
    first = recorder.totals()

    ended(recorder, succeeded(0.0))

    assert first.calls.total() == 1
    assert recorder.totals().calls.total() == 2


def test_threads_lose_no_call(recorder, monkeypatch):
    monkeypatch.setattr(module, "_FOLD_AT", 7)

    def work():
        for _ in range(500):
            ended(recorder, succeeded(0.0))
            recorder.traffic(60.0, 1.0)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert recorder.totals().calls.total() == 3000
    assert recorder.traffic(60.0, 1.0).calls == 3000


@pytest.mark.parametrize("routine", [True, False])
@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (succeeded(0.0), "RequestSucceeded"),
        (failed(StatusError(Code.NOT_FOUND), 0.0), "RequestSucceeded"),
        (failed(StatusError(Code.INTERNAL), 0.0), "RequestFailed"),
        (failed(StatusError(Code.RESOURCE_EXHAUSTED), 0.0), "RequestFailed"),
        (failed(StatusError(pushback=5), 0.0), "RequestFailed"),
        (REFUSED, "RequestFailed"),
        (cancelled(), None),
    ],
    ids=repr,
)
def test_ends_are_told_of_and_good_ones_only_on_request(routine, outcome, told):
    sink, emitter = MemorySink(routine=routine), Emitter("s")
    emitter.attach(sink)

    ended(Recorder(emitter, 0.0), outcome)

    heard = [event.name for event in sink.events]
    expected = told if routine or told == "RequestFailed" else None
    assert heard == ([] if expected is None else [expected])


def test_a_failure_is_told_with_code_method_and_duration():
    sink, emitter = MemorySink(), Emitter("s")
    emitter.attach(sink)

    ended(Recorder(emitter, 0.0), failed(StatusError(Code.INTERNAL), 0.0), start=1.0, end=1.5)

    (event,) = sink.events
    assert (event.stack, event.method, event.at) == ("s", GET, 1.5)
    assert event.details() == {"duration": 0.5, "code": "INTERNAL"}
    assert event.why() == "INTERNAL after 1 attempt and 0.5 s"


def test_repetitions_and_their_waits_are_counted(registry, clock):
    stack = Stack("s", Retry(3, initial_backoff=1.0, jitter="none"), registry=registry, clock=clock)

    stack.call(Backend(clock, StatusError(), StatusError(), "answer"))
    stack.call(lambda: "answer")

    totals = stack.recorder.totals()
    ((_, repeated),) = totals.retries
    ((_, bucket),) = totals.delays
    assert (repeated, totals.retries.total()) == (2, 1)
    assert (bucket, totals.delays.total()) == (bucket_of(3.0), 1)


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_what_was_paid_for_and_then_refused_is_no_repetition(registry, clock, tries):
    expression = Fallback(RateLimit(0.001, name="a"), Timeout(1.0) + RateLimit(0.001, name="b"))
    stack = Stack("s", expression, registry=registry, clock=clock)

    for _ in range(tries):
        with contextlib.suppress(Refused):
            stack.call(lambda: "answer")

    assert stack.recorder.totals().retries.total() == 0


def test_a_reader_gathers_the_calls_from_one_look_to_the_next(recorder):
    ended(recorder, succeeded(0.0))
    reader = recorder.follow(1.0)
    for duration in (0.1, 0.3):
        ended(recorder, succeeded(0.0), start=1.0, end=1.0 + duration)
    ended(recorder, REFUSED, start=1.0, end=1.0)

    traffic, mean = recorder.read(reader, 3.0)
    again, _ = recorder.read(reader, 5.0)

    assert (traffic.calls, traffic.refusals, traffic.seconds) == (3, 1, 2.0)
    assert mean == pytest.approx(0.2)
    assert (again.calls, again.seconds) == (3, 4.0)
    assert recorder.ended_at == 1.3


def test_a_call_between_a_look_and_the_next_beginning_is_not_left_out(recorder):
    reader = recorder.follow(0.0)
    ended(recorder, succeeded(0.0))
    recorder.read(reader, 1.0)
    ended(recorder, succeeded(0.0))
    recorder.fold()

    recorder.restart(reader, 1.0)

    assert recorder.read(reader, 2.0).traffic.calls == 1


def test_who_leaves_is_told_of_no_more_calls(recorder):
    reader = recorder.follow(0.0)
    recorder.leave(reader)
    ended(recorder, succeeded(0.0))

    assert recorder.read(reader, 1.0).traffic.calls == 0
