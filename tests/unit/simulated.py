"""The base server of the overload scenarios, in virtual time, behind some stack."""

from ninelives_grpc.simulation import Phase, Scenario, simulate, stack_source

BEFORE = 5.0
USUAL = Phase(seconds=BEFORE, load=0.7)


def source(expression, **settings):
    """Return a stack as a configuration has it: `source("bulkhead", bulkhead={...})`."""
    return stack_source({"expression": expression, **settings}, "test")


def scenario(*phases, stack=None, **given):
    return Scenario(name="test", phases=phases, stack=stack, **given)


def run(*phases, stack=None, seed=1, **given):
    return simulate(scenario(*phases, stack=stack, **given), seed)


def all_ended(result):
    """Tell whether every call that was made has ended in exactly one way."""
    totals = result.totals()
    ended = totals.good + totals.late + totals.refused + totals.failed
    last = result.samples[-1]
    return ended == totals.offered and (last.in_flight, last.queued) == (0, 0)
