"""Try policies on a server that is not there: the shipped classes in virtual time.

    scenario = load("step_2x").with_stacks(stack=file_source(Path("ninelives.toml")))
    result = simulate(scenario, seed=1)
    print(result.goodput(5.0, 20.0), result.latency().p99)

A simulation is one more driver of the machine that also the interceptors drive: stacks are compiled
by `Stack`, gates admit, refuse and let wait, retries pay from their budgets. Only the server behind
them, its clients and the time are made up. Sensors of the machine say nothing there: `LoadShed`
serves all, and loops that go by the memory or the CPU pause. Nothing here is imported unless it is
asked for.
"""

from __future__ import annotations

from ninelives_grpc.simulation.marks import Mark
from ninelives_grpc.simulation.reading import load, shipped
from ninelives_grpc.simulation.result import Latency, Result, Totals
from ninelives_grpc.simulation.scenario import Scenario
from ninelives_grpc.simulation.sections import Caller, Phase, Server, Service, Traffic
from ninelives_grpc.simulation.source import Made, Source, Stacks, file_source, stack_source
from ninelives_grpc.simulation.world import simulate

__all__ = [
    "Caller",
    "Latency",
    "Made",
    "Mark",
    "Phase",
    "Result",
    "Scenario",
    "Server",
    "Service",
    "Source",
    "Stacks",
    "Totals",
    "Traffic",
    "file_source",
    "load",
    "shipped",
    "simulate",
    "stack_source",
]
