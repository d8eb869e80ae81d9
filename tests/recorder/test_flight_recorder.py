import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninelives_control import ControlPlane
from ninelives_control.cli.group import Exit, run
from ninelives_control.errors import Code, CommandError
from ninelives_grpc import Bulkhead, CircuitBreaker, ConfigError, Registry, Stack
from ninelives_grpc.events import BulkheadQueued, CircuitClosed
from ninelives_grpc.flight_recorder import FlightRecorder, read
from ninelives_grpc.flight_recorder.layout import Header, packed
from ninelives_grpc.flight_recorder.reader import _recording
from tests.waiting import until

FILES = Path("/proc/self/fd")
PROGRAM = Path(__file__).with_name("crashing.py")


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "shop.flight"


@pytest.fixture
def shop(registry):
    return Stack("shop", CircuitBreaker() + Bulkhead(8), registry=registry)


def recorder(file, registry, **options):
    return FlightRecorder(file, registry=registry, hooks=False, **options)


def change(stack, value):
    stack.parameters["circuit_breaker/minimum_calls"].set(value)


def test_what_was_recorded_is_read_back(file, registry, shop):
    with recorder(file, registry):
        shop.call(lambda: 1)
        change(shop, 9)

    recording = read(file)

    assert recording.pid == os.getpid()
    (event,) = recording.events
    assert event.fields["event"] == "ParameterChanged"
    assert event.fields["why"] == "minimum_calls changed from 8 to 9"
    breaker = recording.stacks["shop"]["policies"]["circuit_breaker"]
    assert (breaker["kind"], breaker["revision"]) == ("CircuitBreaker", 2)
    assert breaker["state"]["state"] == "closed"
    assert breaker["parameters"]["minimum_calls"] == 9
    assert recording.stacks["shop"]["traffic"]["calls"] == 1
    assert (recording.lost, recording.damaged, recording.left_out) == (0, 0, 0)
    assert time.time() - 60 < recording.started <= recording.written <= time.time()


def test_the_last_events_are_kept_in_the_same_room(file, registry, shop):
    with recorder(file, registry, events=4) as flight:
        size = file.stat().st_size
        for value in range(1, 11):
            change(shop, value)
            flight.flush()

    recording = read(file)

    assert [event.fields["details"]["new"] for event in recording.events] == [7, 8, 9, 10]
    assert [event.number for event in recording.events] == [7, 8, 9, 10]
    assert file.stat().st_size == size


@pytest.mark.usefixtures("shop")
def test_of_a_flood_the_last_are_kept_and_the_others_counted(file, registry):
    flight = recorder(file, registry, events=4)
    for _ in range(10):
        flight.emit(BulkheadQueued(stack="shop", at=1.0, in_flight=1, queued=1))
    with flight:
        pass

    assert flight.lost == flight.dropped == 6
    assert (len(read(file).events), read(file).lost) == (4, 6)


@pytest.mark.usefixtures("shop")
def test_events_and_states_that_do_not_fit_are_shortened_and_counted(file, registry):
    for n in range(20):
        Stack(f"other-{n}", CircuitBreaker() + Bulkhead(8), registry=registry)
    flight = recorder(file, registry, state_size=8192)
    flight.emit(CircuitClosed(stack="é" * 2000, policy="p", at=1.0, key="k" * 3000, probes=1))
    with flight:
        pass

    recording = read(file)

    (event,) = recording.events
    assert event.fields["event"] == "CircuitClosed"
    assert "details" not in event.fields
    assert recording.left_out > 0
    assert recording.left_out + len(recording.stacks) == 21


def test_the_file_before_is_kept(file, registry, shop):
    for value in (10, 11):
        with recorder(file, registry):
            change(shop, value)

    older = read(file.with_name("shop.flight.old"))
    assert [event.fields["details"]["new"] for event in older.events] == [10]
    assert [event.fields["details"]["new"] for event in read(file).events] == [11]


def test_a_copy_is_whole_and_made_at_once(file, registry, shop, tmp_path):
    with recorder(file, registry) as flight:
        change(shop, 9)
        copy = flight.dump(tmp_path / "copy")

    assert len(read(copy).events) == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["copy", "shop.flight"]


def test_nothing_is_left_behind(file, registry, shop):
    before, files = threading.active_count(), len(list(FILES.iterdir()))
    flight = recorder(file, registry).start()
    flight.close()
    flight.close()
    change(shop, 9)

    assert (threading.active_count(), len(list(FILES.iterdir()))) == (before, files)
    assert shop.sinks == ()


@pytest.mark.parametrize("place", ["none/shop.flight", "."])
def test_a_place_that_can_not_be_written_is_said_at_once(registry, tmp_path, place, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="cannot be made"):
        recorder(place, registry).start()


@pytest.mark.parametrize("wrong", [{"events": 0}, {"state_size": 10}, {"interval": 5.0}])
def test_numbers_that_make_no_sense_are_refused(registry, file, wrong):
    with pytest.raises(ConfigError, match="events must be at least 1"):
        recorder(file, registry, **wrong)


def test_a_write_that_fails_is_logged_once_and_felt_by_nobody(file, registry, shop, caplog):
    with recorder(file, registry) as flight:
        flight._map.close()
        flight.flush()
        flight.flush()
        shop.call(lambda: 1)

    assert flight.failed >= 2
    assert caplog.text.count("could not write") == 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_leaves_the_file_to_its_parent(file, registry, shop):
    with recorder(file, registry) as flight:
        pid = os.fork()
        if pid == 0:
            change(shop, 9)
            flight.flush()
            os._exit(len(shop.sinks))
        _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert read(file).events == ()


