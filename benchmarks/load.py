"""What overload is measured by: calls drawn by chance, the processes that take and make them.

Of each hundred calls the same times are taken by work, lognormal, in another order: so much chance
would otherwise be in a few seconds that servers could not be told apart by what they get done.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rushed import PLACES, Happening

SERVICE, SPREAD = 0.04, 0.6
"""Seconds that a call takes on average, and the spread of their logarithm."""
DEADLINE = 0.5
USUAL = 0.7
"""Load when nothing is wrong, as a share of what the server can do."""
BEFORE, AFTER = 3.0, 3.0
"""Seconds of it."""
_SETTLING = 2.0
"""Seconds in which all processes get ready."""
_TICK, _CLEAN = 0.1, 5

Calls = list[list[float]]
"""When each is due, and how long it is to take."""


class Ended(NamedTuple):
    """What became of a call, in seconds from the begin.

    Attributes:
        due: When it was to be made.
        sent: When it was.
        ended: When it was over.
        code: How.
        waited: Whether it was in a queue before it was refused.
    """

    due: float
    sent: float
    ended: float
    code: str
    waited: bool

    @property
    def good(self) -> bool:
        """Whether it was served within its deadline."""
        return self.code == "OK" and self.ended - self.due <= DEADLINE


class Run(NamedTuple):
    """What a run showed.

    Attributes:
        calls: What became of them.
        came: Attempts that came to the server during each thing that happened.
        cpu: Seconds of it that the server's process took.
    """

    calls: list[Ended]
    came: list[int]
    cpu: float


def drawn(chance: random.Random) -> Iterator[float]:
    """Draw how long calls take."""
    spread = statistics.NormalDist(0.0, SPREAD)
    times = [math.exp(spread.inv_cdf((number + 0.5) / 100.0)) for number in range(100)]
    factor = SERVICE / statistics.mean(times)
    while True:
        chance.shuffle(times)
        yield from [each * factor for each in times]


def calls_of(phases: Iterable[tuple[float, float]], seed: int) -> Calls:
    """Draw when calls come, for seconds and calls a second, one after the other."""
    chance = random.Random(f"{seed} calls")
    took = drawn(random.Random(f"{seed} services"))
    calls, begin = [], 0.0
    for seconds, rate in phases:
        at = begin
        begin += seconds
        while (at := at + chance.expovariate(rate)) < begin:
            calls.append([at, next(took)])
    return calls


def _cores(program: str) -> set[int]:
    """Return the cores of a program: the first is for servers, and the others are for load.

    Load takes as much as the server, and would otherwise take it from it.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    return {first} if program == "rushed.py" else set(others) or {first}


@contextlib.contextmanager
def process(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start one of the other programs, on cores of its own."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name(program)), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(started.pid, _cores(program))
        try:
            yield started
        finally:
            started.kill()


def tell(started: subprocess.Popen[str], what: object) -> None:
    """Give a process a line."""
    assert started.stdin is not None
    started.stdin.write(json.dumps(what) + "\n")
    started.stdin.flush()


def line(started: subprocess.Popen[str]) -> Any:
    """Read one from it."""
    assert started.stdout is not None
    return json.loads(started.stdout.readline())


def capacity(side: str, seconds: float = 3.0, *, computes: bool = False) -> float:
    """Measure the calls a second that a server without limits does when it is kept busy.

    That is less than its places allow by what gRPC takes, and by how long sleeps last.
    """
    took = drawn(random.Random(1))
    calls = [next(took) for _ in range(int(4.0 * seconds * PLACES / SERVICE))]
    with process("rushed.py", side, "nothing") as server:
        port = line(server)
        tell(server, [0.0, [Happening(math.inf, computes=computes)]])
        with process("rush.py", f"127.0.0.1:{port}") as load:
            tell(load, {"keep_busy": 2 * PLACES, "seconds": seconds, "calls": calls})
            return sum(line(load)) / (SERVICE * seconds)  # type: ignore[no-any-return]


def run(server: tuple[str, str], happens: Sequence[Happening], calls: Calls, *clients: str) -> Run:
    """Send calls to a server of its own, all at their time.

    Args:
        server: Its side and variant.
        happens: What happens, one after the other.
        calls: The calls.
        clients: Who makes them, a program and its arguments; by default `rush.py`.
    """
    program, *arguments = clients or ("rush.py",)
    with process("rushed.py", *server) as serving:
        port = line(serving)
        with process(program, f"127.0.0.1:{port}", *arguments) as load:
            begin = time.monotonic() + _SETTLING
            tell(serving, [begin, happens])
            tell(load, {"begin": begin, "deadline": DEADLINE, "calls": calls})
            made = line(load)
        assert serving.stdin is not None
        serving.stdin.close()
        came, cpu = line(serving)
    ended = [
        Ended(due, sent - begin, over - begin, code, waited)
        for (due, _), (sent, over, code, waited) in zip(calls, made, strict=True)
    ]
    return Run(ended, came, cpu)


def at_share(values: Sequence[float], share: float) -> float:
    """Return the value that so many are not above; nan if there is none."""
    return sorted(values)[int(share * (len(values) - 1))] if values else math.nan


def back_after(bad: Iterable[float], end: float, seconds: float) -> float:
    """Return how long after the end the last call was not served, before half a second of none.

    Args:
        bad: When calls ended that were not served.
        end: When the overload was over.
        seconds: How long it was looked at after that; infinity is returned if it took longer.
    """
    ticks = {int((at - end) / _TICK) for at in bad if at >= end}
    back = 0
    for tick in range(round(seconds / _TICK)):
        if tick in ticks:
            back = tick + 1
        elif tick + 1 - back >= _CLEAN:
            return back * _TICK
    return math.inf
