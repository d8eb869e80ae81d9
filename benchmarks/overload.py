"""What becomes of a server that is sent more than it can do: real calls, beside simulated ones.

    python benchmarks/overload.py [--seconds 10] [--rounds 3] [--sides sync aio] [--only 2x ...]

Server, load and this program are processes of their own. Calls come at random (Poisson), at a rate
that no answer changes, with a deadline; how long each takes is drawn beforehand, and the same calls
come to every server, and to the simulation of it. What a server can do is measured first: by
keeping it busy, without a limit. `rushed.py` has the servers, `rush.py` and `storm.py` the load.

good: replies within their deadline, as a share of min(offered, capacity), while the load is on.
refused: share of the calls; median: of what a refusal took, from when the call was due, in ms; at
once: the same without those who waited. p99: of replies, in ms. back: seconds until all is served
again. late: how late the load itself was, in ms. cpu: cores that the server took. At the end, what
the simulation says of good and back. Storms: attempts for each call while the backend was gone.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from load import (
    AFTER,
    BEFORE,
    SERVICE,
    USUAL,
    Calls,
    Run,
    at_share,
    back_after,
    calls_of,
    capacity,
    run,
)
from rushed import LIMIT, NOTHING, PLACES, QUEUE, SHED, VARIANTS, Happening
from simulated import simulated_rush, simulated_storm
from storm import CALLERS

OUTAGE = 5.0


class Rush(NamedTuple):
    """A scenario: for some seconds, something else than the usual.

    Attributes:
        load: Calls that come, as a share of what the server can do.
        slower: How many times as long they take.
        computes: Whether they take the processor, from begin to end.
    """

    load: float = USUAL
    slower: float = 1.0
    computes: bool = False


class Figures(NamedTuple):
    """What is to be said of a run."""

    good: float
    refused: float
    median: float
    at_once: float
    p99: float
    back: float
    late: float
    cpu: float
    sim_good: float
    sim_back: float


class Storm(NamedTuple):
    """What is to be said of clients that retry."""

    attempts: float
    back: float
    good_after: float
    sim_attempts: float
    sim_back: float


RUSHES = {
    "2x": Rush(2.0),
    "5x": Rush(5.0),
    "slower": Rush(slower=2.0),
    "computing": Rush(2.0, computes=True),
}
STORMS = {"dead": Happening(OUTAGE, fails=True), "hung": Happening(OUTAGE, hangs=True)}


# --- more than can be done -----------------------------------------------------------------------


def rush(side: str, variant: str, rush: Rush, seconds: float, most: float, calls: Calls) -> Figures:
    """Send a server the calls, and simulate it; `most` is the calls a second that it can do."""
    happens = [
        Happening(length, slower, computes=rush.computes)
        for length, slower in ((BEFORE, 1.0), (seconds, rush.slower), (AFTER, 1.0))
    ]
    shown = run((side, variant), happens, calls)
    begin, end = BEFORE, BEFORE + seconds
    offered = [call for call in shown.calls if begin <= call.due < end]
    good = [call for call in shown.calls if call.good and begin <= call.ended < end]
    refused = [call for call in offered if call.code == "RESOURCE_EXHAUSTED"]
    refusals = [call.ended - call.due for call in refused]
    at_once = [call.ended - call.due for call in refused if not call.waited]
    return Figures(
        len(good) / min(len(offered), most * seconds / rush.slower),
        len(refusals) / len(offered),
        1e3 * at_share(refusals, 0.5),
        1e3 * at_share(at_once, 0.5),
        1e3 * at_share([call.ended - call.due for call in good], 0.99),
        back(shown, end),
        1e3 * at_share([call.sent - call.due for call in shown.calls], 0.5),
        shown.cpu / (begin + seconds + AFTER),
        *(
            (math.nan, math.nan)
            if rush.computes
            else simulated_rush(variant, rush.slower, seconds, calls)
        ),
    )


def back(shown: Run, end: float) -> float:
    """Return when all calls were served again."""
    return back_after([call.ended for call in shown.calls if not call.good], end, AFTER)


# --- a storm of retries --------------------------------------------------------------------------


def storm(server: tuple[str, str], caller: str, outage: Happening, calls: Calls) -> Storm:
    """Have clients call a server whose backend is gone for a while, and simulate it."""
    happens = [Happening(BEFORE), outage, Happening(AFTER)]
    shown = run(server, happens, calls, "storm.py", caller)
    begin, end = BEFORE, BEFORE + outage.seconds
    made = sum(begin <= call.due < end for call in shown.calls)
    after = [call for call in shown.calls if call.due >= end]
    return Storm(
        shown.came[1] / made,
        back(shown, end),
        sum(call.good for call in after) / len(after),
        *simulated_storm(server[1], caller, outage, calls),
    )


# --- report --------------------------------------------------------------------------------------


def in_turns(
    variants: list[str], rounds: int, of: Callable[[str, int], tuple[float, ...]]
) -> dict[str, list[tuple[float, ...]]]:
    """Measure each variant once a round, beginning with another one in each."""
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in variants}
    for number in range(rounds):
        shift = number % len(variants)
        for name in variants[shift:] + variants[:shift]:
            rows[name].append(figures := of(name, number))
            told = " ".join(f"{each:.3f}" for each in figures)
            print(f"  {number} {name}: {told}", file=sys.stderr, flush=True)
    return rows


def report(title: str, names: tuple[str, ...], rows: dict[str, list[tuple[float, ...]]]) -> None:
    """Print the medians over the rounds."""
    heads = (name.replace("_", " ") for name in names)
    print(f"\n{title}\n  {'':24}" + "".join(f"{name:>13}" for name in heads))
    for name, row in rows.items():
        medians = (statistics.median(values) for values in zip(*row, strict=True))
        print(f"  {name:24}" + "".join(f"{each:13.3f}" for each in medians), flush=True)


def measure(side: str, given: Any) -> None:
    """Measure one side, and print."""
    most = statistics.median(capacity(side) for _ in range(3))
    print(
        f"\n{side}: {most:.0f} calls a second of the {PLACES / SERVICE:.0f} that its places allow"
    )
    for name in given.only:
        if name in RUSHES:
            measure_rush(side, name, most, given)
        else:
            measure_storm(side, name, most, given.rounds)


def measure_rush(side: str, name: str, most: float, given: Any) -> None:
    """Measure what becomes of each server."""
    each, seconds, variants = RUSHES[name], given.seconds, given.variants
    if each.computes:
        most = statistics.median(capacity(side, computes=True) for _ in range(3))
    if each.computes is False or side == "sync":
        # The other servers have no loop, or one that is never behind.
        variants = [variant for variant in variants if variant != SHED]
    loads = (BEFORE, USUAL * most), (seconds, each.load * most), (AFTER, USUAL * most)

    def of(variant: str, number: int) -> Figures:
        return rush(side, variant, each, seconds, most, calls_of(loads, number))

    report(f"{side}, {name}", Figures._fields, in_turns(variants, given.rounds, of))


def measure_storm(side: str, name: str, most: float, rounds: int) -> None:
    """Measure what each kind of client does, to a bare server and to the default one."""
    loads = ((BEFORE + OUTAGE + AFTER, USUAL * most),)
    for server in (NOTHING, QUEUE if side == "sync" else LIMIT):

        def of(caller: str, number: int, server: str = server) -> Storm:
            return storm((side, server), caller, STORMS[name], calls_of(loads, number))

        rows = in_turns(list(CALLERS), rounds, of)
        report(f"{side}, backend {name}, server with {server}", Storm._fields, rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    scenarios = [*RUSHES, *STORMS]
    parser.add_argument("--seconds", type=float, default=10.0, help="of load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", default=["sync", "aio"])
    parser.add_argument("--only", nargs="+", default=scenarios, choices=scenarios)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    given = parser.parse_args()
    for side in given.sides:
        measure(side, given)


if __name__ == "__main__":
    main()
