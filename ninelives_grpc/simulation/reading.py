"""Read a scenario from TOML, and say all that is wrong with it.

    title = "Twice the load that can be served"

    [service]
    kind = "lognormal"
    mean = 0.02

    [server]
    workers = 16

    [stack]
    expression = "concurrency_limit"

    [[phases]]
    seconds = 5.0
    load = 0.7

    [[phases]]
    seconds = 10.0
    load = 2.0

    [[marks]]
    of = "goodput"
    phase = 2
    at_least = 0.985

`[stack]` protects the server and `[client]` each client: both are written as a stack of
`ninelives.toml`. `[traffic]` says who calls, and `[[callers]]` of what kinds the calls are.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ninelives_grpc.clock import MONOTONIC
from ninelives_grpc.config import read
from ninelives_grpc.config.problems import Problems
from ninelives_grpc.config.values import make, mistakes, others, table
from ninelives_grpc.errors import ConfigError
from ninelives_grpc.simulation.marks import Mark
from ninelives_grpc.simulation.scenario import Scenario
from ninelives_grpc.simulation.sections import Caller, Phase, Section, Server, Service, Traffic
from ninelives_grpc.simulation.source import Source, stack_source

if TYPE_CHECKING:
    from collections.abc import Mapping

S = TypeVar("S", bound=Section)

_TOP = (
    "title",
    "suites",
    "service",
    "server",
    "traffic",
    "stack",
    "client",
    "callers",
    "phases",
    "marks",
)
SHIPPED = Path(__file__).parent / "scenarios"
"""Where the scenarios are that come with the package."""


def load(path: str | Path, *, recorded: bool = False) -> Scenario:
    """Read a scenario from a file, or one that comes with the package by its name.

    Args:
        path: A `.toml` or `.json` file, or the name of a shipped scenario, such as `step_2x`.
        recorded: Whether recorded calls take the place of the phases, which may be missing then.

    Raises:
        ConfigError: Something in it is wrong: names the file and field, and says what is allowed.
    """
    file = Path(path)
    if not file.suffix and not file.exists():
        file = SHIPPED / f"{path}.toml"
        if not file.exists():
            known = ", ".join(shipped())
            msg = f"there is no such file, nor a shipped scenario of that name: {known}"
            raise ConfigError(msg, path=str(path))
    problems = Problems()
    scenario = parse(read(file), file.stem, str(file), problems, recorded=recorded)
    problems.check()
    return scenario


def shipped(suite: str | None = None) -> list[str]:
    """Return the names of the scenarios that come with the package: all, or those of a suite."""
    names = sorted(file.stem for file in SHIPPED.glob("*.toml"))
    return [name for name in names if suite is None or suite in load(name).suites]


def parse(
    data: object, name: str, where: str, problems: Problems, *, recorded: bool = False
) -> Scenario:
    """Read a scenario from plain values, and go on where something is wrong.

    Args:
        data: What stands in the file.
        name: What the scenario is called.
        where: The file.
        problems: Takes what is wrong; when there is anything, the scenario is not to be used.
        recorded: Whether it may go without phases.
    """
    reader = _Reader(where, problems)
    top = reader.table(data, where)
    problems.found.extend(others(top, _TOP, where))
    phases = reader.sections(Phase, top, "phases")
    if not top.get("phases") and not recorded:
        problems.add(ConfigError("needs [[phases]], each with its seconds", path=where))
    scenario = Scenario(
        name=name,
        title=reader.text(top, "title"),
        suites=tuple(reader.texts(top, "suites")),
        service=reader.section(Service, top, "service") or Service(),
        server=reader.section(Server, top, "server") or Server(),
        traffic=reader.section(Traffic, top, "traffic") or Traffic(),
        callers=tuple(reader.sections(Caller, top, "callers")) or (Caller(),),
        phases=tuple(phases),
        marks=tuple(reader.sections(Mark, top, "marks")),
        stack=reader.stack(top, "stack"),
        client=reader.stack(top, "client"),
    )
    _check(scenario, where, problems)
    return scenario


def _check(scenario: Scenario, where: str, problems: Problems) -> None:
    """Look at what only the whole shows."""
    names = [caller.label for caller in scenario.callers]
    for number, mark in enumerate(scenario.marks, 1):
        path = f"{where}: marks[{number}]"
        if mark.phase is not None and mark.phase > len(scenario.phases):
            msg = f"there are {len(scenario.phases)} phases only, not {mark.phase}"
            problems.add(ConfigError(msg, path=f"{path}.phase"))
        if mark.caller is not None and mark.caller not in names:
            msg = f"must be one of the callers {', '.join(names)}, not {mark.caller!r}"
            problems.add(ConfigError(msg, path=f"{path}.caller"))
    if not sum(caller.share for caller in scenario.callers):
        msg = "need a share above 0, at least one of them"
        problems.add(ConfigError(msg, path=f"{where}: callers"))


@dataclasses.dataclass(frozen=True, slots=True)
class _Reader:
    where: str
    problems: Problems

    def table(self, value: object, path: str) -> Mapping[str, Any]:
        with self.problems.noted():
            return table(value, path)
        return {}

    def section(self, kind: type[S], top: Mapping[str, Any], name: str) -> S | None:
        if name not in top:
            return None
        return self._made(kind, top[name], f"{self.where}: {name}")

    def sections(self, kind: type[S], top: Mapping[str, Any], name: str) -> list[S]:
        path, values = f"{self.where}: {name}", top.get(name, [])
        if not isinstance(values, list):
            self.problems.add(ConfigError(f"must be a list, as [[{name}]] makes it", path=path))
            return []
        made = [self._made(kind, each, f"{path}[{n}]") for n, each in enumerate(values, 1)]
        return [each for each in made if each is not None]

    def _made(self, kind: type[S], value: object, path: str) -> S | None:
        values = self.table(value, path)
        found = list(mistakes(kind, values, path))
        self.problems.found.extend(found)
        if not found:
            with self.problems.noted():
                return make(kind, values, path)
        return None

    def stack(self, top: Mapping[str, Any], name: str) -> Source | None:
        if name not in top:
            return None
        path = f"{self.where}: {name}"
        source: Source | None = None
        with self.problems.noted():
            source = stack_source(table(top[name], path), path, name)
            try:
                source.build(MONOTONIC)
            except ConfigError as error:
                # There is one stack, and the file does not call it so.
                place = error.path.replace(f"{path}: stacks.{name}", path)
                raise ConfigError(error.message, path=place) from None
        return source

    def text(self, top: Mapping[str, Any], name: str) -> str:
        value = top.get(name, "")
        if not isinstance(value, str):
            path = f"{self.where}: {name}"
            self.problems.add(ConfigError(f"must be a text, not {value!r}", path=path))
            return ""
        return value

    def texts(self, top: Mapping[str, Any], name: str) -> list[str]:
        value = top.get(name, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            path = f"{self.where}: {name}"
            self.problems.add(ConfigError(f"must be a list of texts, not {value!r}", path=path))
            return []
        return value
