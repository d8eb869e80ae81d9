"""Where the stacks of a simulation come from: a configuration, built anew for each run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ninelives_grpc.config import read
from ninelives_grpc.config.builder import Builder
from ninelives_grpc.config.values import GAUGES
from ninelives_grpc.errors import ConfigError
from ninelives_grpc.routes import client_routes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ninelives_grpc.clock import Clock
    from ninelives_grpc.routes import Routes
    from ninelives_grpc.stacks.stack import Stack


class Stacks(Protocol):
    """Builds stacks for one run.

    A run begins with no state, so they are built anew each time, on the clock of the simulation. To
    be simulated in other processes it can be pickled.
    """

    def build(self, clock: Clock) -> Routes:
        """Return new stacks, and which of them protects which method."""
        ...


@dataclass(frozen=True, slots=True)
class Made:
    """Stacks that a function makes: `Made(shop)`.

    Give the stacks a registry of their own: `registry=Registry()`.

    Attributes:
        make: Returns a stack, or routes to several; of a module, where processes are used.
    """

    make: Callable[[Clock], Stack | Routes]

    def build(self, clock: Clock) -> Routes:
        """Call the function."""
        return client_routes(self.make(clock))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A configuration, as `ninelives_grpc.config` reads it.

    Attributes:
        data: Its stacks, routes and budgets, in plain values.
        where: What its mistakes are told of: a file, or a section of one.
    """

    data: Mapping[str, Any]
    where: str

    def build(self, clock: Clock) -> Routes:
        """Make its stacks, with no state yet, on a clock.

        Raises:
            ConfigError: Something in it is wrong.
        """
        # What sensors say is of the machine that simulates, and not of the server.
        builder = Builder(self.data, self.where, {}, dict.fromkeys(GAUGES, _unknown), clock=clock)
        builder.problems.check()
        if not builder.stacks:
            raise ConfigError("has no stack to simulate", path=self.where)
        return builder.routes


def _unknown() -> None:
    """Say nothing, in place of a sensor."""


def file_source(path: Path) -> Source:
    """Return the source that a configuration file is.

    Raises:
        ConfigError: It can not be read, or is no table.
    """
    data = read(path)
    if not isinstance(data, dict):
        raise ConfigError(f"must be a table, not {data!r}", path=str(path))
    return Source(data=data, where=str(path))


def stack_source(table: Mapping[str, Any], where: str, name: str = "server") -> Source:
    """Return the source that one stack is, from the table that describes it."""
    return Source(data={"stacks": {name: dict(table)}, "routes": {"*": name}}, where=where)