HEADER = Header(1, 1.0, 256, 2, 256)


@given(st.binary(max_size=HEADER.size), st.integers(0, HEADER.size - 1))
def test_garbage_is_read_as_far_as_it_is_whole_or_refused(garbage, at):
    whole = bytearray(HEADER.to_bytes().ljust(HEADER.size, b"\0"))
    entry = packed(1, 1.0, b'{"event": "CircuitOpened"}')
    whole[HEADER.slot_at(1) : HEADER.slot_at(1) + len(entry)] = entry
    whole[at : at + len(garbage)] = garbage[: HEADER.size - at]

    try:
        recording = _recording(bytes(whole))
    except ValueError as error:
        assert str(error).startswith(("is not", "has version"))  # noqa: PT017 - it may be whole
    else:
        assert all(event.fields["event"] for event in recording.events)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not the file of a flight recorder"),
        (HEADER.to_bytes(), "is not whole"),
        (b"NLFR\x09\x00" + HEADER.to_bytes()[6:], "has version 9"),
    ],
)
def test_another_file_is_refused_with_its_path(file, data, said):
    file.write_bytes(data)

    with pytest.raises(ConfigError, match=f"shop.flight: {said}"):
        read(file)


def started(file, *more):
    process = subprocess.Popen(
        [sys.executable, PROGRAM, file, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    return process


def calls(file):
    return read(file).stacks["shop"]["traffic"]["calls"]


def ended(process):
    process.stdout.close()
    process.stderr.close()
    process.wait(10)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_process_that_is_killed_leaves_a_file_not_a_second_old(file, number):
    process = started(file)
    until(lambda: calls(file) > 50)

    process.send_signal(number)
    killed = time.time()
    process.wait(10)
    ended(process)

    recording = read(file)
    assert process.returncode == -number
    assert killed - recording.written < 1.0
    assert recording.pid == process.pid
    assert {"CircuitOpened", "RequestFailed"} <= {
        event.fields["event"] for event in recording.events
    }


def test_a_signal_makes_a_copy_and_the_process_goes_on(file, tmp_path):
    process = started(file)
    until(lambda: read(file).events)

    process.send_signal(signal.SIGUSR2)
    (copy,) = until(lambda: [each for each in tmp_path.glob("*.2*") if each.suffix != ".part"])
    alive = process.poll() is None
    process.kill()
    ended(process)

    assert alive
    assert read(copy).events


def test_an_unhandled_exception_makes_a_copy_and_is_told_as_ever(file, tmp_path):
    process = started(file, "raise")
    told = process.communicate(timeout=10)[1]

    (copy,) = tmp_path.glob("shop.flight.2*")
    assert b"RuntimeError: nobody handles this" in told
    assert "shop" in read(copy).stacks


def test_hooks_call_who_was_there_before_and_are_taken_away_again(file, registry, monkeypatch):
    heard = []
    monkeypatch.setattr(sys, "excepthook", lambda *details: heard.append(details[0]))
    monkeypatch.setattr(threading, "excepthook", lambda details: heard.append(details.exc_type))
    before = sys.excepthook, threading.excepthook, signal.getsignal(signal.SIGUSR2)

    with FlightRecorder(file, registry=registry):
        sys.excepthook(ValueError, ValueError("x"), None)
        thread = threading.Thread(target=lambda: 1 // 0)
        thread.start()
        thread.join()

    assert heard == [ValueError, ZeroDivisionError]
    assert (sys.excepthook, threading.excepthook, signal.getsignal(signal.SIGUSR2)) == before
    assert len(list(file.parent.glob("shop.flight.2*"))) >= 1


def test_the_command_line_shows_states_and_events(file, registry, shop, capsys):
    with recorder(file, registry):
        shop.call(lambda: 1)
        change(shop, 9)

    assert run(["recorder", str(file)]) == Exit.OK
    shown = capsys.readouterr().out
    assert run(["recorder", str(file), "-o", "json", "--stack", "shop", "--events", "0"]) == Exit.OK
    data = json.loads(capsys.readouterr().out)

    assert f"process {os.getpid()}, recorded from 2" in shown
    assert "circuit_breaker=closed bulkhead=0" in shown
    assert "minimum_calls changed from 8 to 9" in shown
    assert (data["events"], list(data["stacks"])) == ([], ["shop"])


@pytest.mark.usefixtures("shop")
def test_the_command_line_says_what_it_can_not_show(file, registry, capsys):
    with recorder(file, registry):
        pass

    assert run(["recorder", str(file), "--stack", "shp"]) == Exit.NOT_FOUND
    assert run(["recorder", str(file.with_name("none"))]) == Exit.INVALID
    said = capsys.readouterr().err
    assert "there is no stack 'shp'" in said
    assert "none: cannot be read: No such file or directory" in said


def test_a_command_makes_a_copy(file, registry, shop):
    with (
        recorder(file, registry) as flight,
        ControlPlane(registry, grpc_port=None, http_port=None, recorder=flight) as plane,
    ):
        change(shop, 9)
        copied = plane.execute("dump_flight_recorder", reason="a look")
        flight.path = file.with_name("none") / "shop.flight"
        with pytest.raises(CommandError, match="can not be copied: No such file") as caught:
            plane.execute("dump_flight_recorder")

    assert caught.value.code is Code.UNAVAILABLE
    assert [event.fields["event"] for event in read(copied.path).events] == ["ParameterChanged"]


def test_without_a_recorder_there_is_no_such_command(registry):
    with (
        ControlPlane(registry, grpc_port=None, http_port=None) as plane,
        pytest.raises(CommandError, match="dump_flight_recorder"),
    ):
        plane.execute("dump_flight_recorder")
