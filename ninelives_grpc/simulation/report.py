"""What is to be said of a scenario under one stack: the medians of some seeds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ninelives_grpc.simulation.processes import in_processes, quiet
from ninelives_grpc.simulation.result import Latency, Totals
from ninelives_grpc.simulation.world import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ninelives_grpc.simulation.result import Result
    from ninelives_grpc.simulation.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A mark, and what came of it.

    Attributes:
        of: What it is about, with phase and caller.
        wanted: What is good, such as ">= 0.98".
        value: What was measured.
        reached: Whether that is good.
    """

    of: str
    wanted: str
    value: float
    reached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A whole scenario under one stack.

    Attributes:
        scenario: Its name.
        stack: What the stack is called in the comparison.
        totals: The calls.
        goodput: Answers in time, as a share of what was possible.
        amplification: Attempts a call.
        latency: How long answers took.
        phases: Goodput of each phase.
        callers: Share of the calls of each kind that was answered in time, by name.
        marks: What is to be reached, and whether it was.
    """

    scenario: str
    stack: str
    totals: Totals
    goodput: float
    amplification: float
    latency: Latency
    phases: tuple[float, ...]
    callers: dict[str, float]
    marks: tuple[Measured, ...]


def summaries(
    scenarios: Sequence[tuple[str, Scenario]],
    *,
    seeds: Sequence[int] = (1, 2, 3),
    processes: int = 1,
    progress: Callable[[int, int], None] = quiet,
) -> list[Summary]:
    """Simulate each scenario from each seed, and return the medians.

    Args:
        scenarios: Each with what its stack is called.
        seeds: Where chance begins, each in turn.
        processes: How many to use; 1 simulates here.
        progress: Is told how many simulations are done, and of how many.

    Raises:
        ConfigError: A stack can not be built or simulated.
    """
    todo = [(scenario, seed) for _, scenario in scenarios for seed in seeds]
    found: dict[int, Summary] = {}
    for number, summary in in_processes(_summary_of, todo, processes):
        found[number] = summary
        progress(len(found), len(todo))
    many = len(seeds)
    return [
        _median(name, [found[number * many + each] for each in range(many)])
        for number, (name, _) in enumerate(scenarios)
    ]


def _summary_of(scenario: Scenario, seed: int) -> Summary:
    return summary(simulate(scenario, seed))


def summary(result: Result, stack: str = "") -> Summary:
    """Return what is to be said of one simulation."""
    scenario = result.scenario
    begins = (0.0, *scenario.ends[:-1])
    return Summary(
        scenario=scenario.name,
        stack=stack,
        totals=result.totals(),
        goodput=result.goodput(),
        amplification=result.amplification(),
        latency=result.latency(),
        phases=tuple(
            result.goodput(begin, end) for begin, end in zip(begins, scenario.ends, strict=True)
        ),
        callers={caller.label: _served(result, caller.label) for caller in scenario.callers},
        marks=tuple(_measured(result, number) for number in range(len(scenario.marks))),
    )


def _served(result: Result, caller: str) -> float:
    totals = result.totals(caller=caller)
    return totals.good / totals.offered if totals.offered else 1.0


def _measured(result: Result, number: int) -> Measured:
    mark = result.scenario.marks[number]
    value = result.measure(mark)
    return Measured(of=mark.about(), wanted=mark.wanted(), value=value, reached=mark.reached(value))


def _median(stack: str, each: Sequence[Summary]) -> Summary:
    """Return the medians, number by number."""
    first = each[0]
    marks = []
    for number, mark in enumerate(first.marks):
        values = sorted((one.marks[number].value, one.marks[number].reached) for one in each)
        value, reached = values[(len(values) - 1) // 2]
        marks.append(Measured(of=mark.of, wanted=mark.wanted, value=value, reached=reached))
    return Summary(
        scenario=first.scenario,
        stack=stack,
        totals=Totals(
            offered=_middle(one.totals.offered for one in each),
            good=_middle(one.totals.good for one in each),
            late=_middle(one.totals.late for one in each),
            refused=_middle(one.totals.refused for one in each),
            failed=_middle(one.totals.failed for one in each),
        ),
        goodput=statistics.median(one.goodput for one in each),
        amplification=statistics.median(one.amplification for one in each),
        latency=Latency(
            mean=statistics.median(one.latency.mean for one in each),
            p50=statistics.median(one.latency.p50 for one in each),
            p99=statistics.median(one.latency.p99 for one in each),
            most=statistics.median(one.latency.most for one in each),
        ),
        phases=tuple(
            statistics.median(values) for values in zip(*(one.phases for one in each), strict=True)
        ),
        callers={
            name: statistics.median(one.callers[name] for one in each) for name in first.callers
        },
        marks=tuple(marks),
    )


def _middle(values: Iterable[int]) -> int:
    return statistics.median_low(values)
