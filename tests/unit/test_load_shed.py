"""Load shed serves a share of the calls while sensors say that the process is hard pressed."""

import gc
import math
import random
import threading
import weakref

import pytest

from ninelives_grpc import ConfigError, LoadShed, Method, Refused, Stack
from ninelives_grpc.call import Call, Side
from ninelives_grpc.outcome import Code
from ninelives_grpc.policies import load_shed
from ninelives_grpc.policies.gate import PERMIT
from ninelives_grpc.pressure import Cpu
from ninelives_grpc.pressure.watch import _step
from ninelives_grpc.scheduler import scheduler

from .alone import alone, alone_with_events

QUIET = {"sources": (), "sensors": ()}
"""Nothing is read, so that a test says what is felt."""


@pytest.fixture(autouse=True)
def _seeded():
    random.seed(1)


class Told:
    """A sensor that says what it is told to, and notes when it was asked."""

    def __init__(self, value=0.0, name="told"):
        self.name = name
        self.value = value
        self.read_once = threading.Event()

    def read(self):
        self.read_once.set()
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def call(priority="normal", *, side=Side.FUNCTION, peer=None):
    return Call(
        Method("a/B", side=side), 0.0, None, [("x-ninelives-priority", priority)], None, None, peer
    )


def served(gate, calls=4000, **about):
    return sum(gate.admit(call(**about), 0.0, None).admitted for _ in range(calls)) / calls


def felt(gate, *pressures, start=0.0, interval=0.1, source="memory"):
    """Have a gate feel pressures one after the other; returns the shares."""
    shares = []
    for n, pressure in enumerate(pressures):
        gate.feel({source: pressure}, start + n * interval)
        shares.append(gate.share)
    return shares


def test_all_is_served_without_pressure():
    gate = alone(LoadShed(**QUIET))

    felt(gate, *[0.69] * 100)

    assert served(gate, 100) == 1.0
    assert gate.state(0.0) == {
        "share": 1.0, "condition": "normal", "pressure": 0.69, "source": "memory", "refused": 0,
    }  # fmt: skip


def test_passing_the_bound_halves_the_share_at_once():
    gate = alone(LoadShed(**QUIET))

    assert felt(gate, 0.69, 0.71, 0.71) == [1.0, 0.5, 0.5]
    assert gate.state(0.0)["condition"] == "degraded"
    assert served(gate) == pytest.approx(0.5, abs=0.03)


def test_above_the_critical_bound_it_is_halved_again_each_second():
    gate = alone(LoadShed(**QUIET))

    shares = felt(gate, *[0.95] * 31)

    assert shares[0] == 0.5
    assert shares[9] == 0.5
    assert shares[10] == 0.25
    assert shares[20] == 0.125
    assert shares[30] == 0.0625


def test_pressure_that_does_not_yield_costs_a_fifth_each_five_seconds():
    gate = alone(LoadShed(**QUIET))

    shares = felt(gate, *[0.75] * 101)

    assert shares[49] == 0.5
    assert shares[50] == pytest.approx(0.4)
    assert shares[100] == pytest.approx(0.32)


def test_in_between_nothing_changes():
    gate = alone(LoadShed(**QUIET))
    felt(gate, 0.8)

    shares = felt(gate, *[0.67] * 1000, start=0.1)

    assert set(shares) == {0.5}


def test_it_rises_by_the_second_and_not_by_the_reading():
    slow, fast = alone(LoadShed(**QUIET)), alone(LoadShed(**QUIET))
    for gate in (slow, fast):
        gate.feel({"memory": 0.8}, 0.0)

    felt(slow, *[0.1] * 4, start=1.0, interval=1.0)
    felt(fast, *[0.1] * 400, start=0.01, interval=0.01)

    assert slow.share == pytest.approx(0.7)
    assert fast.share == pytest.approx(0.7)


