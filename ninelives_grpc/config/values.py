"""The words of a file: which policies and budgets there are, and how their settings are read."""

from __future__ import annotations

import functools
import typing
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from ninelives_grpc import laws, pressure
from ninelives_grpc.errors import ConfigError, UnknownNameError
from ninelives_grpc.parameters import settings, specs
from ninelives_grpc.policies.admission_queue import AdmissionQueue
from ninelives_grpc.policies.budget import (
    Budget,
    ConcurrencyBudget,
    RetryBudget,
    ThrottleBudget,
    WindowBudget,
)
from ninelives_grpc.policies.bulkhead import Bulkhead
from ninelives_grpc.policies.circuit_breaker import CircuitBreaker
from ninelives_grpc.policies.concurrency_limit import ConcurrencyLimit
from ninelives_grpc.policies.early_drop import EarlyDrop
from ninelives_grpc.policies.fault import Fault
from ninelives_grpc.policies.hedge import Hedge
from ninelives_grpc.policies.load_shed import LoadShed
from ninelives_grpc.policies.rate_limit import RateLimit
from ninelives_grpc.policies.retry import Retry
from ninelives_grpc.policies.throttle import Throttle
from ninelives_grpc.policies.timeout import Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ninelives_grpc.policies.policy import Policy

T = TypeVar("T")

KINDS: Mapping[str, type[Policy]] = {
    kind.default_name(): kind
    for kind in (
        AdmissionQueue,
        Bulkhead,
        CircuitBreaker,
        ConcurrencyLimit,
        EarlyDrop,
        Fault,
        Hedge,
        LoadShed,
        RateLimit,
        Retry,
        Throttle,
        Timeout,
    )
}
BUDGETS: Mapping[str, type[Budget]] = {
    "success": RetryBudget,
    "throttle": ThrottleBudget,
    "window": WindowBudget,
    "concurrency": ConcurrencyBudget,
}
LAWS: Mapping[str, type[laws.Law]] = {
    kind.default_name(): kind
    for kind in (
        laws.AimdLaw,
        laws.BreakerThresholdLaw,
        laws.BulkheadSizeLaw,
        laws.GovernorLaw,
        laws.GradientLaw,
        laws.HealthRateLaw,
        laws.OpenTimeLaw,
        laws.PidLaw,
        laws.PredictionLaw,
        laws.RetryBudgetLaw,
    )
}
GAUGES: Mapping[str, Callable[[], pressure.Sensor]] = {
    "cpu": pressure.Cpu,
    "memory": pressure.Memory,
    "memory_stall": functools.partial(pressure.Stall, "memory"),
    "cpu_stall": functools.partial(pressure.Stall, "cpu"),
}
"""Sensors that loops can read without the program's help."""


def kind_of(name: str) -> type[Policy] | None:
    """Return the kind that a name begins with: `timeout`, or `timeout_attempt`."""
    found = [kind for kind in KINDS if name == kind or name.startswith(f"{kind}_")]
    return KINDS[max(found, key=len)] if found else None


def make(kind: type[T], values: Mapping[str, Any], path: str) -> T:
    """Make a policy from its settings, with errors at the place in the file."""
    for error in mistakes(kind, values, path):
        raise error
    try:
        return kind(**values)
    except ConfigError as error:
        field = error.path.partition(".")[2]
        raise ConfigError(error.message, path=f"{path}.{field}" if field else path) from None


def mistakes(kind: type[Any], values: Mapping[str, Any], path: str) -> Iterator[ConfigError]:
    """Go through what is wrong with single settings of a policy."""
    fields, parameters = settings(kind), specs(kind)
    for name, value in values.items():
        if name not in fields:
            yield unknown(f"setting of {kind.__name__}", name, fields, f"{path}.{name}")
        elif name in parameters:
            try:
                parameters[name].parse(value)
            except ValueError as error:
                yield ConfigError(str(error), path=f"{path}.{name}")
    missing = [name for name, required in fields.items() if required and name not in values]
    if missing:
        yield ConfigError(f"needs {' and '.join(missing)}", path=path)


def options_of(kind: type[Any], wanted: type) -> list[str]:
    """Return the names of the options that hold something of a type, such as status codes."""
    hints = typing.get_type_hints(kind)
    names = [name for name in settings(kind) if name not in specs(kind)]
    return [name for name in names if _holds(hints[name], wanted)]


def _holds(hint: object, wanted: type) -> bool:
    if isinstance(hint, type) and issubclass(hint, wanted):
        return True
    return any(_holds(inner, wanted) for inner in typing.get_args(hint))


def codes(names: object, path: str) -> frozenset[grpc.StatusCode]:
    """Read a list of names of status codes."""
    known = grpc.StatusCode.__members__
    if not isinstance(names, list):
        raise ConfigError(
            f'must be a list of status codes such as ["INTERNAL"], not {names!r}', path=path
        )
    return frozenset(find("status code", name, known, path) for name in names)


def table(value: object, path: str) -> Mapping[str, Any]:
    """Return what must be a table."""
    if not isinstance(value, dict):
        raise ConfigError(f"must be a table, not {value!r}", path=path)
    return value


def others(
    values: Mapping[str, Any], allowed: Iterable[str], path: str, hint: str = ""
) -> Iterator[ConfigError]:
    """Go through the names in a table that do not belong there."""
    for name in values:
        if name not in allowed:
            error = unknown("setting", name, allowed, f"{path}.{name}")
            yield ConfigError(f"{error.message}{f' ({hint})' if hint else ''}", path=error.path)


def find(what: str, name: object, known: Mapping[str, T], path: str) -> T:
    """Return what has that name."""
    if not isinstance(name, str) or name not in known:
        raise unknown(what, name, known, path)
    return known[name]


def unknown(what: str, name: object, known: Iterable[str], path: str) -> ConfigError:
    """Say that there is nothing of that name, and what there is."""
    return ConfigError(str(UnknownNameError(what, str(name), known)), path=path)
