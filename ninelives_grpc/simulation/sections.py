"""The sections of a scenario: how long calls take, the server, who calls, and the phases.

Each is a frozen dataclass of parameters, with bounds and units, as policies are: so a file is read,
and its mistakes are told, in the same way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import StrEnum

from ninelives_grpc.errors import ConfigError
from ninelives_grpc.parameters import option, parameter, policy, validated
from ninelives_grpc.priority import PRIORITY_KEY, Priority

METHOD = "shop.v1.Prices/Get"
"""What is called when a scenario does not say."""
LONGEST = 1e6
"""Seconds that a phase lasts at most."""


class Kind(StrEnum):
    """How the time that one call takes is distributed."""

    LOGNORMAL = "lognormal"
    EXPONENTIAL = "exponential"
    FIXED = "fixed"
    PARETO = "pareto"


class QueueOrder(StrEnum):
    """Which of the calls before the workers is next."""

    FIFO = "fifo"
    LIFO = "lifo"


@policy
class Section:
    """A part of a scenario; its values are checked when it is made."""

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigError: One is not allowed; names the field and what is.
        """
        validated(self, type(self).__name__)
        problem = self.conflict()
        if problem:
            raise ConfigError(problem, path=type(self).__name__)

    def conflict(self) -> str:
        """Say which values do not go together, or return ""."""
        return ""

    def __repr__(self) -> str:
        """Show what differs from the default."""
        fields = dataclasses.fields(self)
        shown = {each.name: getattr(self, each.name) for each in fields}
        changed = (
            f"{each.name}={shown[each.name]!r}"
            for each in fields
            if shown[each.name] != each.default
        )
        return f"{type(self).__name__}({', '.join(changed)})"


@policy
class Service(Section):
    """How long one call takes a worker.

    Args:
        kind: `lognormal`, `exponential`, `fixed` or `pareto`.
        mean: Seconds on average.
        sigma: `lognormal`: spread of the logarithm.
        alpha: `pareto`: how heavy the tail is; the lower, the heavier.
    """

    kind: Kind = parameter(default=Kind.LOGNORMAL, doc="How it is distributed.")
    mean: float = parameter(
        default=0.02, low=1e-6, high=3600.0, unit="seconds", doc="Time that a call takes."
    )
    sigma: float = parameter(default=0.6, low=0.0, high=5.0, doc="Spread of the logarithm.")
    alpha: float = parameter(default=2.0, low=1.05, high=100.0, doc="How light the tail is.")


@policy
class Server(Section):
    """A server: workers, and a queue in front of them.

    Args:
        workers: Calls that are worked on at once.
        cores: Processors that the workers share, when they are threads that compute: with more
            calls than cores each is the slower. None gives every worker its own.
        switching: What is lost by sharing, as a share for each call a core has beyond one.
        order: Which of the calls that wait for a worker is next.
        refusal: Seconds of a worker that a refusal takes.
        skips_expired: Whether a call whose deadline is over is given up before work on it begins.
    """

    workers: int = parameter(
        default=16, low=1, high=1_000_000, unit="calls", doc="Calls worked on at once."
    )
    cores: int | None = parameter(
        default=None, low=1, high=100_000, unit="cores", doc="Processors that workers share."
    )
    switching: float = parameter(
        default=0.0, low=0.0, high=1.0, unit="ratio", doc="What sharing a core costs."
    )
    order: QueueOrder = parameter(default=QueueOrder.FIFO, doc="Who waiting for a worker is next.")
    refusal: float = parameter(
        default=0.0002, low=0.0, high=60.0, unit="seconds", doc="Work that a refusal takes."
    )
    skips_expired: bool = parameter(default=False, doc="Whether expired calls are not begun.")


@policy
class Traffic(Section):
    """Who calls.

    Args:
        deadline: Seconds that a caller waits for an answer, or None.
        clients: Processes that call, each with a client stack of its own where there is one.
        think: Seconds on average between an answer and a client's next call; None lets calls come
            at random (Poisson), whatever becomes of them, at the load of the phase.
    """

    deadline: float | None = parameter(
        default=0.25, low=0.0001, high=86_400.0, unit="seconds", doc="How long a caller waits."
    )
    clients: int = parameter(
        default=1, low=1, high=10_000, unit="clients", doc="Processes that call."
    )
    think: float | None = parameter(
        default=None, low=0.0, high=3600.0, unit="seconds", doc="Pause between two calls."
    )


