import io
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from ninelives_grpc.clock import wall_time
from ninelives_grpc.sinks import JsonLinesSink, NonBlockingSink
from tests.unit.test_sinks import CLOSED, OPENED


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_an_event_is_one_object_with_everything_in_it(tmp_path):
    sink = JsonLinesSink(tmp_path / "events.jsonl")
    sink.emit(replace(OPENED, method="shop.v1.Shop/Gét", attempt=2))
    sink.close()

    (line,) = lines(tmp_path / "events.jsonl")
    assert datetime.fromisoformat(line.pop("time")).timestamp() == pytest.approx(wall_time(5.0))
    assert line == {
        "event": "CircuitOpened",
        "severity": "error",
        "stack": "s",
        "policy": "breaker",
        "method": "shop.v1.Shop/Gét",
        "attempt": 2,
        "reason": "failure_rate",
        "why": "9 of the last 10 calls failed, down",
        "details": OPENED.details(),
    }


def test_what_json_does_not_know_is_a_text():
    out = io.StringIO()
    JsonLinesSink(out).emit(replace(OPENED, duration=float("inf"), key=b"\xff"))

    details = json.loads(out.getvalue())["details"]
    assert (details["duration"], details["key"]) == ("inf", "b'\\xff'")


def test_lines_are_appended_and_a_full_file_makes_room_for_the_next(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text("{}\n")
    sink = JsonLinesSink(path, size=100, files=2)
    for n in range(5):
        sink.emit(replace(CLOSED, probes=n))
    sink.close()

    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "events.jsonl",
        "events.jsonl.1",
        "events.jsonl.2",
    ]
    probes = [line["details"]["probes"] for line in lines(path)]
    assert probes == [4]
    assert [line["details"]["probes"] for line in lines(tmp_path / "events.jsonl.1")] == [3]


def test_a_full_file_that_can_not_be_moved_is_told_once_and_written_on(tmp_path):
    path = tmp_path / "events.jsonl"
    (tmp_path / "events.jsonl.1").mkdir()
    sink = JsonLinesSink(path, size=1, files=1)
    sink.emit(CLOSED)

    with pytest.raises(OSError, match="directory"):
        sink.emit(CLOSED)
    (tmp_path / "events.jsonl.1").rmdir()
    sink.emit(CLOSED)
    sink.close()

    assert len(lines(path)) == 1
    assert len(lines(tmp_path / "events.jsonl.1")) == 1


def test_an_open_file_stays_open():
    out = io.StringIO()
    sink = JsonLinesSink(out)
    sink.emit(CLOSED)

    sink.close()

    assert json.loads(out.getvalue())["event"] == "CircuitClosed"
    with pytest.raises(ValueError, match="the sink is closed"):
        sink.emit(CLOSED)


def test_a_disk_that_is_full_is_counted_and_not_felt(caplog):
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        behind = JsonLinesSink(full)
        sink = NonBlockingSink(behind)
        sink.emit(CLOSED)
        sink.close()
        with pytest.raises(OSError, match="No space"):
            full.flush()
        full.buffer.raw.close()

    assert (sink.failed, sink.delivered) == (1, 0)
    assert "No space left" in caplog.text


def test_a_file_that_can_not_be_opened_is_said_to_be_so_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        JsonLinesSink(tmp_path / "none" / "events.jsonl")
    with pytest.raises(ValueError, match="size and files must be at least 1"):
        JsonLinesSink(tmp_path / "events.jsonl", files=0)
