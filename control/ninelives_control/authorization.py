"""Decide who may do what: nothing, unless a rule allows it, and no rule denies it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeGuard

from ninelives_control.command import Proposal
from ninelives_control.identity import Role
from ninelives_control.paths import ANYWHERE, matches, reaches
from ninelives_control.rules import DEFAULT_RULES, Rule, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ninelives_control.command import Effect, Target
    from ninelives_control.identity import Identity
    from ninelives_control.model import ParameterValue

BY_DEFAULT = "deny-by-default"
"""What stands for the rule when none applies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether something may be done, and why.

    Attributes:
        allowed: Whether.
        rule: Id of the rule that decided.
        sentence: What would be allowed, when this is not; or "".
    """

    allowed: bool
    rule: str
    sentence: str = ""


class Authorization:
    """Applies rules.

    Args:
        declared: Returns the value that the parameter at an address was declared with.
        rules: The rules; all of them are looked at.
    """

    def __init__(
        self,
        declared: Callable[[str], ParameterValue],
        rules: Sequence[Rule] = DEFAULT_RULES,
    ) -> None:
        """Hold the rules."""
        self._declared = declared
        self._rules = tuple(rules)

    def may_use(self, identity: Identity, command: str, effect: Effect) -> Decision:
        """Decide whether an identity may use a command at all, wherever that be."""
        rules = self._rules_for(identity.role, command, effect)
        for rule in rules:
            if rule.verdict is Verdict.DENY and ANYWHERE in rule.paths:
                return Decision(allowed=False, rule=rule.id, sentence=_denied(rule, command))
        for rule in rules:
            if rule.verdict is Verdict.ALLOW:
                return Decision(allowed=True, rule=rule.id)
        return Decision(
            allowed=False,
            rule=BY_DEFAULT,
            sentence=self._who_may(identity.role, command, effect),
        )

    def may_do(
        self, identity: Identity, command: str, effect: Effect, targets: Sequence[Target]
    ) -> Decision:
        """Decide whether an identity may use a command on all of these targets.

        Raises:
            UnknownNameError: A rule asks for the declared value of a parameter that is not there.
        """
        general = self.may_use(identity, command, effect)
        if not general.allowed:
            return general
        rules = self._rules_for(identity.role, command, effect)
        decisions = [self._decide(rules, identity.role, command, target) for target in targets]
        refused = [decision for decision in decisions if not decision.allowed]
        return (refused or decisions or [general])[0]

    def _rules_for(self, role: Role, command: str, effect: Effect) -> list[Rule]:
        return [
            rule
            for rule in self._rules
            if role in rule.roles
            and effect in rule.effects
            and any(fnmatchcase(command, pattern) for pattern in rule.commands)
        ]

    def _decide(self, rules: list[Rule], role: Role, command: str, target: Target) -> Decision:
        for rule in rules:
            # A list of all stacks would show the one that is denied, too.
            if rule.verdict is Verdict.DENY and _any(reaches, rule, target):
                return Decision(allowed=False, rule=rule.id, sentence=_denied(rule, command))
        here = [rule for rule in rules if rule.verdict is Verdict.ALLOW]
        here = [rule for rule in here if _any(matches, rule, target)]
        too_far: Decision | None = None
        for rule in here:
            sentence = self._beyond(rule, target)
            if not sentence:
                return Decision(allowed=True, rule=rule.id)
            too_far = too_far or Decision(allowed=False, rule=rule.id, sentence=sentence)
        return too_far or Decision(
            allowed=False, rule=BY_DEFAULT, sentence=_elsewhere(rules, role, command)
        )

    def _beyond(self, rule: Rule, target: Target) -> str:
        """Say what the rule would allow, if it does not allow the value; or return ""."""
        if not rule.bounded or not isinstance(target, Proposal):
            return ""
        declared = None if rule.factor is None else self._declared(target.path)
        span = _span(rule, declared)
        if span is None:
            return (
                f"rule {rule.id} allows a multiple of the declared value of {target.path}, which "
                f"is {_show(declared)}; it would need a minimum and a maximum"
            )
        low, high = span
        if _is_number(target.value) and low <= target.value <= high:
            return ""
        text = f"rule {rule.id} allows {target.path} numbers from {low:g} to {high:g}"
        if rule.factor is None:
            return text
        return f"{text}, as {_show(declared)} is declared and the factor is {rule.factor:g}"

    def _who_may(self, role: Role, command: str, effect: Effect) -> str:
        able = [other for other in Role if self._some_allow(other, command, effect)]
        others = f"the role {' or '.join(able)} may" if able else "no rule allows it to anybody"
        return f"the role {role} may not use {command}; {others}"

    def _some_allow(self, role: Role, command: str, effect: Effect) -> bool:
        rules = self._rules_for(role, command, effect)
        return any(rule.verdict is Verdict.ALLOW for rule in rules)


def _any(fits: Callable[[str, str], bool], rule: Rule, target: Target) -> bool:
    return any(fits(path, target.path) for path in rule.paths)


def _denied(rule: Rule, command: str) -> str:
    roles, paths = " and ".join(rule.roles), " and ".join(rule.paths)
    return f"rule {rule.id} denies {command} on {paths} to the role {roles}"


def _elsewhere(rules: list[Rule], role: Role, command: str) -> str:
    paths = [path for rule in rules if rule.verdict is Verdict.ALLOW for path in rule.paths]
    return f"the role {role} may use {command} on {' and '.join(paths)} only"


def _span(rule: Rule, declared: ParameterValue) -> tuple[float, float] | None:
    """Return the lowest and highest number allowed, or None if that cannot be said."""
    low = -math.inf if rule.minimum is None else rule.minimum
    high = math.inf if rule.maximum is None else rule.maximum
    if rule.factor is None:
        return low, high
    if _is_number(declared) and declared:
        ends = sorted((declared / rule.factor, declared * rule.factor))
        return max(low, ends[0]), min(high, ends[1])
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _is_number(value: ParameterValue) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _show(value: ParameterValue) -> str:
    return "null" if value is None else f"{value:g}" if _is_number(value) else str(value)