@policy
class Caller(Section):
    """Some of the calls: of a method, a class or a tenant.

    Args:
        name: What they are called in the report; by default the method.
        method: `package.Service/Method`.
        share: How many of all calls they are, as compared with the shares of the others.
        slower: How many times as long they take.
        deadline: Seconds, in place of the traffic's.
        priority: Class that they say in `x-ninelives-priority`.
        metadata: Other metadata that they bring.
    """

    share: float = parameter(default=1.0, low=0.0, high=1e9, doc="How many, as compared.")
    slower: float = parameter(default=1.0, low=0.001, high=1000.0, doc="Times as long.")
    deadline: float | None = parameter(
        default=None, low=0.0001, high=86_400.0, unit="seconds", doc="How long they wait."
    )
    method: str = option(default=METHOD)
    name: str = option(default="")
    priority: str | None = option(default=None)
    metadata: Mapping[str, str] | None = option(default=None)

    def conflict(self) -> str:
        """Say which option is not of the kind that is expected."""
        if not isinstance(self.method, str) or "/" not in self.method:
            return f"method must be package.Service/Method, not {self.method!r}"
        if not isinstance(self.name, str):
            return f"name must be a text, not {self.name!r}"
        known = [each.name.lower() for each in Priority]
        if self.priority is not None and self.priority not in known:
            return f"priority must be one of {', '.join(known)}, not {self.priority!r}"
        pairs = {} if self.metadata is None else self.metadata
        if not isinstance(pairs, dict) or not all(isinstance(each, str) for each in pairs.values()):
            return f"metadata must be a table of texts, not {self.metadata!r}"
        return ""

    @property
    def label(self) -> str:
        """What the calls are called."""
        return self.name or self.method

    def pairs(self) -> tuple[tuple[str, str | bytes], ...] | None:
        """Return the metadata of such a call."""
        pairs: list[tuple[str, str | bytes]] = list((self.metadata or {}).items())
        if self.priority is not None:
            pairs.append((PRIORITY_KEY, self.priority))
        return tuple(pairs) or None


@policy
class Phase(Section):
    """Some seconds in which load and server are as described.

    Args:
        seconds: How long it lasts.
        load: Calls that come, as a share of what the server can do at first.
        load_after: The same at its end, if it grows or falls.
        burst_load: The same in bursts.
        burst_every: Seconds from one burst to the next.
        burst_seconds: How long one lasts.
        slower: How many times as long a worker takes.
        workers: How many there are, in place of the server's.
        added: Seconds that an answer is on its way beyond what the worker takes.
        stalled: Whether all work stands still.
        dead: Whether the server is gone: every call fails at once.
        errors: Share of the calls that fail after their work.
        flap_every: Seconds after which it turns good or bad again; `slower` and `workers` hold
            while it is bad.
    """

    seconds: float = parameter(low=0.001, high=LONGEST, unit="seconds", doc="How long it lasts.")
    load: float = parameter(default=1.0, low=0.0, high=1000.0, unit="ratio", doc="Calls that come.")
    load_after: float | None = parameter(
        default=None, low=0.0, high=1000.0, unit="ratio", doc="Calls that come at its end."
    )
    burst_load: float | None = parameter(
        default=None, low=0.0, high=1000.0, unit="ratio", doc="Calls that come in bursts."
    )
    burst_every: float = parameter(
        default=1.0, low=0.01, high=3600.0, unit="seconds", doc="From one burst to the next."
    )
    burst_seconds: float = parameter(
        default=0.1, low=0.001, high=3600.0, unit="seconds", doc="How long a burst lasts."
    )
    slower: float = parameter(default=1.0, low=0.001, high=1000.0, doc="Times as long.")
    workers: int | None = parameter(
        default=None, low=0, high=1_000_000, unit="calls", doc="Calls worked on at once."
    )
    added: float = parameter(
        default=0.0, low=0.0, high=3600.0, unit="seconds", doc="Time an answer is on its way."
    )
    stalled: bool = parameter(default=False, doc="Whether all work stands still.")
    dead: bool = parameter(default=False, doc="Whether every call fails at once.")
    errors: float = parameter(
        default=0.0, low=0.0, high=1.0, unit="ratio", doc="Share of the calls that fail."
    )
    flap_every: float | None = parameter(
        default=None, low=0.01, high=3600.0, unit="seconds", doc="When it turns good or bad."
    )

    def conflict(self) -> str:
        """Say which values do not go together."""
        if self.burst_load is not None and self.burst_seconds >= self.burst_every:
            return (
                f"burst_seconds {self.burst_seconds:g} must be less than burst_every "
                f"{self.burst_every:g}"
            )
        if self.burst_load is not None and self.load_after is not None:
            return "load_after and burst_load do not go together: use two phases"
        return ""
