"""Build the stacks and routes of one file, and say all that is wrong with it."""

from __future__ import annotations

import ast
import json
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from ninelives_grpc.clock import MONOTONIC, Clock
from ninelives_grpc.config.problems import Problems
from ninelives_grpc.config.values import (
    BUDGETS,
    GAUGES,
    KINDS,
    LAWS,
    codes,
    find,
    kind_of,
    make,
    mistakes,
    options_of,
    others,
    table,
    unknown,
)
from ninelives_grpc.errors import ConfigError, NinelivesError
from ninelives_grpc.laws import FeedbackLoop
from ninelives_grpc.outcome import Kind, Outcome
from ninelives_grpc.parameters import settings as settings_of
from ninelives_grpc.policies.budget import Budget
from ninelives_grpc.policies.circuit_breaker import CircuitBreaker
from ninelives_grpc.policies.respond import Respond
from ninelives_grpc.presets import PRESETS
from ninelives_grpc.registry import Registry
from ninelives_grpc.routes import Routes
from ninelives_grpc.stacks.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ninelives_grpc.laws.metrics import Gauge
    from ninelives_grpc.policies.policy import Policy
    from ninelives_grpc.stacks.algebra import Expression

P = TypeVar("P", bound="Policy")

_OPERATORS: Mapping[type[ast.operator], str] = {ast.Add: "+", ast.BitOr: "|", ast.BitAnd: "&"}
_TOP = ("stacks", "routes", "budgets", "$schema")
_WRONG = Respond(None)
"""Stands in an expression for what could not be built, so that the rest can be looked at."""


