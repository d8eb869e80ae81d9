"""Build stacks from a TOML or JSON file, and route methods to them.

    [stacks.payments]
    expression = "timeout + retry + circuit_breaker + bulkhead"
    timeout = { seconds = 2.0 }
    bulkhead = { max_concurrent = 64 }

    [stacks.search]
    preset = "high_throughput"
    overrides = { "retry/max_attempts" = 2 }

    [routes]
    "shop.v1.Payments/*" = "payments"
    "shop.v1.Search/Suggest" = "search"

An expression is written as in Python. A name in it is a policy of the kind that it begins with
(`timeout`, `timeout_attempt`), with the settings of the table of that name; or another stack of the
file; or a policy that the program hands in. Nothing is built unless everything is right.
"""

from __future__ import annotations

import ast
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from ninelives_grpc import parameters
from ninelives_grpc.errors import ConfigError, NinelivesError, UnknownNameError
from ninelives_grpc.outcome import Kind, Outcome
from ninelives_grpc.policies.budget import (
    Budget,
    ConcurrencyBudget,
    RetryBudget,
    ThrottleBudget,
    WindowBudget,
)
from ninelives_grpc.policies.bulkhead import Bulkhead
from ninelives_grpc.policies.circuit_breaker import CircuitBreaker
from ninelives_grpc.policies.rate_limit import RateLimit
from ninelives_grpc.policies.retry import Retry
from ninelives_grpc.policies.timeout import Timeout
from ninelives_grpc.presets import PRESETS
from ninelives_grpc.registry import Registry, default_registry
from ninelives_grpc.routes import Routes
from ninelives_grpc.stacks.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ninelives_grpc.policies.policy import Policy
    from ninelives_grpc.stacks.algebra import Expression

T = TypeVar("T")

KINDS: Mapping[str, type[Policy]] = {
    kind.default_name(): kind for kind in (Bulkhead, CircuitBreaker, RateLimit, Retry, Timeout)
}
BUDGETS: Mapping[str, type[Budget]] = {
    "success": RetryBudget,
    "throttle": ThrottleBudget,
    "window": WindowBudget,
    "concurrency": ConcurrencyBudget,
}
_OPERATORS: Mapping[type[ast.operator], str] = {ast.Add: "+", ast.BitOr: "|", ast.BitAnd: "&"}


def load(
    path: str | Path,
    *,
    policies: Mapping[str, Expression] | None = None,
    registry: Registry | None = None,
) -> Routes:
    """Build the stacks of a file and return the routes to them.

    Args:
        path: A `.toml` or `.json` file.
        policies: Policies by name for expressions to use, such as a `Respond` or a `Target`, which
            no file can hold.
        registry: Where the stacks go; by default `default_registry`.

    Raises:
        ConfigError: Something in it is wrong: names the file and field, and says what is allowed.
    """
    file = Path(path)
    if file.suffix not in {".toml", ".json"}:
        raise ConfigError("must be a .toml or a .json file", path=str(file))
    try:
        text = file.read_text(encoding="utf-8")
        data = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"can not be read: {error.strerror}", path=str(file)) from error
    except ValueError as error:
        raise ConfigError(
            f"is not valid {file.suffix[1:].upper()}: {error}", path=str(file)
        ) from error
    return parse(data, where=str(file), policies=policies, registry=registry)


def parse(
    data: object,
    *,
    where: str = "config",
    policies: Mapping[str, Expression] | None = None,
    registry: Registry | None = None,
) -> Routes:
    """Build stacks from data in the form of the file, as `load`."""
    top = _table(data, where)
    _only(top, {"stacks", "routes", "budgets"}, where)
    builder = Builder(top, where, policies or {})
    stacks = {name: builder.stack(name) for name in builder.stacks}
    routes = _routes(_table(top.get("routes", {}), f"{where}: routes"), stacks, where)
    target = default_registry if registry is None else registry
    for stack in stacks.values():
        target.add(stack)
    return routes


