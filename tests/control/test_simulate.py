"""`ninelives simulate` tries stacks on a simulated server, and compares them."""

import json

import pytest

from ninelives_control.cli import simulate
from ninelives_control.cli.group import Exit, run
from ninelives_grpc import Bulkhead, Registry, Stack
from ninelives_grpc.simulation import load
from ninelives_grpc.sinks.json_lines import JsonLinesSink
from ninelives_grpc.testing import VirtualClock

SCENARIO = """
title = "A small rush"

[[phases]]
seconds = 1.0
load = 0.7

[[phases]]
seconds = 2.0
load = 2.0

[[marks]]
phase = 2
at_least = 0.9
"""


@pytest.fixture
def files(tmp_path):
    """A scenario, and two configurations."""
    (tmp_path / "rush.toml").write_text(SCENARIO, encoding="utf-8")
    for name, places in (("tight", 2), ("wide", 50)):
        text = f'[stacks.a]\nexpression = "bulkhead"\nbulkhead = {{ max_concurrent = {places} }}\n'
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def ninelives(files, capsys, monkeypatch):
    monkeypatch.chdir(files)

    def call(*args):
        code = run(["simulate", *args, "--processes", "1"])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_a_candidate_is_seen_beside_what_is_now(ninelives):
    code, out, _ = ninelives("rush.toml", "--stack", "tight.toml", "--candidate", "wide.toml")

    assert code == Exit.OK
    title, head, *lines = out.splitlines()
    assert title == "rush: A small rush"
    assert head.split() == ["current", "candidate"]
    assert next(line.split() for line in lines if line.startswith("late")) == ["late", "0", "0"]
    mark = next(line for line in lines if "goodput in phase 2 >= 0.9" in line)
    assert ("missed" in mark, "reached" in mark) == (True, True)
    assert lines[-1] == "medians of the seeds 1, 2, 3"


def test_numbers_come_as_json(ninelives):
    code, out, _ = ninelives("rush.toml", "--seed", "5", "-o", "json")
    answer = json.loads(out)
    (result,) = answer["results"]

    assert (code, answer["seeds"]) == (Exit.OK, [5])
    assert (result["scenario"], result["stack"]) == ("rush", "nothing")
    totals = result["totals"]
    ended = sum(totals[how] for how in ("good", "late", "refused", "failed"))
    assert ended == totals["offered"] > 1000
    assert result["marks"][0]["reached"] is False


def test_a_missed_mark_is_an_exit_code_only_when_asked_for(ninelives):
    assert ninelives("rush.toml")[0] == Exit.OK
    assert ninelives("rush.toml", "--check")[0] == Exit.FAILED
    # Of two stacks it is the candidate that counts.
    both = ("rush.toml", "--stack", "tight.toml", "--candidate", "wide.toml", "--check")
    assert ninelives(*both)[0] == Exit.OK


def test_a_suite_is_a_table_of_marks_and_algorithms(ninelives, monkeypatch):
    names = ["e_steady_0_7x", "priorities"]
    monkeypatch.setattr(simulate, "shipped", lambda suite: names if suite == "overload" else [])
    code, out, err = ninelives("--suite", "overload", "--seed", "1")
    head, first, *_ = out.splitlines()
    told = err.splitlines()

    assert code == Exit.OK
    assert head.split()[:4] == ["scenario", "mark", "best", "concurrency_limit"]
    assert {"aimd", "vegas", "gradient2", "envoy", "bulkhead", "nothing"} <= set(head.split())
    assert first.startswith("e_steady_0_7x: refused in phase 1")
    assert "marks are reached by what they are for" in out
    done, _, of = told[-1].removesuffix(" simulations").partition(" of ")
    assert (done, len(told)) == (of, min(20, int(of)))


def test_a_suite_compares_the_stacks_that_are_named(ninelives, monkeypatch):
    monkeypatch.setattr(simulate, "shipped", lambda _: ["e_steady_0_7x"])
    files = ("--stack", "tight.toml", "--candidate", "wide.toml")
    code, out, _ = ninelives("--suite", "overload", *files, "--check", "-o", "json")
    (row,) = json.loads(out)["rows"]

    assert row["reached"] == {"current": False, "candidate": True}
    assert row["best"] is None
    assert code == Exit.FAILED


def test_random_servers_show_the_mean_and_the_worst(ninelives, monkeypatch):
    rush = load(str(simulate.Path("rush.toml")))
    monkeypatch.setattr(simulate, "random_servers", lambda many, _: [rush] * many)
    code, out, _ = ninelives("--random", "2", "--stack", "wide.toml")
    head, line = out.splitlines()[:2]

    assert code == Exit.OK
    assert head.split() == ["stack", "mean", "worst", "of"]
    assert line.split()[0] == "current"
    assert float(line.split()[1]) > 0.9


def test_recorded_calls_are_load(ninelives, files):
    clock = VirtualClock()
    sink = JsonLinesSink(files / "calls.jsonl", routine=True)
    stack = Stack("shop", Bulkhead(8), clock=clock, sink=sink, registry=Registry())
    for _ in range(10):
        stack.call(clock.advance, 0.01)
    sink.close()
    code, out, _ = ninelives("--recorded", "calls.jsonl", "-o", "json")
    (result,) = json.loads(out)["results"]

    assert (code, result["totals"]["good"]) == (Exit.OK, 10)


def test_a_client_may_have_a_stack_as_well(ninelives, files):
    text = '[stacks.a]\nexpression = "rate_limit"\nrate_limit = { rate = 100.0 }\n'
    (files / "client.toml").write_text(text, encoding="utf-8")
    _, out, _ = ninelives("rush.toml", "--client", "client.toml", "-o", "json")
    (result,) = json.loads(out)["results"]

    assert result["totals"]["refused"] > 1000
    assert result["amplification"] < 0.5


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ((), Exit.INVALID, "name a scenario, or ask for a --suite; these come with ninelives: a_"),
        (("nothing.toml",), Exit.INVALID, "nothing.toml: can not be read: No such file"),
        (("--suite", "x"), Exit.NOT_FOUND, "there is no suite 'x'; there are: clients, overload"),
        (("rush.toml", "--stack", "x.toml"), Exit.INVALID, "x.toml: can not be read"),
        (("rush.toml", "--stack", "rush.toml"), Exit.INVALID, "no setting named 'title'"),
        (("rush.toml", "--plot", "a.gif"), Exit.INVALID, "a.gif: must end in .svg or .png"),
        (("rush.toml", "rush.toml", "--plot", "a.svg"), Exit.INVALID, "a picture is of one"),
        (("rush.toml", "--suite", "overload"), Exit.INVALID, "name scenarios, or ask for a"),
        (("--random", "2", "--suite", "overload"), Exit.INVALID, "name scenarios, or ask for a"),
        (("--suite", "overload", "--plot", "a.svg"), Exit.INVALID, "go with single scenarios"),
        (("--recorded", "x.jsonl"), Exit.INVALID, "x.jsonl: can not be read"),
    ],
)
def test_what_is_wrong_is_one_line(ninelives, args, code, said):
    ended, _, err = ninelives(*args)

    assert ended == code
    assert said in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