class Builder:
    """Reads one file, and goes on where something is wrong.

    Attributes:
        problems: What is wrong; when there is anything, the rest is not to be used.
        stacks: The stacks by name.
        loops: The feedback loops that steer them; nobody asks them yet.
        routes: The routes to them.
    """

    def __init__(
        self,
        data: object,
        where: str,
        policies: Mapping[str, Expression],
        gauges: Mapping[str, Gauge] | None = None,
        *,
        clock: Clock = MONOTONIC,
    ) -> None:
        """Read all of it: the budgets, which stacks share, the stacks, and the routes."""
        self.problems = Problems()
        self.stacks: dict[str, Stack] = {}
        self._where = where
        self.loops: list[FeedbackLoop] = []
        self._given = policies
        self._gauges = gauges or {}
        self._clock = clock
        self._registry = Registry()
        self._building: list[str] = []
        self._budgets: dict[str, Budget | None] = {}
        top = self._table(data, where)
        self._only(top, _TOP, where)
        budgets = self._table(top.get("budgets", {}), f"{where}: budgets")
        for name, values in budgets.items():
            self._budgets[name] = None
            with self.problems.noted():
                self._budgets[name] = self._budget(values, f"{where}: budgets.{name}")
        self._tables = self._table(top.get("stacks", {}), f"{where}: stacks")
        for name in self._tables:
            with self.problems.noted():
                self._stack(name)
        self.routes = self._routes(self._table(top.get("routes", {}), f"{where}: routes"))

    def _stack(self, name: str) -> Stack:
        """Build a stack, and those it is composed of."""
        if name in self.stacks:
            return self.stacks[name]
        path = f"{self._where}: stacks.{name}"
        if name in self._building:
            msg = f"contains itself: {' > '.join([*self._building, name])}"
            raise ConfigError(msg, path=path)
        self._building.append(name)
        try:
            values = table(self._tables[name], path)
            preset = "preset" in values
            expression = self._preset(values, path) if preset else self._parse(values, path)
        finally:
            self._building.pop()
        try:
            self.stacks[name] = Stack(name, expression, registry=self._registry, clock=self._clock)
        except ConfigError as error:
            raise ConfigError(error.message, path=path) from None
        for loop, settings in self._table(values.get("loops", {}), f"{path}.loops").items():
            with self.problems.noted():
                self._loop(self.stacks[name], loop, settings, f"{path}.loops.{loop}")
        return self.stacks[name]

    def _loop(self, stack: Stack, name: str, settings: object, path: str) -> None:
        values = dict(table(settings, path))
        for needed in ("law", "parameter"):
            if needed not in values:
                raise ConfigError(f"needs {needed}", path=path)
        kind = find("law", values.pop("law"), LAWS, f"{path}.law")
        parameter, gauge = values.pop("parameter"), values.pop("gauge", None)
        handle = read = None
        with self.problems.noted():
            handle = find("parameter", parameter, stack.parameters, f"{path}.parameter")
        if gauge is not None:
            with self.problems.noted():
                read = self._gauge(gauge, f"{path}.gauge")
        self._only(values, settings_of(kind).keys() - {"name"}, path)
        law = self._made(kind, values | {"name": name}, path)
        if law is None or handle is None or (read is None and gauge is not None):
            return
        try:
            loop = FeedbackLoop(law, handle, gauge=read)
            self.loops.append(self._registry.add_loop(loop, start=False))
        except ConfigError as error:
            raise ConfigError(error.message, path=path) from None

    def _gauge(self, name: object, path: str) -> Gauge:
        """Return what the program gives by that name, or a sensor."""
        if isinstance(name, str) and name in self._gauges:
            return self._gauges[name]
        known = {**GAUGES, **dict.fromkeys(self._gauges, GAUGES["memory"])}
        return find("gauge", name, known, path)().read

    def hand_over(self, registry: Registry) -> None:
        """Put the stacks into a registry, and have their loops asked."""
        for stack in self.stacks.values():
            registry.add(stack)
        for loop in self.loops:
            self._registry.remove_loop(loop)
            registry.add_loop(loop)

    def _preset(self, values: Mapping[str, Any], path: str) -> Expression:
        self._only(values, {"preset", "overrides", "loops"}, path)
        preset = find("preset", values["preset"], PRESETS, f"{path}.preset")
        overrides = table(values.get("overrides", {}), f"{path}.overrides")
        # One by one, to say all that is wrong, and then together.
        for chosen in (*({name: value} for name, value in overrides.items()), overrides):
            try:
                expression = preset.policies(chosen)
            except NinelivesError as error:
                self.problems.add(ConfigError(str(error), path=f"{path}.overrides"))
                expression = _WRONG
        return expression

    def _parse(self, values: Mapping[str, Any], path: str) -> Expression:
        text = values.get("expression")
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
        expression = self._expression(tree, values, path, used)
        self._only(
            values, {"expression", "loops", *used}, path, hint="the expression does not use it"
        )
        return expression

    def _expression(
        self, node: ast.expr, values: Mapping[str, Any], path: str, used: dict[str, Expression]
    ) -> Expression:
        match node:
            case ast.Name(id=name):
                if name not in used:
                    used[name] = _WRONG
                    with self.problems.noted():
                        used[name] = self._named(name, values, path)
                return used[name]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                first = self._expression(left, values, path, used)
                second = self._expression(right, values, path, used)
                if isinstance(op, ast.Add):
                    return first + second
                return first | second if isinstance(op, ast.BitOr) else first & second
            case _:
                msg = f"takes names and + | & only, not {ast.unparse(node)!r}"
                raise ConfigError(msg, path=f"{path}.expression")

    def _named(self, name: str, values: Mapping[str, Any], path: str) -> Expression:
        kind = None if name in self._given else kind_of(name)
        if kind is not None:
            if name in self._tables:
                msg = f"{name!r} is a stack, and would be a {kind.__name__} too: rename the stack"
                raise ConfigError(msg, path=f"{path}.expression")
            settings = table(values.get(name, {}), f"{path}.{name}")
            return self._policy(kind, name, settings, f"{path}.{name}")
        if name in values:
            msg = "takes no settings here: it is not a policy of this stack"
            raise ConfigError(msg, path=f"{path}.{name}")
        if name in self._given:
            return self._given[name]
        if name in self._tables:
            return self._stack(name)
        known = {*KINDS, *self._given, *self._tables}
        raise unknown("policy or stack", name, known, f"{path}.expression")

    def _policy(
        self, kind: type[Policy], name: str, settings: Mapping[str, Any], path: str
    ) -> Expression:
        values = dict(settings)
        if name != kind.default_name():
            values.setdefault("name", name)
        # What is wrong is noted and left out, so that the rest is looked at.
        for option in options_of(kind, grpc.StatusCode):
            if option in values:
                names = values.pop(option)
                with self.problems.noted():
                    values[option] = codes(names, f"{path}.{option}")
        for option in options_of(kind, Budget):
            if option in values:
                found = values.pop(option)
                with self.problems.noted():
                    values[option] = find("budget", found, self._budgets, f"{path}.{option}")
        if kind is CircuitBreaker and "failure_codes" in values:
            names = values.pop("failure_codes")
            with self.problems.noted():
                values["classify"] = _only_codes(codes(names, f"{path}.failure_codes"))
        return self._made(kind, values, path) or _WRONG

    def _budget(self, values: object, path: str) -> Budget | None:
        settings = dict(table(values, path))
        kind = find("kind of budget", settings.pop("kind", "success"), BUDGETS, f"{path}.kind")
        return self._made(kind, settings, path)

    def _made(self, kind: type[P], values: Mapping[str, Any], path: str) -> P | None:
        found = list(mistakes(kind, values, path))
        for error in found:
            self.problems.add(error)
        return None if found else make(kind, values, path)

    def _routes(self, patterns: Mapping[str, Any]) -> Routes:
        if not patterns and len(self.stacks) == 1:
            return Routes({"*": next(iter(self.stacks.values()))})
        routes: dict[str, Stack | None] = {}
        for pattern, name in patterns.items():
            path = f"{self._where}: routes.{json.dumps(pattern)}"
            with self.problems.noted():
                if name != "":
                    find("stack", name, self._tables, path)
                routes[pattern] = self.stacks.get(name)
                try:
                    Routes({pattern: routes[pattern]})
                except ConfigError as error:
                    del routes[pattern]
                    raise ConfigError(error.message, path=path) from None
        return Routes(routes)

    def _table(self, value: object, path: str) -> Mapping[str, Any]:
        with self.problems.noted():
            return table(value, path)
        return {}

    def _only(
        self, values: Mapping[str, Any], allowed: Iterable[str], path: str, hint: str = ""
    ) -> None:
        for error in others(values, allowed, path, hint):
            self.problems.add(error)


def _only_codes(failures: frozenset[grpc.StatusCode]) -> Any:
    def classify(outcome: Outcome) -> Kind | None:
        if outcome.kind is Kind.FAILURE and outcome.code not in failures:
            return Kind.SUCCESS
        return None

    return classify
