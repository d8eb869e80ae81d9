import contextlib
import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from ninelives_control.cli.group import Exit, run
from ninelives_grpc import Refused, Stack
from tests.waiting import until

NINELIVES = Path(sys.executable).parent / "ninelives"


@pytest.fixture
def ninelives(plane, tokens, monkeypatch, capsys):
    monkeypatch.setenv("NINELIVES_ADDRESS", f"127.0.0.1:{plane.grpc_port}")
    monkeypatch.setenv("NINELIVES_TOKEN", tokens["viewer"])

    def ask(*args):
        code = run(args)
        out, err = capsys.readouterr()
        return code, out, err

    return ask


def broken():
    raise ConnectionError("down")


def fail(stack, times=10):
    for _ in range(times):
        with pytest.raises((ConnectionError, Refused)):
            stack.call(broken)


def test_top_shows_those_in_trouble_first_and_why(ninelives, shop, registry):
    Stack("calm", shop.expression, registry=registry).call(lambda: 1)
    fail(shop, 30)

    code, out, err = ninelives("top", "--once")

    assert (code, err) == (0, "")
    header, first, second = out.splitlines()
    assert header.split()[:4] == ["stack", "state", "calls/s", "success"]
    assert first.split()[:2] == ["shop", "open"]
    assert "opened at" in first
    assert "calls failed" in first
    assert second.split()[:2] == ["calm", "closed"]
    assert "100.0%" in second


def test_top_tells_everything_as_json(ninelives, shop):
    shop.call(lambda: 1)

    _, out, _ = ninelives("top", "-o", "json", "--stack", "shop", "--window", "300")

    data = json.loads(out)
    assert (data["window"], [stack["name"] for stack in data["stacks"]]) == (300, ["shop"])
    assert data["stacks"][0]["traffic"]["calls"] == 1


def test_top_of_nothing_says_so(ninelives, plane):
    for stack in list(plane.registry):
        plane.registry.remove(stack.name)

    assert ninelives("top", "--once") == (0, "there are no stacks\n", "")


def test_a_stack_that_there_is_none_of_and_a_window_are_refused(ninelives):
    code, _, err = ninelives("top", "--once", "--stack", "shp")
    assert (code, "shop" in err) == (Exit.NOT_FOUND, True)
    assert ninelives("top", "--window", "61")[0] == Exit.INVALID


def test_events_are_a_line_each_with_what_led_to_them(ninelives, shop):
    fail(shop, 30)

    code, out, err = ninelives("events", "--severity", "error")
    _, last, _ = ninelives("events", "--limit", "2", "-o", "json")
    _, kinds, _ = ninelives("events", "--kind", "CircuitOpened", "--stack", "shop")

    assert (code, err) == (0, "")
    (line,) = out.splitlines()
    assert " error   CircuitOpened shop/circuit_breaker" in line
    assert "of the last 8 calls failed" in line
    assert kinds == out
    assert len(last.splitlines()) == 2
    assert json.loads(last.splitlines()[0])["why"]


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--kind", "CircuitOpend"], Exit.NOT_FOUND),
        (["--since", "yesterday"], Exit.INVALID),
        (["--severity", "loud"], Exit.INVALID),
        (["--follow", "--stack", "shp"], Exit.NOT_FOUND),
    ],
)
def test_events_that_there_are_none_of_are_refused(ninelives, args, code):
    assert ninelives("events", *args)[0] == code


def following(plane, tokens, *args):
    return subprocess.Popen(
        [NINELIVES, "events", "--follow", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ
        | {
            "NINELIVES_ADDRESS": f"127.0.0.1:{plane.grpc_port}",
            "NINELIVES_TOKEN": tokens["viewer"],
        },
    )


@pytest.mark.parametrize("form", ["table", "json"])
def test_events_are_followed_until_the_control_plane_stops(plane, tokens, shop, form):
    process = following(plane, tokens, "--kind", "ParameterChanged", "-o", form)
    until(lambda: plane.dispatcher._stream.subscribers)

    fail(shop, 1)
    shop.parameters["retry/max_attempts"].set(5, reason="calm")
    line = process.stdout.readline()
    plane.stop()
    rest, said = process.communicate(timeout=20)

    if form == "json":
        assert json.loads(line)["severity"] == "info"
        assert {"name": "new", "value": 5} in json.loads(line)["details"]
    else:
        assert "ParameterChanged shop/retry: max_attempts changed from 3 to 5: calm" in line
    assert rest == ""
    assert process.returncode == Exit.UNAVAILABLE
    assert said.count("\n") == 1


def test_top_is_redrawn_on_a_terminal_until_it_is_ended(plane, tokens, shop):
    shop.call(lambda: 1)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [NINELIVES, "top", "--interval", "0.1"],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=os.environ
        | {
            "NINELIVES_ADDRESS": f"127.0.0.1:{plane.grpc_port}",
            "NINELIVES_TOKEN": tokens["viewer"],
            "TERM": "xterm",
            "COLUMNS": "160",
        },
    )
    os.close(theirs)
    shown = b""

    def seen(*words):
        nonlocal shown
        # At the end of a terminal there is an error to be read.
        with contextlib.suppress(OSError):
            if select.select([ours], [], [], 0.05)[0]:
                shown += os.read(ours, 65536)
        return all(word in shown for word in words)

    until(lambda: seen(b"shop", b"closed", b"100.0%"))
    fail(shop, 30)
    until(lambda: seen(b"opened at"))
    process.send_signal(2)
    until(lambda: seen() and process.poll() is not None)
    os.close(ours)
    said = process.stderr.read()
    process.stderr.close()

    assert (process.returncode, said) == (0, b"")


def test_without_a_control_plane_there_is_a_line_and_a_code(capsys):
    for command in ("top", "events"):
        assert run([command, "--address", "127.0.0.1:9", "--timeout", "2"]) == Exit.UNAVAILABLE
        assert capsys.readouterr().err.startswith("error: no control plane can be reached at")


def test_rules_and_dashboard_are_listed_and_written(capsys, tmp_path):
    assert run(["prometheus"]) == 0
    names = capsys.readouterr().out.split()
    assert run(["prometheus", "--write", str(tmp_path / "new")]) == 0

    assert sorted(each.name for each in (tmp_path / "new").iterdir()) == sorted(names)
    assert json.loads((tmp_path / "new" / "grafana_dashboard.json").read_text())["panels"]


def test_a_folder_that_can_not_be_written_is_said_to_be_so(capsys, tmp_path):
    (tmp_path / "file").write_text("")

    assert run(["prometheus", "--write", str(tmp_path / "file" / "x")]) == Exit.FAILED
    assert "Not a directory" in capsys.readouterr().err