def test_time_that_nobody_has_seen_does_not_count():
    gate = alone(LoadShed(**QUIET))
    gate.feel({"memory": 0.8}, 0.0)

    gate.feel({"memory": 0.1}, 3600.0)

    assert gate.share == pytest.approx(0.55)


def test_the_greatest_pressure_counts():
    gate = alone(LoadShed(**QUIET))

    gate.feel({"memory": 0.2, "loop_lag": 0.8, "cpu": 0.5}, 0.0)

    assert gate.share == 0.5
    assert gate.state(0.0)["source"] == "loop_lag"


def test_when_nothing_can_be_read_all_is_served_again():
    gate = alone(LoadShed(**QUIET))
    gate.feel({"memory": 0.8}, 0.0)

    for n in range(200):
        gate.feel({}, n / 10)

    assert gate.share == 1.0


def test_those_calls_are_served_that_matter_most():
    gate = alone(LoadShed(**QUIET))
    felt(gate, 0.8)
    kinds = ["critical"] * 2 + ["normal"] * 4 + ["background"] * 4
    passed = dict.fromkeys(kinds, 0)
    for n in range(3100):
        kind = kinds[n % 10]
        passed[kind] += gate.admit(call(kind), 0.0, None).admitted and n >= 100

    assert passed["critical"] == 600
    assert passed["normal"] / 1200 == pytest.approx(0.75, abs=0.05)
    assert passed["background"] < 30


def test_each_step_is_told_with_the_reading_and_its_source():
    gate, sink = alone_with_events(LoadShed(**QUIET, rise=1.0))

    felt(gate, 0.5, 0.8, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6)

    assert [(event.name, event.why()) for event in sink.events] == [
        ("LoadShedDegraded", "memory is at 80% of its limit; 50% are served"),
        ("LoadShedRecovering", "memory is down to 60%; 60% are served, rising"),
        ("LoadShedRecovered", "memory is at 60% of its limit; all are served"),
    ]


def test_a_refusal_says_what_is_short_and_when_it_may_be_better():
    gate, sink = alone_with_events(LoadShed(**QUIET, min_share=0.0001, cut=0.0))
    felt(gate, 0.8)

    refusal = next(
        verdict for _ in range(10) if not (verdict := gate.admit(call(), 0.0, None)).admitted
    )

    assert refusal.code is Code.RESOURCE_EXHAUSTED
    assert refusal.details == "load shed stack/load_shed serves 0% of the calls: memory is at 80%"
    assert refusal.retry_after == pytest.approx(0.002)
    event = sink.events[-1]
    assert (event.name, event.reason) == ("LoadShedRefused", "degraded")
    assert event.why() == "memory is at 80% of its limit; 0% are served"


def test_who_is_refused_is_told_to_come_back_when_the_share_has_doubled():
    gate = alone(LoadShed(**QUIET, rise=0.25))
    felt(gate, 0.8)

    waits = {
        verdict.retry_after
        for _ in range(100)
        if not (verdict := gate.admit(call(), 0.0, None)).admitted
    }

    assert waits == {2.0}


def test_chance_does_not_decide_twice_over_a_call_that_is_asked_for_on_arrival():
    gate = alone(LoadShed(**QUIET))
    felt(gate, 0.8)
    passed = 0
    for _ in range(4000):
        assert gate.would_refuse(None, 0.0)
        verdict = gate.admit(call(side=Side.SERVER), 0.0, None)
        if verdict.admitted:
            gate.take_back(verdict, 0.0)
            passed += gate.admit(call(side=Side.SERVER, peer=lambda: "ipv4:1"), 0.0, None).admitted

    assert passed / 4000 == pytest.approx(0.5, abs=0.03)


def test_functions_do_not_pass_in_place_of_calls_that_have_arrived():
    gate = alone(LoadShed(**QUIET))
    felt(gate, 0.8)
    for _ in range(100):
        gate.take_back(PERMIT, 0.0)

    assert served(gate) == pytest.approx(0.5, abs=0.03)