class Builder:
    """Builds the stacks of one file, each when it is first needed.

    Attributes:
        stacks: The tables of the stacks by name.
    """

    def __init__(
        self, top: Mapping[str, Any], where: str, policies: Mapping[str, Expression]
    ) -> None:
        """Read the budgets, which stacks share."""
        self._where = where
        self._given = policies
        self._registry = Registry()
        self._built: dict[str, Stack] = {}
        self._building: list[str] = []
        self.stacks = _table(top.get("stacks", {}), f"{where}: stacks")
        budgets = _table(top.get("budgets", {}), f"{where}: budgets")
        self._budgets = {
            name: self._budget(table, f"{where}: budgets.{name}") for name, table in budgets.items()
        }

    def stack(self, name: str) -> Stack:
        """Build a stack, and those it is composed of."""
        if name in self._built:
            return self._built[name]
        path = f"{self._where}: stacks.{name}"
        if name in self._building:
            msg = f"contains itself: {' > '.join([*self._building, name])}"
            raise ConfigError(msg, path=path)
        self._building.append(name)
        table = _table(self.stacks[name], path)
        expression = self._preset(table, path) if "preset" in table else self._parse(table, path)
        self._building.pop()
        try:
            self._built[name] = Stack(name, expression, registry=self._registry)
        except ConfigError as error:
            raise ConfigError(error.message, path=path) from None
        return self._built[name]

    def _preset(self, table: Mapping[str, Any], path: str) -> Expression:
        _only(table, {"preset", "overrides"}, path)
        preset = _find("preset", table["preset"], PRESETS, f"{path}.preset")
        overrides = _table(table.get("overrides", {}), f"{path}.overrides")
        try:
            return preset.policies(overrides)
        except NinelivesError as error:
            raise ConfigError(str(error), path=f"{path}.overrides") from None

    def _parse(self, table: Mapping[str, Any], path: str) -> Expression:
        text = table.get("expression")
        if not isinstance(text, str):
            msg = 'needs an expression such as "timeout + retry", or a preset'
            raise ConfigError(msg, path=path)
        where = f"{path}.expression"
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            msg = f"is not an expression of names and + | &: {text!r}"
            raise ConfigError(msg, path=where) from error
        used: dict[str, Expression] = {}
        expression = self._expression(tree, table, path, used)
        _only(table, {"expression", *used}, path, hint="the expression does not use it")
        return expression

    def _expression(
        self, node: ast.expr, table: Mapping[str, Any], path: str, used: dict[str, Expression]
    ) -> Expression:
        match node:
            case ast.Name(id=name):
                if name not in used:
                    used[name] = self._named(name, table, path)
                return used[name]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                first = self._expression(left, table, path, used)
                second = self._expression(right, table, path, used)
                if isinstance(op, ast.Add):
                    return first + second
                return first | second if isinstance(op, ast.BitOr) else first & second
            case _:
                msg = f"takes names and + | & only, not {ast.unparse(node)!r}"
                raise ConfigError(msg, path=f"{path}.expression")

    def _named(self, name: str, table: Mapping[str, Any], path: str) -> Expression:
        kind = None if name in self._given else _kind(name)
        if kind is not None:
            if name in self.stacks:
                msg = f"{name!r} is a stack, and would be a {kind.__name__} too: rename the stack"
                raise ConfigError(msg, path=f"{path}.expression")
            settings = _table(table.get(name, {}), f"{path}.{name}")
            return self._policy(kind, name, settings, f"{path}.{name}")
        if name in table:
            msg = "takes no settings here: it is not a policy of this stack"
            raise ConfigError(msg, path=f"{path}.{name}")
        if name in self._given:
            return self._given[name]
        if name in self.stacks:
            return self.stack(name)
        known = {*KINDS, *self._given, *self.stacks}
        raise _unknown("policy or stack", name, known, f"{path}.expression")

    def _policy(
        self, kind: type[Policy], name: str, settings: Mapping[str, Any], path: str
    ) -> Policy:
        values = dict(settings)
        if name != kind.default_name():
            values.setdefault("name", name)
        if kind is Retry:
            self._retry_options(values, path)
        if kind is CircuitBreaker and "failure_codes" in values:
            codes = _codes(values.pop("failure_codes"), f"{path}.failure_codes")
            values["classify"] = _only_codes(codes)
        return _make(kind, values, path)

    def _retry_options(self, values: dict[str, Any], path: str) -> None:
        if "codes" in values:
            values["codes"] = _codes(values["codes"], f"{path}.codes")
        if "budget" in values:
            values["budget"] = _find("budget", values["budget"], self._budgets, f"{path}.budget")

    def _budget(self, table: object, path: str) -> Budget:
        values = dict(_table(table, path))
        kind = _find("kind of budget", values.pop("kind", "success"), BUDGETS, f"{path}.kind")
        budget: Budget = _make(kind, values, path)  # type: ignore[assignment]
        return budget


