"""What is decided on, and what comes out: for every kind of authorization alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from ninelives_control.command import Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from ninelives_control.command import Target
    from ninelives_control.identity.identity import Identity
    from ninelives_control.model import ParameterValue

BY_DEFAULT = "deny-by-default"
"""What stands for the rule when none applies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Somebody wants to use a command.

    Attributes:
        identity: Who.
        command: Its name.
        effect: What it does to what runs.
        targets: What it is to act on; none is nothing in particular.
        reason: Why, or "".
    """

    identity: Identity
    command: str
    effect: Effect
    targets: Sequence[Target] = ()
    reason: str = ""

    @property
    def changes(self) -> bool:
        """Whether it would change something."""
        return self.effect is not Effect.READ


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


class RuleOutcome(StrEnum):
    """What a rule says about a request."""

    ALLOWS = "allows"
    DENIES = "denies"
    WOULD_ALLOW = "would_allow"
    """If a condition of it held."""
    SILENT = "silent"
    """It does not speak of this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one rule says, and why.

    Attributes:
        rule: Its id.
        outcome: What it says.
        decided: Whether that was what counted.
        sentence: Why.
    """

    rule: str
    outcome: RuleOutcome
    decided: bool
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A decision, and how it came about.

    Attributes:
        decision: What would be decided now.
        findings: What each rule says of the target that decided it, in the order of the rules.
        problem: Why the rules are those of before, or "".
    """

    decision: Decision
    findings: tuple[Finding, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What authorization has to know of the world.

    Attributes:
        declared: Returns the value that the parameter at an address was declared with.
        present: Returns the value that it has now.
        below: Returns the addresses of all that there is below an address.
        wall: Returns the time of the day, with its time zone.
        now: Returns seconds that only ever grow.
    """

    declared: Callable[[str], ParameterValue]
    present: Callable[[str], ParameterValue]
    below: Callable[[str], Sequence[str]]
    wall: Callable[[], datetime]
    now: Callable[[], float]


class Authorizer(Protocol):
    """Decides who may do what, in any thread, several at once."""

    def may_use(self, identity: Identity, command: str, effect: Effect) -> Decision:
        """Decide whether an identity may use a command at all, wherever and whenever that be."""

    def may_do(self, request: Request) -> Decision:
        """Decide whether a request is allowed now; this counts nothing.

        Raises:
            UnknownNameError: It asks for the value of a parameter that is not there.
        """

    def begin(self, request: Request) -> Decision:
        """Decide as `may_do`, and count what is allowed: it is about to be done.

        Raises:
            UnknownNameError: As `may_do`.
        """

    def explain(self, request: Request) -> Explanation:
        """Say what `may_do` would decide, and why.

        Raises:
            UnknownNameError: As `may_do`.
        """


def with_problem(decision: Decision, problem: str) -> Decision:
    """Add to a refusal that the rules are those of before, if they are."""
    if decision.allowed or not problem:
        return decision
    sentence = f"{decision.sentence}; these are the rules of before, as {problem}"
    return replace(decision, sentence=sentence)
