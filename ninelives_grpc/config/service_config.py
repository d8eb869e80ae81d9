"""Read the retry settings of gRPC's own service config (gRFC A6)."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any, TypeVar

from ninelives_grpc.config.values import codes, make, table
from ninelives_grpc.errors import ConfigError
from ninelives_grpc.policies.backoff import Jitter
from ninelives_grpc.policies.budget import RetryBudget, ThrottleBudget
from ninelives_grpc.policies.hedge import Hedge
from ninelives_grpc.policies.retry import Retry
from ninelives_grpc.policies.timeout import Timeout
from ninelives_grpc.registry import Registry, default_registry
from ninelives_grpc.routes import Routes
from ninelives_grpc.stacks.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ninelives_grpc.policies.budget import Budget
    from ninelives_grpc.policies.policy import Policy
    from ninelives_grpc.stacks.algebra import Expression

P = TypeVar("P", bound="Policy")

_LOGGER = logging.getLogger("ninelives_grpc")
_MOST = 5
"""Attempts that gRPC makes at most, whatever the service config says."""

_DURATION = re.compile(r"(\d+(\.\d*)?|\.\d+)s")
_METHOD = {"name", "timeout", "retryPolicy", "hedgingPolicy"}
_RETRY = {
    "maxAttempts": "max_attempts",
    "initialBackoff": "initial_backoff",
    "maxBackoff": "max_backoff",
    "backoffMultiplier": "multiplier",
    "retryableStatusCodes": "codes",
}
_HEDGE = {
    "maxAttempts": "max_hedges",
    "hedgingDelay": "delay",
    "nonFatalStatusCodes": "codes",
}
_THROTTLE = {"maxTokens": "capacity", "tokenRatio": "ratio"}


def from_service_config(
    config: str | Mapping[str, Any],
    *,
    registry: Registry | None = None,
) -> Routes:
    """Build stacks from a gRPC service config, and return the routes to them.

    Each entry of `methodConfig` becomes a stack named after its first method or service, and
    behaves as gRFC A6 has it: a timeout, retries of exactly its status codes or hedges, at most
    five attempts, and `retryThrottling` as a budget that all of them share; without that, they
    share a `RetryBudget`. A hedge takes UNAVAILABLE for no fatal code, even if it is not listed. An
    entry with none of these leaves its methods unprotected. What is not about that (`waitForReady`,
    load balancing, sizes of messages) is gRPC's to do, and noted in the log.

    Only one layer should retry: take the `retryPolicy` out of the channel's own service config, or
    set `grpc.enable_retries` to 0.

    Args:
        config: The service config, as JSON or what that is parsed to.
        registry: Where the stacks go; by default `default_registry`.

    Raises:
        ConfigError: Something in it is wrong, or has no counterpart here; names the field.
    """
    top = _parsed(config)
    _note(top, {"methodConfig", "retryThrottling"}, "service config")
    budget: Budget = RetryBudget()
    if "retryThrottling" in top:
        path = "service config: retryThrottling"
        values = _required(table(top["retryThrottling"], path), _THROTTLE, path)
        budget = _renamed(ThrottleBudget, values, _THROTTLE, path)
    entries = top.get("methodConfig", [])
    if not isinstance(entries, list):
        raise ConfigError(f"must be a list, not {entries!r}", path="service config: methodConfig")
    expressions: dict[str, Expression | None] = {}
    names: dict[str, str] = {}
    for index, entry in enumerate(entries):
        path = f"service config: methodConfig[{index}]"
        values = table(entry, path)
        patterns = _patterns(values.get("name", []), f"{path}.name")
        expression = _expression(values, budget, path)
        for pattern in patterns:
            if pattern in expressions:
                raise ConfigError(f"{pattern} has a config already", path=f"{path}.name")
            expressions[pattern] = expression
            names[pattern] = _stack_name(patterns[0])
    target = default_registry if registry is None else registry
    stacks = {
        names[pattern]: expression
        for pattern, expression in expressions.items()
        if expression is not None
    }
    built = {name: Stack(name, stacks[name], registry=target) for name in stacks}
    return Routes({pattern: built.get(name) for pattern, name in names.items()})


def _parsed(config: str | Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        data: object = json.loads(config) if isinstance(config, str) else config
    except ValueError as error:
        raise ConfigError(f"is not valid JSON: {error}", path="service config") from error
    return table(data, "service config")


def _patterns(names: object, path: str) -> list[str]:
    """Return the routes of an entry; an empty name is all methods, as in gRPC."""
    if not isinstance(names, list) or not names:
        msg = f'must be a list such as [{{"service": "package.Service"}}], not {names!r}'
        raise ConfigError(msg, path=path)
    patterns = []
    for name in names:
        values = table(name, path)
        service, method = values.get("service", ""), values.get("method", "")
        if not isinstance(service, str) or not isinstance(method, str) or (method and not service):
            raise ConfigError(f"needs a service, and may have a method, not {name!r}", path=path)
        if {"/", "*"} & {*service, *method}:
            raise ConfigError(f"takes plain names, not {name!r}", path=path)
        patterns.append(f"{service}/{method or '*'}" if service else "*")
    return patterns


def _stack_name(pattern: str) -> str:
    """Name a stack `package.Service`, `package.Service:Method` or `default`."""
    return "default" if pattern == "*" else pattern.removesuffix("/*").replace("/", ":")


def _expression(values: Mapping[str, Any], budget: Budget, path: str) -> Expression | None:
    _note(values, _METHOD, path)
    if "retryPolicy" in values and "hedgingPolicy" in values:
        raise ConfigError("has a retryPolicy and a hedgingPolicy; only one may be set", path=path)
    parts: list[Expression] = []
    if "timeout" in values:
        place = f"{path}.timeout"
        parts.append(make(Timeout, {"seconds": _seconds(values["timeout"], place)}, place))
    if "retryPolicy" in values:
        place = f"{path}.retryPolicy"
        parts.append(_retry(table(values["retryPolicy"], place), budget, place))
    if "hedgingPolicy" in values:
        place = f"{path}.hedgingPolicy"
        parts.append(_hedge(table(values["hedgingPolicy"], place), budget, place))
    return None if not parts else parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _retry(values: Mapping[str, Any], budget: Budget, path: str) -> Expression:
    _note(values, {*_RETRY, "perAttemptRecvTimeout"}, path)
    settings: dict[str, Any] = dict(_required(values, _RETRY, path))
    settings["maxAttempts"] = _attempts(settings["maxAttempts"], f"{path}.maxAttempts")
    for name in ("initialBackoff", "maxBackoff"):
        settings[name] = _seconds(settings[name], f"{path}.{name}")
    place = f"{path}.retryableStatusCodes"
    settings["retryableStatusCodes"] = codes(settings["retryableStatusCodes"], place)
    if not settings["retryableStatusCodes"]:
        raise ConfigError("must name at least one status code", path=place)
    fixed = {"jitter": Jitter.A6, "only_codes": True, "budget": budget}
    retry: Expression = _renamed(Retry, settings, _RETRY, path, fixed)
    if "perAttemptRecvTimeout" not in values:
        return retry
    place = f"{path}.perAttemptRecvTimeout"
    seconds = _seconds(values["perAttemptRecvTimeout"], place)
    return retry + make(Timeout, {"seconds": seconds, "name": "attempt_timeout"}, place)


def _hedge(values: Mapping[str, Any], budget: Budget, path: str) -> Expression:
    """Make a hedge; whoever writes a `hedgingPolicy` says that the methods may be sent twice."""
    _note(values, _HEDGE, path)
    _required(values, ("maxAttempts",), path)
    place = f"{path}.nonFatalStatusCodes"
    settings: dict[str, Any] = {
        "maxAttempts": _attempts(values["maxAttempts"], f"{path}.maxAttempts") - 1,
        "hedgingDelay": _seconds(values.get("hedgingDelay", "0s"), f"{path}.hedgingDelay"),
        "nonFatalStatusCodes": codes(values.get("nonFatalStatusCodes", []), place),
    }
    return _renamed(Hedge, settings, _HEDGE, path, {"idempotent": True, "budget": budget})


def _renamed(
    kind: type[P],
    values: Mapping[str, Any],
    names: Mapping[str, str],
    path: str,
    fixed: Mapping[str, Any] | None = None,
) -> P:
    """Make a policy from settings in gRPC's words, with errors in gRPC's words."""
    settings = {names[name]: value for name, value in values.items() if name in names}
    try:
        return make(kind, {**settings, **(fixed or {})}, path)
    except ConfigError as error:
        field = error.path.rpartition(".")[2]
        words = {ours: theirs for theirs, ours in names.items()}
        raise ConfigError(error.message, path=f"{path}.{words.get(field, field)}") from None


def _required(values: Mapping[str, Any], names: Iterable[str], path: str) -> Mapping[str, Any]:
    missing = [name for name in names if name not in values]
    if missing:
        raise ConfigError(f"needs {' and '.join(missing)}", path=path)
    return values


def _attempts(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 2:  # noqa: PLR2004
        raise ConfigError(f"must be a whole number of at least 2, not {value!r}", path=path)
    if value > _MOST:
        _LOGGER.info("%s: %s attempts become %s, as in gRPC", path, value, _MOST)
    return min(value, _MOST)


def _seconds(value: object, path: str) -> float:
    """Read a duration in the JSON form of protobuf, which gRPC also takes as ".1s"."""
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise ConfigError(f'must be a duration such as "0.1s", not {value!r}', path=path)
    return float(value[:-1])


def _note(values: Mapping[str, Any], read: Collection[str], path: str) -> None:
    """Tell what is left to gRPC."""
    for name in values:
        if name not in read:
            _LOGGER.info("%s.%s is left to gRPC", path, name)
