"""Where the stacks of a simulation come from: a configuration, built anew for each run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ninelives_grpc.config import read
from ninelives_grpc.config.builder import Builder
from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ninelives_grpc.clock import Clock
    from ninelives_grpc.routes import Routes


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
        builder = Builder(self.data, self.where, {}, clock=clock)
        builder.problems.check()
        if not builder.stacks:
            raise ConfigError("has no stack to simulate", path=self.where)
        return builder.routes


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
