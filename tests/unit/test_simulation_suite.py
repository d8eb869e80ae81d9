"""Stacks are compared over scenarios and random servers, and drawn beside each other."""

import multiprocessing
import os
import signal
import sys
import time

import pytest

from ninelives_grpc.errors import ConfigError, MissingExtraError
from ninelives_grpc.simulation import Mark, Phase, Server, simulate
from ninelives_grpc.simulation.plot import plot
from ninelives_grpc.simulation.processes import in_processes
from ninelives_grpc.simulation.random_servers import random_servers
from ninelives_grpc.simulation.report import summaries
from ninelives_grpc.simulation.suite import candidates, run_suite
from tests.unit.simulated import USUAL, run, scenario, source

PHASES = (Phase(seconds=1.0, load=0.7), Phase(seconds=2.0, load=2.0))
MARKS = (Mark(phase=2, at_least=0.8), Mark(of="refused", at_least=0.5, needs="tight"))


def stacks(_):
    return {"tight": source("bulkhead", bulkhead={"max_concurrent": 2}), "nothing": None}


def test_a_row_has_the_median_of_each_stack_and_says_what_reached_the_mark():
    goodput, refused = run_suite([scenario(*PHASES, marks=MARKS)], stacks, seeds=(1, 2, 3))
    each = [
        simulate(scenario(*PHASES, stack=stacks(None)["tight"]), seed).goodput(1.0, 3.0)
        for seed in (1, 2, 3)
    ]

    assert goodput.values["tight"] == sorted(each)[1]
    assert (goodput.reached("tight"), goodput.reached("nothing")) == (False, False)
    assert (refused.reached("tight"), refused.reached("nothing")) == (True, None)


def test_processes_find_the_same_as_one():
    told = []
    arguments = ([scenario(*PHASES, marks=MARKS)], stacks)
    alone = run_suite(*arguments, seeds=(1, 2))
    together = run_suite(
        *arguments, seeds=(1, 2), processes=2, progress=lambda *how: told.append(how)
    )

    assert [row.values for row in together] == [row.values for row in alone]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_every_algorithm_is_a_candidate_and_knows_only_what_it_is_told():
    found = candidates(scenario(USUAL, server=Server(workers=200, cores=10)))

    assert {"concurrency_limit", "aimd", "vegas", "gradient2", "envoy", "bulkhead"} <= set(found)
    assert found["bulkhead"].data["stacks"]["server"]["bulkhead"] == {"max_concurrent": 15}
    assert found["nothing"] is None


def test_random_servers_are_the_same_for_a_seed_and_all_different():
    first, again, other = random_servers(8, 1), random_servers(8, 1), random_servers(8, 2)
    titles = [server.title for server in first]

    assert titles == [server.title for server in again]
    assert not set(titles) & {server.title for server in other}
    assert len({server.server.workers for server in first}) > 4


def test_a_summary_is_the_median_of_the_seeds():
    (summary,) = summaries([("tight", scenario(*PHASES, marks=MARKS))], seeds=(1, 2, 3))
    offered = [run(*PHASES, seed=seed).totals().offered for seed in (1, 2, 3)]

    assert summary.totals.offered == sorted(offered)[1]
    assert len(summary.phases) == 2
    assert [mark.of for mark in summary.marks] == ["goodput in phase 2", "refused"]
    assert [mark.wanted for mark in summary.marks] == [">= 0.8", ">= 0.5"]


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_simulations_are_drawn_beside_each_other(tmp_path, ending):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    results = {name: run(*PHASES, stack=stack) for name, stack in stacks(None).items()}
    file = tmp_path / f"picture.{ending}"
    plot(results, file)
    drawn = file.read_bytes()

    assert len(drawn) > 10_000
    assert drawn.startswith(b"<?xml" if ending == "svg" else b"\x89PNG")


def test_without_matplotlib_the_command_to_install_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)

    with pytest.raises(MissingExtraError, match=r'pip install "ninelives-grpc\[plot\]"'):
        plot({}, tmp_path / "picture.svg")


def test_a_picture_is_svg_or_png(tmp_path):
    with pytest.raises(ConfigError, match=r"must end in .svg or .png"):
        plot({}, tmp_path / "picture.gif")


def test_processes_are_ended_when_somebody_has_enough():
    todo = [(scenario(Phase(seconds=1.0, load=0.1)), seed) for seed in range(3)]
    before = set(multiprocessing.active_children())
    results = in_processes(_first_only, todo, 2)
    next(results)
    workers = set(multiprocessing.active_children()) - before

    # The other ones would sleep for an hour.
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)

    assert workers
    assert all(not worker.is_alive() for worker in workers)


def test_a_process_that_is_ended_from_outside_is_told():
    todo = [(scenario(Phase(seconds=1.0, load=0.1)), seed) for seed in range(2)]

    with pytest.raises(ConfigError, match="a process that simulates: ended before it was done"):
        list(in_processes(_ends, todo, 2))


def test_ctrl_c_is_heard_by_who_asked_and_not_by_each_process():
    todo = [(scenario(Phase(seconds=1.0, load=0.1)), seed) for seed in range(2)]
    before = signal.getsignal(signal.SIGINT)

    assert [found for _, found in in_processes(_ignores_interrupts, todo, 2)] == [True, True]
    assert signal.getsignal(signal.SIGINT) is before


def _ignores_interrupts(*_):
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def _first_only(_, seed):
    if seed:
        time.sleep(3600.0)
    return seed


def _ends(*_):
    os._exit(1)
