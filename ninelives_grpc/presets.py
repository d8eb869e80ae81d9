"""Whole stacks for common cases, to start from.

Each takes a name, and overrides by address, such as `{"retry/max_attempts": 5}`. `server` and
`aio_server` are for servers, all others for clients. Breaker and rate of those are in `PRESETS`;
all else is default.

    pool = AdmissionExecutor(16)
    grpc.server(pool, interceptors=[server_interceptor(presets.server("shop"))])
    grpc.aio.server(interceptors=[aio.server_interceptor(presets.aio_server("shop"))])
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ninelives_grpc.errors import ConfigError, UnknownNameError
from ninelives_grpc.outcome import Code, Kind, Outcome
from ninelives_grpc.parameters import specs
from ninelives_grpc.policies.admission_queue import AdmissionQueue
from ninelives_grpc.policies.bulkhead import Bulkhead
from ninelives_grpc.policies.circuit_breaker import CircuitBreaker
from ninelives_grpc.policies.concurrency_limit import ConcurrencyLimit
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
    """What a preset is made of.

    Attributes:
        parts: Makes its policies, outermost first.
    """

    parts: Callable[[], tuple[Policy, ...]]

    def policies(self, overrides: Mapping[str, Value]) -> Expression:
        """Return the policies, outermost first, with other values where they are given.

        Raises:
            UnknownNameError: An override is for no parameter of these policies.
            ConfigError: An override is not allowed.
        """
        parts = {part.name or part.default_name(): part for part in self.parts()}
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


def _client(
    failure_rate: float,
    minimum_calls: int,
    rate: float,
    burst: float,
    classify: Callable[[Outcome], Kind | None] | None = None,
) -> Preset:
    def parts() -> tuple[Policy, ...]:
        return (
            Timeout(10.0),
            Retry(max_attempts=3),
            RateLimit(rate, burst),
            CircuitBreaker(
                failure_rate_threshold=failure_rate,
                minimum_calls=minimum_calls,
                classify=classify,
            ),
            Bulkhead(100),
            Timeout(3.0, name="attempt_timeout"),
        )

    return Preset(parts=parts)


PRESETS: Mapping[str, Preset] = {
    "critical": _client(failure_rate=0.3, minimum_calls=5, rate=50, burst=75),
    "standard": _client(failure_rate=0.5, minimum_calls=10, rate=100, burst=200),
    "network": _client(
        failure_rate=0.4, minimum_calls=10, rate=150, burst=300, classify=network_errors
    ),
    "high_throughput": _client(failure_rate=0.6, minimum_calls=15, rate=500, burst=1000),
    "relaxed": _client(failure_rate=0.7, minimum_calls=20, rate=200, burst=500),
    # The time limit is inside: a call without a deadline would otherwise wait for as long as that.
    "server": Preset(parts=lambda: (AdmissionQueue(), Timeout(10.0))),
    "aio_server": Preset(parts=lambda: (ConcurrencyLimit(), Timeout(10.0))),
}


def _build(
    preset: str,
    name: str,
    overrides: Mapping[str, Value] | None,
    registry: Registry | None,
    fallback: Expression | None = None,
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
    return _build("critical", name, overrides, registry, fallback)


def standard(
    name: str,
    overrides: Mapping[str, Value] | None = None,
    *,
    fallback: Expression | None = None,
    registry: Registry | None = None,
) -> Stack:
    """Return a stack for general services."""
    return _build("standard", name, overrides, registry, fallback)


def network(
    name: str,
    overrides: Mapping[str, Value] | None = None,
    *,
    fallback: Expression | None = None,
    registry: Registry | None = None,
) -> Stack:
    """Return a stack for caches and artifact stores: only network errors open the circuit."""
    return _build("network", name, overrides, registry, fallback)


def high_throughput(
    name: str,
    overrides: Mapping[str, Value] | None = None,
    *,
    fallback: Expression | None = None,
    registry: Registry | None = None,
) -> Stack:
    """Return a stack for workers and internal services."""
    return _build("high_throughput", name, overrides, registry, fallback)


def relaxed(
    name: str,
    overrides: Mapping[str, Value] | None = None,
    *,
    fallback: Expression | None = None,
    registry: Registry | None = None,
) -> Stack:
    """Return a stack for monitoring and best effort."""
    return _build("relaxed", name, overrides, registry, fallback)


def server(
    name: str, overrides: Mapping[str, Value] | None = None, *, registry: Registry | None = None
) -> Stack:
    """Return a stack for a sync server, which an `AdmissionExecutor` has to serve.

    Calls wait for a worker as long as they can be in time, and are refused at once when they can
    not. There are as many places as the executor has workers.
    """
    return _build("server", name, overrides, registry)


def aio_server(
    name: str, overrides: Mapping[str, Value] | None = None, *, registry: Registry | None = None
) -> Stack:
    """Return a stack for an asyncio server: as many calls run at once as keep it busy.

    How many that is it finds out; all others are refused at once.
    """
    return _build("aio_server", name, overrides, registry)