def test_calls_that_have_arrived_and_never_came_are_forgotten_when_all_is_served_again():
    gate = alone(LoadShed(**QUIET, rise=100.0))
    felt(gate, 0.8)
    for _ in range(1000):
        gate.take_back(PERMIT, 0.0)

    felt(gate, 0.1, 0.1, 0.1, start=0.1)
    felt(gate, 0.8, start=10.0)

    share = served(gate, side=Side.SERVER, peer=lambda: "ipv4:1")
    assert share == pytest.approx(0.5, abs=0.03)


def test_numbers_change_while_calls_are_refused_and_the_share_stays():
    gate = alone(LoadShed(**QUIET))
    felt(gate, 0.8)

    gate.change({"degrade_above": 0.9, "recover_below": 0.85, "rise": 1.0})
    kept = gate.share
    gate.feel({"memory": 0.8}, 0.25)

    assert kept == 0.5
    assert gate.share == pytest.approx(0.75)


def test_sensors_are_read_from_the_first_call_on_and_act(registry):
    sensor = Told(0.95)
    stack = Stack("s", LoadShed(sources=[], sensors=[sensor], interval=0.005), registry=registry)
    asked_before = sensor.read_once.is_set()

    def refused():
        try:
            stack.call(len, "abc")
        except Refused:
            return True
        return False

    while not refused():
        pass

    assert not asked_before
    assert stack.policy("load_shed").state(0.0)["source"] == "told"


