"""Rules of authorization: data, made in code or read from a TOML file.

include_defaults = true

[[rules]]
id = "payments-is-for-people"
roles = ["agent"]
commands = ["set_parameter", "reset_*"]
paths = ["payments/**"]
verdict = "deny"

[[rules]]
id = "agents-tune-timeouts-with-care"
roles = ["agent"]
commands = ["set_parameter"]
paths = ["*/timeout/*"]
step = 2.0                       # at most twice or half of what it is now,
factor = 8.0                     # and never beyond eight times of what was declared
maximum = 30.0
reason_required = true
changes_per_hour = 10            # for each agent
hours = "09:00-17:00"            # "22:00-06:00" goes on after midnight
days = ["mon", "tue", "wed", "thu", "fri"]
timezone = "Europe/Berlin"       # UTC if not given

[[rules]]
id = "no-changes-on-friday-evening"
roles = ["operator", "agent"]
effects = ["change", "destructive"]
hours = "16:00-24:00"
days = ["fri"]
verdict = "deny"

The control plane looks at the file while it runs: put a new version into place at once, by
renaming.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ninelives_control.authorization.schedule import Day, Schedule, schedule_of
from ninelives_control.command import Effect
from ninelives_control.errors import finding
from ninelives_control.identity.identity import Role
from ninelives_control.paths import ANYWHERE
from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MAX_CHANGES = 10_000
"""Changes per hour that a rule may count up to; one that allows more need not count."""

_FOR_ALLOWING = "factor, step, minimum, maximum, reason_required and changes_per_hour"


class Verdict(StrEnum):
    """What a rule says about the commands it speaks of."""

    ALLOW = "allow"
    DENY = "deny"
    """It wins over every rule that allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who may do what, where, when, and within which bounds.

    A rule with bounds allows only numbers, and only within all of them. What reads needs no reason
    and is not counted.

    Attributes:
        id: Its name in decisions and in the audit.
        roles: Whom it speaks of.
        verdict: Whether it allows or denies.
        commands: Patterns of command names, such as `reset_*`.
        effects: Of commands with which effect it speaks.
        paths: Patterns of addresses, see `paths`.
        factor: How many times a number may be moved up or down from its declared value; more
            than 1.
        step: How many times a number may be moved up or down from its present value; more than 1.
            Where that is none, or 0, any step will do that ends within the other bounds.
        minimum: Smallest number allowed.
        maximum: Largest number allowed.
        reason_required: Whether the argument `reason` must not be empty.
        changes_per_hour: How many changes each identity may make by this rule within any hour;
            counted in this process, as they are about to be made.
        hours: When it holds, such as "09:00-17:00"; "22:00-06:00" goes on after midnight.
        days: On which days; those hours that go on after midnight belong to the day before it.
        timezone: Where these hours and days are meant, such as "Europe/Berlin".

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
    step: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    reason_required: bool = False
    changes_per_hour: int | None = None
    hours: str = ""
    days: tuple[Day, ...] = ()
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        """Check what the types do not."""
        problem = self._problem()
        if problem:
            raise ConfigError(problem, path=f"rule {self.id!r}")

    @property
    def bounded(self) -> bool:
        """Whether it allows only some values."""
        return any(bound is not None for bound in self._bounds())

    @property
    def schedule(self) -> Schedule | None:
        """When it holds; None is always."""
        return schedule_of(self.hours, self.days, self.timezone)

    def _problem(self) -> str:
        for name in ("id", "roles", "commands", "effects", "paths"):
            if not getattr(self, name):
                return f"{name} must not be empty: the rule would never apply"
        try:
            schedule_of(self.hours, self.days, self.timezone)
        except ValueError as error:
            return str(error)
        conditional = self.bounded or self.reason_required or self.changes_per_hour is not None
        if conditional and self.verdict is Verdict.DENY:
            return f"{_FOR_ALLOWING} belong to a rule that allows"
        if self.changes_per_hour is not None and not 1 <= self.changes_per_hour <= MAX_CHANGES:
            return f"changes_per_hour must be from 1 to {MAX_CHANGES}, not {self.changes_per_hour}"
        return self._problem_of_bounds()

    def _problem_of_bounds(self) -> str:
        if not all(math.isfinite(bound or 0) for bound in self._bounds()):
            return "factor, step, minimum and maximum must be finite"
        for name, times in (("factor", self.factor), ("step", self.step)):
            if times is not None and times <= 1:
                return f"{name} must be more than 1, not {times:g}"
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            return f"minimum {self.minimum:g} must not be more than maximum {self.maximum:g}"
        return ""

    def _bounds(self) -> tuple[float | None, ...]:
        return (self.factor, self.step, self.minimum, self.maximum)


_TUNE = ("set_parameter", "apply_parameters", "end_lease", "undo_change")
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
    Rule(id="agents-tune", roles=(Role.AGENT,), commands=_TUNE, factor=4.0),
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
