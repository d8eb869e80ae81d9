"""Recorded traffic as the load of a simulation: when calls came, and how long they took.

It is read from JSON lines, as a `JsonLinesSink` with `routine=True` writes them, and from the file
of a flight recorder. Every call that ended tells when that was and how long it took; from that
follows when it came.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeGuard

from ninelives_grpc.errors import ConfigError
from ninelives_grpc.flight_recorder import read
from ninelives_grpc.simulation.sections import LONGEST, Caller, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ninelives_grpc.simulation.scenario import Scenario

_ANSWERED = "RequestSucceeded"
_ENDED = (_ANSWERED, "RequestFailed")
_SHORTEST = 1e-6
"""Seconds that a call takes at least on average."""
_LONGEST = 86_400.0
"""Seconds that a call can have taken."""


def replay(scenario: Scenario, path: Path, *, durations: bool = True) -> Scenario:
    """Return a scenario with the load of recorded calls in place of its own.

    It lasts as long as the recording. What the phases say of the server holds in the same order,
    as long as each lasts; the last one lasts until the end.

    Args:
        scenario: What is said of the server, of deadlines and of marks.
        path: JSON lines, or the file of a flight recorder.
        durations: Whether a call keeps a worker as long as the recorded one took. It is the whole
            time from request to answer: a recording of a server that had calls waiting makes each
            too long, and then the scenario's `[service]` says it better.

    Raises:
        ConfigError: It can not be read, or no call ended in it.
    """
    calls = sorted(_calls(_events(path)))
    if not calls:
        msg = "holds no call that ended: record routine events too, JsonLinesSink(routine=True)"
        raise ConfigError(msg, path=str(path))
    begin = calls[0][0]
    methods = list(dict.fromkeys(method for _, method, _ in calls))
    arrivals = tuple(
        (at - begin, methods.index(method), took if durations else 0.0)
        for at, method, took in calls
    )
    if arrivals[-1][0] > LONGEST:
        days = arrivals[-1][0] / 86_400.0
        msg = f"goes over {days:.0f} days: a simulation goes over {LONGEST / 86_400.0:.0f} at most"
        raise ConfigError(msg, path=str(path))
    answered = [took for _, _, took in calls if took and durations]
    mean = sum(answered) / len(answered) if answered else scenario.service.mean
    return dataclasses.replace(
        scenario,
        callers=_callers(scenario, methods),
        arrivals=arrivals,
        phases=_until(arrivals[-1][0], scenario.phases or (Phase(seconds=1.0),)),
        service=dataclasses.replace(scenario.service, mean=max(mean, _SHORTEST)),
        traffic=dataclasses.replace(scenario.traffic, think=None),
    )


def _callers(scenario: Scenario, methods: list[str]) -> tuple[Caller, ...]:
    """Return a caller for each method, with what the scenario says of it."""
    known = {caller.method: caller for caller in scenario.callers}
    return tuple(
        dataclasses.replace(known[method], share=1.0) if method in known else Caller(method=method)
        for method in methods
    )


def _until(end: float, phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
    """Have the last phase end just after the last call has come."""
    before = sum(phase.seconds for phase in phases[:-1])
    rest = max(end - before, 0.0) + 0.001
    return (*phases[:-1], dataclasses.replace(phases[-1], seconds=rest))


def _calls(events: Iterable[dict[str, Any]]) -> Iterator[tuple[float, str, float]]:
    """Go through when calls came, their methods, and how long those took that were answered."""
    for event in events:
        details = event.get("details")
        duration = details.get("duration") if isinstance(details, dict) else None
        name, method = event.get("event"), event.get("method")
        if name not in _ENDED or not _is_method(method) or not _is_time(duration):
            continue
        try:
            ended = datetime.fromisoformat(str(event.get("time"))).timestamp()
        except (ValueError, OverflowError):
            continue
        yield ended - duration, method, float(duration) if name == _ANSWERED else 0.0


def _is_method(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and "/" in value


def _is_time(value: object) -> TypeGuard[float]:
    """Tell whether a call can have taken so many seconds."""
    return isinstance(value, int | float) and 0.0 <= value <= _LONGEST


def _events(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            if not file.read(256).lstrip().startswith(b"{"):
                yield from (recorded.fields for recorded in read(path).events)
                return
            file.seek(0)
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _event(line, f"{path}:{number}")
    except OSError as error:
        raise ConfigError(f"can not be read: {error.strerror}", path=str(path)) from None


def _event(line: bytes, where: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise ConfigError("is no JSON object on one line", path=where)
    return event
