"""Why somebody may do something, or not."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pydantic import Field

from ninelives_control.authorization.decision import Request, RuleOutcome
from ninelives_control.command import Context, Effect, Proposal, Target, command
from ninelives_control.errors import Code, CommandError
from ninelives_control.identity.identity import Role
from ninelives_control.model import Arguments, ParameterValue, Result, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ninelives_control.authorization.decision import Explanation
    from ninelives_control.identity.identity import Identity

_MAY_ASK_ABOUT_OTHERS = (Role.OPERATOR, Role.ADMIN)


class ExplainAuthorization(Arguments):
    """What somebody would like to do."""

    command: Text = Field(description="Name of the command that it would take.")
    role: Role | None = Field(default=None, description="The role of who would; yours.")
    path: Text = Field(default="", description="Address that it would act on; none.")
    value: ParameterValue = Field(
        default=None,
        description="Value that the parameter there would have; if not given, bounds on values "
        "are not looked at.",
    )
    reason: Text = Field(default="", description="The reason that would be given; none.")


class RuleFinding(Result):
    """What one rule says of it."""

    rule: str = Field(description="Id of the rule.")
    outcome: RuleOutcome = Field(description="What it says.")
    decided: bool = Field(description="Whether that was what counted.")
    sentence: str = Field(description="Why.")


class AuthorizationExplained(Result):
    """Whether it would be allowed now, and how that comes about."""

    allowed: bool = Field(description="Whether.")
    role: Role = Field(description="The role that was asked about.")
    rule: str = Field(description="Id of the rule that decided.")
    sentence: str = Field(description="What would be allowed, when this is not; or empty.")
    findings: list[RuleFinding] = Field(description="What each rule says, in their order.")
    problem: str = Field(description="Why the rules are those of before; or empty.")


def _place(arguments: ExplainAuthorization, _context: Context) -> Sequence[Target]:
    # Who may not read there is not told the values that bounds are made of.
    return (Target(path=arguments.path),) if arguments.path else ()


@command(Effect.READ, targets=_place)
def explain_authorization(
    arguments: ExplainAuthorization, context: Context
) -> AuthorizationExplained:
    """Say whether you may do something now, and why, rule by rule; nothing is done."""
    wanted = context.commands.get(arguments.command)
    identity = _of_role(context.identity, arguments.role)
    if not arguments.path:
        targets: tuple[Target, ...] = ()
    elif "value" in arguments.model_fields_set:
        targets = (Proposal(path=arguments.path, value=arguments.value),)
    else:
        targets = (Target(path=arguments.path),)
    request = Request(
        identity=identity,
        command=wanted.name,
        effect=wanted.effect,
        targets=targets,
        reason=arguments.reason,
    )
    return explained_of(context.explain(request), identity.role)


def explained_of(explanation: Explanation, role: Role) -> AuthorizationExplained:
    """Return an explanation in the form in which it is told."""
    decision = explanation.decision
    return AuthorizationExplained(
        allowed=decision.allowed,
        role=role,
        rule=decision.rule,
        sentence=decision.sentence,
        findings=[
            RuleFinding(
                rule=found.rule,
                outcome=found.outcome,
                decided=found.decided,
                sentence=found.sentence,
            )
            for found in explanation.findings
        ],
        problem=explanation.problem,
    )


def _of_role(identity: Identity, role: Role | None) -> Identity:
    """Return the caller, or somebody without a name in another role.

    Raises:
        CommandError: `permission_denied`: the caller may not ask about others.
    """
    if role in {None, identity.role}:
        return identity
    if identity.role not in _MAY_ASK_ABOUT_OTHERS:
        message = (
            f"the role {identity.role} may ask about itself only; the role "
            f"{' or '.join(_MAY_ASK_ABOUT_OTHERS)} may ask about all"
        )
        raise CommandError(Code.PERMISSION_DENIED, message, field="role")
    assert role is not None
    return dataclasses.replace(identity, name="", role=role)
