"""What programs have recorded is load for a simulation."""

import json

import pytest

from ninelives_grpc import Bulkhead, Registry, Stack
from ninelives_grpc.errors import ConfigError
from ninelives_grpc.flight_recorder import FlightRecorder
from ninelives_grpc.simulation import Caller, Phase, Server, simulate
from ninelives_grpc.simulation.recorded import replay
from ninelives_grpc.sinks.json_lines import JsonLinesSink
from ninelives_grpc.testing import VirtualClock
from tests.unit.simulated import all_ended, scenario

NO_CALLS = (
    {"details": {"duration": float("nan")}},
    {"details": {"duration": float("inf")}},
    {"details": {"duration": -5.0}},
    {"details": {"duration": "1"}},
    {"details": []},
    {"method": None},
    {"method": "no slash"},
    {"time": "yesterday"},
    {"time": "0001-01-01T00:00:00"},
    {"event": ["RequestSucceeded"]},
)
"""What a line may say that is no call by which to simulate."""


def _line(**about):
    usual = {
        "event": "RequestSucceeded",
        "time": "2026-01-01T00:00:00Z",
        "method": "a.B/C",
        "details": {"duration": 1.0},
    }
    return json.dumps(usual | about) + "\n"


def work(clock, seconds):
    clock.advance(seconds)


@pytest.fixture
def lines(tmp_path):
    """Twenty calls of 0.1 s, each half a second after the end of the last, as JSON lines."""
    file, clock = tmp_path / "events.jsonl.1", VirtualClock()
    sink = JsonLinesSink(file, routine=True)
    stack = Stack("shop", Bulkhead(8), clock=clock, sink=sink, registry=Registry())
    for _ in range(20):
        stack.call(work, clock, 0.1)
        clock.advance(0.5)
    sink.close()
    return file


def test_json_lines_are_calls_as_they_came_and_as_long(lines):
    found = replay(scenario(server=Server(workers=1)), lines)
    result = simulate(found)

    assert [round(at, 2) for at, _, _ in found.arrivals[:3]] == [0.0, 0.6, 1.2]
    assert [caller.method.rpartition(".")[2] for caller in found.callers] == [
        "test_simulation_recorded/work"
    ]
    assert result.totals().good == 20
    assert result.latency().mean == pytest.approx(0.1, abs=0.001)


def test_what_a_call_takes_is_drawn_when_the_recorded_time_is_not_wanted(lines):
    result = simulate(replay(scenario(), lines, durations=False))

    assert result.latency().mean == pytest.approx(0.02, rel=0.5)


def test_a_recording_meets_the_trouble_of_the_phases(lines):
    phases = (Phase(seconds=2.0), Phase(seconds=1.0, dead=True))
    result = simulate(replay(scenario(*phases), lines))

    assert result.scenario.seconds > 11.0
    assert (result.totals().good, result.totals().failed) == (4, 16)
    assert all_ended(result)


def test_what_a_scenario_says_of_a_method_holds_for_its_recorded_calls(lines):
    (found,) = replay(scenario(), lines).callers
    known = Caller(method=found.method, name="known", priority="high")

    assert replay(scenario(callers=(known,)), lines).callers[0].priority == "high"


def test_the_file_of_a_flight_recorder_is_load_too(tmp_path):
    file, registry = tmp_path / "shop.flight", Registry()
    stack = Stack("shop", Bulkhead(1), registry=registry)

    def fail():
        raise ConnectionError("down")

    with FlightRecorder(file, registry=registry, hooks=False):
        for _ in range(5):
            with pytest.raises(ConnectionError):
                stack.call(fail)

    assert len(replay(scenario(), file).arrivals) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "can not be read: No such file"),
        ("{}\n", "holds no call that ended"),
        ('{"event": "RequestSucceeded", "details": {"duration": 1}}\n', "holds no call that ended"),
        ("{}\n[]\n", "calls.jsonl:2: is no JSON object on one line"),
        ("{\n", "calls.jsonl:1: is no JSON object on one line"),
        ("something else", "calls.jsonl"),
        *((_line(**wrong), "holds no call that ended") for wrong in NO_CALLS),
        (_line() + _line(time="2027-01-01T00:00:00Z"), "calls.jsonl: goes over 365 days"),
    ],
)
def test_what_is_no_recording_is_told(tmp_path, text, said):
    file = tmp_path / "calls.jsonl"
    if text:
        file.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError, match=said):
        replay(scenario(), file)
