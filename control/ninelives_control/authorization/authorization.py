"""Decide who may do what: nothing, unless a rule allows it, and no rule denies it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from ninelives_control.authorization.conditions import Conditions
from ninelives_control.authorization.decision import (
    BY_DEFAULT,
    Decision,
    Explanation,
    Finding,
    Request,
    RuleOutcome,
    with_problem,
)
from ninelives_control.authorization.quota import Quota
from ninelives_control.authorization.rules import DEFAULT_RULES, Rule, Verdict, load
from ninelives_control.command import Proposal
from ninelives_control.files import Loaded, Reloaded
from ninelives_control.identity.identity import Role
from ninelives_control.paths import ANYWHERE, matches, reaches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from ninelives_control.authorization.decision import Authorizer, Facts
    from ninelives_control.command import Command, Effect, Target
    from ninelives_control.identity.identity import Identity

Said = tuple[Rule, RuleOutcome, str]
"""What a rule says of a target, and the sentence that a refusal would have."""


class Authorization:
    """Applies rules.

    A step is measured from the value at the time of the decision; who must be sure of that value
    gives the command an `expected_revision`.

    Args:
        facts: What there is to know of the world.
        rules: The rules, all of which are looked at; or what returns those that are in force.
    """

    def __init__(
        self,
        facts: Facts,
        rules: Sequence[Rule] | Callable[[], Loaded[tuple[Rule, ...]]] = DEFAULT_RULES,
    ) -> None:
        """Hold the rules."""
        if callable(rules):
            self._rules = rules
        else:
            fixed = Loaded(value=tuple(rules))
            self._rules = lambda: fixed
        self._quota = Quota(facts.now)
        self._conditions = Conditions(facts, self._quota)

    def may_use(self, identity: Identity, command: str, effect: Effect) -> Decision:
        """Decide whether an identity may use a command at all, wherever and whenever that be."""
        loaded = self._rules()
        request = Request(identity=identity, command=command, effect=effect)
        rules = _rules_for(loaded.value, request)
        for rule in rules:
            if rule.verdict is Verdict.DENY and _is_about(rule, None) and self._in_time(rule):
                refusal = Decision(allowed=False, rule=rule.id, sentence=_denied(rule, command))
                return with_problem(refusal, loaded.problem)
        for rule in rules:
            if rule.verdict is Verdict.ALLOW:
                return Decision(allowed=True, rule=rule.id)
        sentence = _nothing(loaded.value, request)
        refusal = Decision(allowed=False, rule=BY_DEFAULT, sentence=sentence)
        return with_problem(refusal, loaded.problem)

    def may_do(self, request: Request) -> Decision:
        """Decide whether a request is allowed now; this counts nothing.

        Raises:
            UnknownNameError: A rule asks for the value of a parameter that is not there.
        """
        return self._decide(request)[0]

    def begin(self, request: Request) -> Decision:
        """Decide as `may_do`, and count what is allowed: it is about to be done.

        Each target is a change of its own.

        Raises:
            UnknownNameError: As `may_do`.
        """
        while True:
            decision, changes = self._decide(request)
            # Another thread may have taken the last of an hour: decide anew then.
            if not decision.allowed or self._quota.take(changes):
                return decision

    def explain(self, request: Request) -> Explanation:
        """Say what `may_do` would decide, and why, rule by rule.

        Raises:
            UnknownNameError: As `may_do`.
        """
        loaded = self._rules()
        planned: Counter[str] = Counter()
        explained: list[Explanation] = []
        for target in _places(request):
            said = list(self._said(_rules_for(loaded.value, request), request, target, planned))
            decision = _outcome(said, loaded.value, request)
            planned[decision.rule] += 1
            explained.append(
                Explanation(
                    decision=with_problem(decision, loaded.problem),
                    findings=tuple(self._findings(loaded.value, said, decision, request, target)),
                    problem=loaded.problem,
                )
            )
        refused = [one for one in explained if not one.decision.allowed]
        return (refused or explained)[0]

    def _decide(self, request: Request) -> tuple[Decision, dict[tuple[str, str], tuple[int, int]]]:
        """Return the decision, and the limit and number of changes to be counted, by their key."""
        loaded = self._rules()
        rules = _rules_for(loaded.value, request)
        limits = {rule.id: rule.changes_per_hour for rule in rules}
        planned: Counter[str] = Counter()
        decisions: list[Decision] = []
        for target in _places(request):
            said = self._said(rules, request, target, planned)
            decision = _outcome(said, loaded.value, request)
            if not decision.allowed:
                return with_problem(decision, loaded.problem), {}
            planned[decision.rule] += 1
            decisions.append(decision)
        changes = {
            (request.identity.name, rule): (limit, count)
            for rule, count in planned.items()
            if (limit := limits[rule]) is not None and request.changes
        }
        return decisions[0], changes

    def _said(
        self, rules: Iterable[Rule], request: Request, target: Target | None, planned: Counter[str]
    ) -> Iterator[Said]:
        """Go through the rules that speak of this: those that deny first."""
        allowing: list[Rule] = []
        for rule in rules:
            if not _is_about(rule, target):
                continue
            if rule.verdict is Verdict.ALLOW:
                allowing.append(rule)
            elif self._in_time(rule):
                yield rule, RuleOutcome.DENIES, _denied(rule, request.command)
        for rule in allowing:
            proposal = target if isinstance(target, Proposal) else None
            unmet = self._conditions.unmet(rule, request, proposal, planned[rule.id])
            yield rule, RuleOutcome.WOULD_ALLOW if unmet else RuleOutcome.ALLOWS, unmet

    def _findings(
        self,
        rules: Sequence[Rule],
        said: Sequence[Said],
        decision: Decision,
        request: Request,
        target: Target | None,
    ) -> Iterator[Finding]:
        """Go through all rules in their order, also those that do not speak of this."""
        by_id = {rule.id: (outcome, sentence) for rule, outcome, sentence in said}
        for rule in rules:
            outcome, sentence = by_id.get(rule.id, (RuleOutcome.SILENT, ""))
            if outcome is RuleOutcome.SILENT:
                sentence = _other(rule, request, target) or self._conditions.out_of_time(rule)
            elif outcome is RuleOutcome.ALLOWS:
                sentence = f"rule {rule.id} allows {request.command} here"
            decided = rule.id == decision.rule
            yield Finding(rule=rule.id, outcome=outcome, decided=decided, sentence=sentence)

    def _in_time(self, rule: Rule) -> bool:
        return not self._conditions.out_of_time(rule)


def authorization_of(
    path: Path | None, facts: Facts, commands: Iterable[Command[Any, Any]]
) -> Authorizer:
    """Return what decides by a file, which is looked at again when it has changed.

    Args:
        path: The file of rules, or of policies if it ends with `.cedar`; None for the default
            rules.
        facts: What there is to know of the world.
        commands: Those that policies in Cedar may name.

    Raises:
        ConfigError: Something in the file is wrong; names it.
        MissingExtraError: Cedar is not installed.
    """
    if path is None:
        return Authorization(facts)
    if path.suffix == ".cedar":
        from ninelives_control.authorization import cedar  # noqa: PLC0415 - may not be installed

        return cedar.Cedar(facts, Reloaded([path], lambda: cedar.read(path, commands)).loaded)
    return Authorization(facts, Reloaded([path], lambda: load(path)).loaded)


def _rules_for(rules: Iterable[Rule], request: Request) -> list[Rule]:
    return [rule for rule in rules if not _speaks_of_others(rule, request)]


def _places(request: Request) -> Sequence[Target | None]:
    """Return its targets, or one that is nothing in particular."""
    return request.targets or (None,)


def _speaks_of_others(rule: Rule, request: Request) -> str:
    """Return the name of the field by which the rule speaks of something else, or ""."""
    if request.identity.role not in rule.roles:
        return "roles"
    if request.effect not in rule.effects:
        return "effects"
    if not any(fnmatchcase(request.command, pattern) for pattern in rule.commands):
        return "commands"
    return ""


def _is_about(rule: Rule, target: Target | None) -> bool:
    if target is None:
        # In no particular place: it is denied where all places are, and allowed where any is.
        return rule.verdict is Verdict.ALLOW or ANYWHERE in rule.paths
    # A list of all stacks would show the one that is denied, too.
    fits = reaches if rule.verdict is Verdict.DENY else matches
    return any(fits(path, target.path) for path in rule.paths)


def _outcome(said: Iterable[Said], rules: Sequence[Rule], request: Request) -> Decision:
    """Return what follows from what rules say, of which those that deny come first."""
    unmet: Decision | None = None
    for rule, outcome, sentence in said:
        if outcome is RuleOutcome.ALLOWS:
            return Decision(allowed=True, rule=rule.id)
        refusal = Decision(allowed=False, rule=rule.id, sentence=sentence)
        if outcome is RuleOutcome.DENIES:
            return refusal
        unmet = unmet or refusal
    return unmet or Decision(allowed=False, rule=BY_DEFAULT, sentence=_nothing(rules, request))


def _denied(rule: Rule, command: str) -> str:
    roles, paths = " and ".join(rule.roles), " and ".join(rule.paths)
    text = f"rule {rule.id} denies {command} on {paths} to the role {roles}"
    return text if rule.schedule is None else f"{text}, {rule.schedule.text}"


def _nothing(rules: Sequence[Rule], request: Request) -> str:
    """Say where the role may use the command, or else who may."""
    role, command = request.identity.role, request.command
    here = _allowing(rules, request)
    if here:
        paths = [path for rule in here for path in rule.paths]
        return f"the role {role} may use {command} on {' and '.join(paths)} only"
    able = [
        other
        for other in Role
        if _allowing(rules, replace(request, identity=replace(request.identity, role=other)))
    ]
    others = f"the role {' or '.join(able)} may" if able else "no rule allows it to anybody"
    return f"the role {role} may not use {command}; {others}"


def _allowing(rules: Iterable[Rule], request: Request) -> list[Rule]:
    return [rule for rule in _rules_for(rules, request) if rule.verdict is Verdict.ALLOW]


def _other(rule: Rule, request: Request, target: Target | None) -> str:
    """Say of what else a rule speaks, if not of this; or return ""."""
    field = _speaks_of_others(rule, request)
    if not field and not _is_about(rule, target):
        field = "paths"
    values = getattr(rule, field) if field else ()
    return f"rule {rule.id} speaks of the {field} {' and '.join(values)}" if field else ""