def _make(kind: type[Policy], values: Mapping[str, Any], path: str) -> Policy:
    """Make a policy from its settings, with errors at the place in the file."""
    fields = parameters.settings(kind)
    for name in values:
        if name not in fields:
            raise _unknown(f"setting of {kind.__name__}", name, fields, f"{path}.{name}")
    missing = [name for name, required in fields.items() if required and name not in values]
    if missing:
        raise ConfigError(f"needs {' and '.join(missing)}", path=path)
    try:
        return kind(**values)
    except ConfigError as error:
        field = error.path.partition(".")[2]
        raise ConfigError(error.message, path=f"{path}.{field}" if field else path) from None


def _routes(table: Mapping[str, Any], stacks: Mapping[str, Stack], where: str) -> Routes:
    if not table and len(stacks) == 1:
        return Routes({"*": next(iter(stacks.values()))})
    routes: dict[str, Stack | None] = {}
    for pattern, name in table.items():
        path = f"{where}: routes.{json.dumps(pattern)}"
        routes[pattern] = None if name == "" else _find("stack", name, stacks, path)
        try:
            Routes({pattern: routes[pattern]})
        except ConfigError as error:
            raise ConfigError(error.message, path=path) from None
    return Routes(routes)


def _kind(name: str) -> type[Policy] | None:
    """Return the kind that a name begins with: `timeout`, or `timeout_attempt`."""
    found = [kind for kind in KINDS if name == kind or name.startswith(f"{kind}_")]
    return KINDS[max(found, key=len)] if found else None


def _codes(names: object, path: str) -> frozenset[grpc.StatusCode]:
    known = grpc.StatusCode.__members__
    if not isinstance(names, list):
        raise ConfigError(
            f'must be a list of status codes such as ["INTERNAL"], not {names!r}', path=path
        )
    return frozenset(_find("status code", name, known, path) for name in names)


def _only_codes(codes: frozenset[grpc.StatusCode]) -> Any:
    def classify(outcome: Outcome) -> Kind | None:
        return Kind.SUCCESS if outcome.kind is Kind.FAILURE and outcome.code not in codes else None

    return classify


def _table(value: object, path: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"must be a table, not {value!r}", path=path)
    return value


def _only(table: Mapping[str, Any], allowed: Iterable[str], path: str, hint: str = "") -> None:
    for name in table:
        if name not in allowed:
            error = _unknown("setting", name, allowed, f"{path}.{name}")
            raise ConfigError(f"{error.message}{f' ({hint})' if hint else ''}", path=error.path)


def _find(what: str, name: object, known: Mapping[str, T], path: str) -> T:
    if not isinstance(name, str) or name not in known:
        raise _unknown(what, name, known, path)
    return known[name]


def _unknown(what: str, name: object, known: Iterable[str], path: str) -> ConfigError:
    return ConfigError(str(UnknownNameError(what, str(name), known)), path=path)
