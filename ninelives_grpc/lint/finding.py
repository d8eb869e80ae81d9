"""What is found: a place, what is wrong there, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ninelives_grpc.policies.policy import Live

    Way = tuple[Live[Any], ...]
    """The policies that a call passes, outermost first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that a stack would be better without.

    Attributes:
        rule: What it is about, such as "breaker-outside-retry".
        path: The policy at fault, `stack/policy`.
        message: What is wrong, in one sentence.
        fix: What to do.
    """

    rule: str
    path: str
    message: str
    fix: str

    def __str__(self) -> str:
        """Show all of it on one line."""
        return f"{self.path}: {self.message}; {self.fix} [{self.rule}]"
