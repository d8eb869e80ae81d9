"""Decide who may do what by policies in Cedar."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cedarpy

from ninelives_control.authorization.decision import (
    BY_DEFAULT,
    Decision,
    Explanation,
    Finding,
    Request,
    RuleOutcome,
    with_problem,
)
from ninelives_control.command import Proposal, Target
from ninelives_grpc.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ninelives_control.authorization.cedar.policies import Policies
    from ninelives_control.authorization.decision import Facts
    from ninelives_control.command import Effect
    from ninelives_control.files import Loaded
    from ninelives_control.identity.identity import Identity
    from ninelives_control.model import ParameterValue

_MILLION = 1_000_000
_LONGEST = 2**63 - 1
_EVERYTHING = ""

Answer = cedarpy.AuthzResult


class Cedar:
    """Applies policies.

    Args:
        facts: What there is to know of the world.
        policies: Returns those that are in force.
    """

    def __init__(self, facts: Facts, policies: Callable[[], Loaded[Policies]]) -> None:
        """Hold the policies."""
        self._facts = facts
        self._policies = policies

    def may_use(self, identity: Identity, command: str, effect: Effect) -> Decision:
        """Decide whether an identity may use a command at all, wherever and whenever that be."""
        loaded = self._policies()
        request = Request(identity=identity, command=command, effect=effect)
        (answer,) = self._ask(loaded.value.somewhere, request, [Target(path=_EVERYTHING)])
        return with_problem(_decision(loaded.value, answer, request, ""), loaded.problem)

    def may_do(self, request: Request) -> Decision:
        """Decide whether a request is allowed now."""
        return self.explain(request).decision

    begin = may_do
    """Nothing is counted."""

    def explain(self, request: Request) -> Explanation:
        """Say what `may_do` would decide, and which policies had a say in it."""
        loaded = self._policies()
        policies = loaded.value
        targets = request.targets or (Target(path=_EVERYTHING),)
        below = list(self._below(policies, request))
        answers = self._ask(policies.all, request, [*targets, *below])
        explained = [
            Explanation(
                decision=with_problem(
                    _decision(policies, answer, request, target.path), loaded.problem
                ),
                findings=tuple(_findings(policies, answer)),
                problem=loaded.problem,
            )
            for number, (target, answer) in enumerate(zip([*targets, *below], answers, strict=True))
            # What is below a target need not be permitted as well, but must not be forbidden.
            if number < len(targets) or _is_forbidden(answer)
        ]
        refused = [one for one in explained if not one.decision.allowed]
        return (refused or explained)[0]

    def _below(self, policies: Policies, request: Request) -> Iterator[Target]:
        """Go through what there is below the targets, if some of it could be forbidden."""
        if policies.forbidding:
            # A list of all stacks would show the one that is forbidden, too.
            for target in request.targets:
                yield from (Target(path=path) for path in self._facts.below(target.path))

    def _ask(
        self, policies: cedarpy.PolicySet, request: Request, targets: Sequence[Target]
    ) -> list[Answer]:
        identity = request.identity
        principal = {"type": "Identity", "id": identity.name}
        action = {"type": "Action", "id": request.command}
        role = {"type": "Role", "id": str(identity.role)}
        group = {"type": "Action", "id": str(request.effect)}
        entities: list[dict[str, object]] = [
            {"uid": principal, "attrs": {"name": identity.name}, "parents": [role]},
            {"uid": action, "attrs": {}, "parents": [group]},
            *_places(targets),
        ]
        requests = [
            {
                "principal": principal,
                "action": action,
                "resource": {"type": "Place", "id": target.path},
                "context": self._context(request, target),
            }
            for target in targets
        ]
        return cedarpy.is_authorized_batch(requests, policies, entities)

    def _context(self, request: Request, target: Target) -> dict[str, object]:
        context: dict[str, object] = {
            "path": target.path,
            "reason_given": bool(request.reason.strip()),
            "proposes": isinstance(target, Proposal),
        }
        if isinstance(target, Proposal):
            numbers = {
                "declared": _known(self._facts.declared, target.path),
                "old": _known(self._facts.present, target.path),
                "new": target.value,
            }
            for name, value in numbers.items():
                millionths = _millionths(value)
                if millionths is not None:
                    context[name] = millionths
        return context


def _places(targets: Sequence[Target]) -> Iterator[dict[str, object]]:
    """Go through addresses and those above them, each once."""
    seen = {""}
    for target in targets:
        path = target.path
        while path not in seen:
            seen.add(path)
            above = path.rpartition("/")[0]
            yield {
                "uid": {"type": "Place", "id": path},
                "attrs": {},
                "parents": [{"type": "Place", "id": above}],
            }
            path = above


def _known(value_of: Callable[[str], ParameterValue], path: str) -> ParameterValue:
    """Return a value, or None where there is none: that is for the command to say."""
    try:
        return value_of(path)
    except UnknownNameError:
        return None


def _millionths(value: ParameterValue) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    millionths = round(value * _MILLION)
    return millionths if abs(millionths) <= _LONGEST else None


def _is_forbidden(answer: Answer) -> bool:
    diagnostics = answer.diagnostics
    return bool(diagnostics.errors) or (not answer.allowed and bool(diagnostics.reasons))


def _decision(policies: Policies, answer: Answer, request: Request, path: str) -> Decision:
    what = f"{request.command}{' on ' + path if path else ''}"
    errors, reasons = answer.diagnostics.errors, answer.diagnostics.reasons
    titles = [title for name, title in policies.ids.items() if name in reasons]
    if errors:
        # Cedar passes over a policy that fails, also over one that would forbid.
        sentence = f"{what} is denied, as a policy fails: {' '.join(errors[0].split())}"
        return Decision(allowed=False, rule=BY_DEFAULT, sentence=sentence)
    if answer.allowed:
        return Decision(allowed=True, rule=titles[0])
    role = request.identity.role
    if titles:
        sentence = f"policy {titles[0]} forbids {what} to the role {role}"
        return Decision(allowed=False, rule=titles[0], sentence=sentence)
    sentence = f"no policy permits {what}, as it is asked for, to the role {role}"
    return Decision(allowed=False, rule=BY_DEFAULT, sentence=sentence)


def _findings(policies: Policies, answer: Answer) -> Iterator[Finding]:
    """Go through all policies; Cedar says which had a say, and not why others had none."""
    reasons = answer.diagnostics.reasons
    first = next((name for name in policies.ids if name in reasons), "")
    for name, title in policies.ids.items():
        forbids = name in policies.forbidding
        outcome, sentence = RuleOutcome.SILENT, f"policy {title} does not apply"
        if name in reasons:
            outcome = RuleOutcome.DENIES if forbids else RuleOutcome.ALLOWS
            sentence = f"policy {title} {'forbids' if forbids else 'permits'} it"
        yield Finding(rule=title, outcome=outcome, decided=name == first, sentence=sentence)
