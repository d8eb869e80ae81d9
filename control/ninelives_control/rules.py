"""Rules of authorization: data, made in code or read from a TOML file.

include_defaults = true

[[rules]]
id = "payments-is-for-people"
roles = ["agent"]
commands = ["set_parameter", "reset_*"]
paths = ["payments/**"]
verdict = "deny"
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ninelives_control.command import Effect
from ninelives_control.errors import finding
from ninelives_control.identity import Role
from ninelives_control.paths import ANYWHERE
from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


class Verdict(StrEnum):
    """What a rule says about the commands it speaks of."""

    ALLOW = "allow"
    DENY = "deny"
    """It wins over every rule that allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who may do what, where, and within which bounds.

    A rule with bounds allows only numbers, and only within all of them.

    Attributes:
        id: Its name in decisions and in the audit.
        roles: Whom it speaks of.
        verdict: Whether it allows or denies.
        commands: Patterns of command names, such as `reset_*`.
        effects: Of commands with which effect it speaks.
        paths: Patterns of addresses, see `paths`.
        factor: How many times a number may be moved up or down from its declared value; more
            than 1.
        minimum: Smallest number allowed.
        maximum: Largest number allowed.

    Raises:
        ConfigError: It cannot be meant so; names the rule and the field.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    roles: tuple[Role, ...]
    verdict: Verdict = Verdict.ALLOW
    commands: tuple[str, ...] = ("*",)
    effects: tuple[Effect, ...] = tuple(Effect)
    paths: tuple[str, ...] = (ANYWHERE,)
    factor: float | None = None
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        """Check what the types do not."""
        problem = self._problem()
        if problem:
            raise ConfigError(problem, path=f"rule {self.id!r}")

    @property
    def bounded(self) -> bool:
        """Whether it allows only some values."""
        return any(bound is not None for bound in self._bounds())

    def _problem(self) -> str:
        for name in ("id", "roles", "commands", "effects", "paths"):
            if not getattr(self, name):
                return f"{name} must not be empty: the rule would never apply"
        if self.bounded and self.verdict is Verdict.DENY:
            return "factor, minimum and maximum belong to a rule that allows"
        if not all(math.isfinite(bound or 0) for bound in self._bounds()):
            return "factor, minimum and maximum must be finite"
        if self.factor is not None and self.factor <= 1:
            return f"factor must be more than 1, not {self.factor:g}"
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            return f"minimum {self.minimum:g} must not be more than maximum {self.maximum:g}"
        return ""

    def _bounds(self) -> tuple[float | None, ...]:
        return (self.factor, self.minimum, self.maximum)


DEFAULT_RULES: tuple[Rule, ...] = (
    Rule(id="everybody-reads", roles=tuple(Role), effects=(Effect.READ,)),
    # It shows what others have done, and tried to do.
    Rule(
        id="audit-is-for-operators",
        roles=(Role.VIEWER, Role.AGENT),
        verdict=Verdict.DENY,
        commands=("get_audit",),
    ),
    Rule(id="operators-change", roles=(Role.OPERATOR,), effects=(Effect.CHANGE,)),
    Rule(id="agents-tune", roles=(Role.AGENT,), commands=("set_parameter",), factor=4.0),
    Rule(id="agents-reset", roles=(Role.AGENT,), commands=("reset_circuit_breaker",)),
    Rule(id="admins-do-everything", roles=(Role.ADMIN,)),
)
"""What holds where nothing else is said."""


def load(path: Path) -> tuple[Rule, ...]:
    """Read rules from a TOML file.

    They take the place of the default ones, or with `include_defaults = true` join them.

    Raises:
        ConfigError: Something in it is wrong: names the file, the rule and the field.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", path=str(path)) from None
    except ValueError as error:
        raise ConfigError(f"is not TOML: {error}", path=str(path)) from None
    include = data.pop("include_defaults", False)
    entries = data.pop("rules", [])
    if data or not isinstance(include, bool) or not isinstance(entries, list):
        msg = "takes [[rules]] and include_defaults = true or false, and nothing else"
        raise ConfigError(msg, path=str(path))
    rules = [_rule(entry, f"{path}: rules[{index}]") for index, entry in enumerate(entries)]
    if include:
        rules.extend(DEFAULT_RULES)
    ids = [rule.id for rule in rules]
    for index, rule in enumerate(rules):
        if rule.id in ids[:index]:
            msg = f"a second rule {rule.id!r}; each needs an id of its own"
            raise ConfigError(msg, path=str(path))
    return tuple(rules)


_ADAPTER = TypeAdapter(Rule)


def _rule(entry: object, place: str) -> Rule:
    try:
        return _ADAPTER.validate_python(entry)
    except ValidationError as error:
        _, message = finding(error, "field", Rule.__dataclass_fields__)
        raise ConfigError(message, path=place) from None