def test_cpu_time_that_was_used_before_anybody_called_does_not_count(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(
        load_shed, "Cpu", lambda: Cpu(clock=lambda: now[0], used=lambda: min(now[0], 60.0))
    )
    gate = alone(LoadShed(sources=["cpu"]))
    now[0] = 60.0

    gate.admit(call(), 0.0, None)
    now[0] = 61.0

    assert gate._watch.readings() == {"cpu": 0.0}


def test_an_interval_that_is_made_shorter_counts_at_once_and_is_read_in_once():
    class Counting(Told):
        times = 0

        def read(self):
            self.times += 1
            return super().read()

    sensor = Counting()
    gate = alone(LoadShed(sources=[], sensors=[sensor], interval=60.0))
    gate.admit(call(), 0.0, None)
    assert sensor.read_once.wait(10)
    before = gate._watch.turn
    sensor.read_once.clear()

    gate.parameter("interval").set(59.0)

    assert sensor.read_once.wait(10)
    _step(gate._watch, weakref.ref(gate), before)()
    assert sensor.times == 2


def test_a_sensor_that_raises_is_logged_once_and_the_others_still_count(caplog):
    sensors = [Told(OSError("gone"), "broken"), Told(0.8, "well")]
    gate = alone(LoadShed(sources=[], sensors=sensors))

    gate.hear(gate._watch.readings())
    gate.hear(gate._watch.readings())

    assert gate.state(0.0)["source"] == "well"
    assert [record.message for record in caplog.records] == [
        "the sensor broken failed; it is asked again"
    ]


def test_of_sensors_with_one_name_the_greatest_pressure_counts():
    gate = alone(LoadShed(sources=[], sensors=[Told(0.2), Told(0.8), Told(0.5)]))

    gate.hear(gate._watch.readings())

    assert gate.pressure == 0.8


@pytest.mark.parametrize(("said", "taken"), [(math.inf, 1000.0), (-math.inf, 0.0), (-1, 0.0)])
def test_what_a_sensor_says_is_taken_within_bounds(said, taken):
    gate = alone(LoadShed(sources=[], sensors=[Told(said)]))

    assert gate._watch.readings() == {"told": taken}


def test_a_sensor_that_can_not_say_its_name_is_one_that_fails(caplog):
    class Nameless:
        can = True

        @property
        def name(self):
            if not self.can:
                raise OSError
            return "once"

        def read(self):
            return 0.9

    sensor = Nameless()
    gate = alone(LoadShed(sources=[], sensors=[sensor, Told(0.8, "well")]))
    sensor.can = False

    assert gate._watch.readings() == {"well": 0.8}
    assert [record.message for record in caplog.records] == [
        "the sensor sensor 0 failed; it is asked again"
    ]


def test_a_call_goes_on_when_no_thread_can_be_started_and_the_next_one_tries_again(monkeypatch):
    sensor = Told()
    gate = alone(LoadShed(sources=[], sensors=[sensor]))

    def exhausted(*_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(scheduler, "later", exhausted)
        first = gate.admit(call(), 0.0, None)
    second = gate.admit(call(), 0.0, None)

    assert first.admitted
    assert second.admitted
    assert sensor.read_once.wait(10)


@pytest.mark.parametrize("nonsense", [None, float("nan"), "0.9"])
def test_a_sensor_that_says_nothing_or_nonsense_does_not_count(nonsense):
    gate = alone(LoadShed(sources=[], sensors=[Told(nonsense, "odd"), Told(0.8, "well")]))

    assert gate._watch.readings() == {"well": 0.8}


def test_what_a_source_says_is_measured_by_its_limit():
    gate = alone(LoadShed(**QUIET, lag_limit=0.5, memory_stall_limit=0.1))

    gate.hear({"loop_lag": 0.3, "memory_stall": 0.05})
    first = (gate.source, gate.pressure)
    gate.parameter("memory_stall_limit").set(0.05)
    gate.hear({"loop_lag": 0.3, "memory_stall": 0.05})

    assert first == ("loop_lag", pytest.approx(0.6))
    assert (gate.source, gate.pressure) == ("memory_stall", pytest.approx(1.0))


def test_nothing_is_read_any_more_when_nobody_has_called_for_a_while():
    now = [0.0]
    gate = alone(LoadShed(sources=[], sensors=[Told()]), now=lambda: now[0])
    gate._watched = True
    gate._used = True

    asked_again = [gate.hear({})]
    for second in (0.5, 0.9, 1.0):
        now[0] = second
        asked_again.append(gate.hear({}))

    assert asked_again == [0.1, 0.1, 0.1, None]


def test_readings_go_on_as_long_as_not_all_is_served():
    now = [0.0]
    gate = alone(LoadShed(sources=[], sensors=[Told()], rise=0.0001), now=lambda: now[0])
    gate._watched = True
    gate.hear({"told": 0.8})

    now[0] = 1000.0

    assert gate.hear({"told": 0.1}) == 0.1


def test_a_stack_that_is_gone_is_not_read_for():
    sensor = Told()
    gate = alone(LoadShed(sources=[], sensors=[sensor]))
    gone, watch = weakref.ref(gate), gate._watch

    del gate
    gc.collect()
    _step(watch, gone, watch.turn)()

    assert gone() is None
    assert not sensor.read_once.is_set()


def test_a_forked_child_reads_afresh_from_its_first_call_on():
    sensor = Told()
    gate = alone(LoadShed(sources=[], sensors=[sensor]))
    gate.admit(call(), 0.0, None)
    sensor.read_once.wait(10)
    gate.feel({"told": 0.8}, 0.0)
    sensor.read_once.clear()

    gate.start_afresh()
    gate.admit(call(), 0.0, None)

    assert sensor.read_once.wait(10)
    assert gate.share == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": ["memroy"]}, "sources must be a list of memory, .* not 'memroy'"),
        ({"sources": "memory"}, "sources must be a list of memory, .* not 'memory'"),
        ({"sensors": 3}, "sensors must be a list, not 3"),
        ({"sensors": [3]}, "sensors have a name and read"),
        ({"recover_below": 0.8}, "must be in this order"),
        ({"critical_above": 0.6}, "must be in this order"),
    ],
)
def test_settings_that_make_no_sense_are_errors(settings, message):
    with pytest.raises(ConfigError, match=message):
        LoadShed(**settings)
