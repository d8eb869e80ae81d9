"""Many scenarios with many stacks, from many seeds: each value is the median of the seeds."""

from __future__ import annotations

import dataclasses
import statistics
from typing import TYPE_CHECKING, NamedTuple

from ninelives_grpc.config.values import KINDS
from ninelives_grpc.policies.concurrency_limit import Algorithm
from ninelives_grpc.simulation.processes import in_processes, quiet
from ninelives_grpc.simulation.source import stack_source
from ninelives_grpc.simulation.world import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ninelives_grpc.simulation.marks import Mark
    from ninelives_grpc.simulation.scenario import Scenario
    from ninelives_grpc.simulation.source import Stacks

DEFAULT = "concurrency_limit"
"""The candidate that is there when nobody chooses: a `ConcurrencyLimit` with its default values."""
QUEUE = "admission_queue"
NOTHING = "nothing"
STATIC = "bulkhead"
_SPARE = 1.5
"""Places of a static bulkhead, as a multiple of what the server can do at once."""


class Job(NamedTuple):
    """One simulation to make: a scenario, with the stack of a candidate, from a seed."""

    scenario: int
    candidate: str
    seed: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured for one mark of a scenario.

    Attributes:
        scenario: The scenario.
        mark: The mark.
        values: The median of the seeds, by candidate.
    """

    scenario: Scenario
    mark: Mark
    values: dict[str, float]

    def reached(self, candidate: str) -> bool | None:
        """Tell whether a candidate has reached the mark; None where it is not meant for it."""
        if self.mark.needs not in {None, candidate}:
            return None
        return self.mark.reached(self.values[candidate])


def candidates(scenario: Scenario) -> dict[str, Stacks | None]:
    """Return the stacks that a suite compares, by name, as they are before a scenario's server.

    The limits are told nothing of the server; the queue and the static bulkhead are told how many
    calls it can do at once, as whoever writes them knows that.
    """
    found: dict[str, Stacks | None] = {DEFAULT: stack_source({"expression": DEFAULT}, DEFAULT)}
    for algorithm in Algorithm:
        if algorithm is not Algorithm.NL:
            table = {"expression": DEFAULT, DEFAULT: {"algorithm": str(algorithm)}}
            found[str(algorithm)] = stack_source(table, str(algorithm))
    server = scenario.server
    at_once = min(server.workers, server.cores or server.workers)
    if QUEUE in KINDS:
        settings = {"width": at_once, "fair_by": "metadata:x-tenant"}
        found[QUEUE] = stack_source({"expression": QUEUE, QUEUE: settings}, QUEUE)
    settings = {"max_concurrent": round(_SPARE * at_once)}
    found[STATIC] = stack_source({"expression": STATIC, STATIC: settings}, STATIC)
    found[NOTHING] = None
    return found


def run_suite(
    scenarios: Sequence[Scenario],
    stacks: Callable[[Scenario], dict[str, Stacks | None]] = candidates,
    *,
    seeds: Sequence[int] = (1, 2, 3),
    processes: int = 1,
    progress: Callable[[int, int], None] = quiet,
) -> list[Row]:
    """Simulate every scenario with every candidate from every seed.

    Args:
        scenarios: What is to happen; only those with marks give rows.
        stacks: Returns the server's stacks to compare, by name.
        seeds: Where chance begins, each in turn.
        processes: How many to use; 1 simulates here.
        progress: Is told how many simulations are done, and of how many.

    Raises:
        ConfigError: A stack can not be built or simulated.
    """
    sources = [stacks(scenario) for scenario in scenarios]
    jobs = [
        Job(number, candidate, seed)
        for number, scenario in enumerate(scenarios)
        if scenario.marks
        for candidate in sources[number]
        for seed in seeds
    ]
    # The longest first, so that no process is left alone with one at the end.
    jobs.sort(key=lambda job: -_arrivals(scenarios[job.scenario]))
    todo = [
        (scenarios[job.scenario].with_stacks(stack=sources[job.scenario][job.candidate]), job.seed)
        for job in jobs
    ]
    measured: dict[Job, list[float]] = {}
    for number, values in in_processes(measure, todo, processes):
        measured[jobs[number]] = values
        progress(len(measured), len(jobs))
    return [
        Row(
            scenario=scenario,
            mark=mark,
            values={
                name: statistics.median(measured[Job(number, name, seed)][index] for seed in seeds)
                for name in sources[number]
            },
        )
        for number, scenario in enumerate(scenarios)
        for index, mark in enumerate(scenario.marks)
    ]


def measure(scenario: Scenario, seed: int) -> list[float]:
    """Simulate a scenario, and return what its marks are about."""
    result = simulate(scenario, seed)
    return [result.measure(mark) for mark in scenario.marks]


def _arrivals(scenario: Scenario) -> float:
    """Return roughly how many calls there will be."""
    return scenario.capacity * sum(
        phase.seconds * max(phase.load, phase.load_after or 0.0) for phase in scenario.phases
    )
