"""Whole stacks for common cases, to start from.

Each takes a name, and overrides by address, such as `{"retry/max_attempts": 5}`. Breaker and rate
are those of `PRESETS`; all else is default.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ninelives_grpc.errors import ConfigError, UnknownNameError
from ninelives_grpc.outcome import Code, Kind, Outcome
from ninelives_grpc.parameters import specs
from ninelives_grpc.policies.bulkhead import Bulkhead
from ninelives_grpc.policies.circuit_breaker import CircuitBreaker
from ninelives_grpc.policies.rate_limit import RateLimit
from ninelives_grpc.policies.retry import Retry
from ninelives_grpc.policies.timeout import Timeout
from ninelives_grpc.stacks.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ninelives_grpc.parameters import Value
    from ninelives_grpc.policies.policy import Policy
    from ninelives_grpc.registry import Registry
    from ninelives_grpc.stacks.algebra import Expression

_NETWORK_CODES = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """The numbers of one preset."""

    failure_rate: float
    minimum_calls: int
    rate: float
    burst: float
    classify: Callable[[Outcome], Kind | None] | None = None

    def policies(self, overrides: Mapping[str, Value]) -> Expression:
        """Return the policies, outermost first, with other values where they are given.

        Raises:
            UnknownNameError: An override is for no parameter of these policies.
            ConfigError: An override is not allowed.
        """
        parts: dict[str, Policy] = {
            "timeout": Timeout(10.0),
            "retry": Retry(max_attempts=3),
            "rate_limit": RateLimit(self.rate, self.burst),
            "circuit_breaker": CircuitBreaker(
                failure_rate_threshold=self.failure_rate,
                minimum_calls=self.minimum_calls,
                classify=self.classify,
            ),
            "bulkhead": Bulkhead(100),
            "attempt_timeout": Timeout(3.0, name="attempt_timeout"),
        }
        known = {f"{name}/{field}" for name, part in parts.items() for field in specs(type(part))}
        changes: dict[str, dict[str, Value]] = {}
        for path, value in overrides.items():
            if path not in known:
                raise UnknownNameError("parameter of a preset", path, known)
            name, _, field = path.partition("/")
            changes.setdefault(name, {})[field] = value
        for name, values in changes.items():
            try:
                parts[name] = dataclasses.replace(parts[name], **values)  # type: ignore[arg-type]
            except ConfigError as error:
                field = error.path.partition(".")[2]
                path = f"{name}/{field}" if field else name
                raise ConfigError(error.message, path=path) from None
        first, *others = parts.values()
        expression: Expression = first
        for part in others:
            expression += part
        return expression


def network_errors(outcome: Outcome) -> Kind | None:
    """Take only UNAVAILABLE and DEADLINE_EXCEEDED for failures; any other answer is an answer."""
    if outcome.kind is Kind.FAILURE and outcome.code not in _NETWORK_CODES:
        return Kind.SUCCESS
    return None


PRESETS: Mapping[str, Preset] = {
    "critical": Preset(failure_rate=0.3, minimum_calls=5, rate=50, burst=75),
    "standard": Preset(failure_rate=0.5, minimum_calls=10, rate=100, burst=200),
    "network": Preset(
        failure_rate=0.4, minimum_calls=10, rate=150, burst=300, classify=network_errors
    ),
    "high_throughput": Preset(failure_rate=0.6, minimum_calls=15, rate=500, burst=1000),
    "relaxed": Preset(failure_rate=0.7, minimum_calls=20, rate=200, burst=500),
}


def _build(
    preset: str,
    name: str,
    overrides: Mapping[str, Value] | None,
    fallback: Expression | None,
    registry: Registry | None,
) -> Stack:
    expression = PRESETS[preset].policies(overrides or {})
    if fallback is not None:
        expression |= fallback
    return Stack(name, expression, registry=registry)


def critical(
    name: str,
    overrides: Mapping[str, Value] | None = None,
    *,
    fallback: Expression | None = None,
    registry: Registry | None = None,
) -> Stack:
    """Return a stack for authentication and configuration: quick to stop, few calls."""
    return _build("critical", name, overrides, fallback, registry)


def standard(
    name: str,
    overrides: Mapping[str, Value] | None = None,
    *,
    fallback: Expression | None = None,
    registry: Registry | None = None,
) -> Stack:
    """Return a stack for general services."""
    return _build("standard", name, overrides, fallback, registry)


def network(
    name: str,
    overrides: Mapping[str, Value] | None = None,
    *,
    fallback: Expression | None = None,
    registry: Registry | None = None,
) -> Stack:
    """Return a stack for caches and artifact stores: only network errors open the circuit."""
    return _build("network", name, overrides, fallback, registry)


def high_throughput(
    name: str,
    overrides: Mapping[str, Value] | None = None,
    *,
    fallback: Expression | None = None,
    registry: Registry | None = None,
) -> Stack:
    """Return a stack for workers and internal services."""
    return _build("high_throughput", name, overrides, fallback, registry)


def relaxed(
    name: str,
    overrides: Mapping[str, Value] | None = None,
    *,
    fallback: Expression | None = None,
    registry: Registry | None = None,
) -> Stack:
    """Return a stack for monitoring and best effort."""
    return _build("relaxed", name, overrides, fallback, registry)
