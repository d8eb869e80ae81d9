"""What commands that change parameters have in common: who wants it, and what the linter thinks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ninelives_control.changes.changes import Order
from ninelives_control.model import Result
from ninelives_grpc.clock import rfc3339

if TYPE_CHECKING:
    from datetime import datetime

    from pydantic import BaseModel

    from ninelives_control.changes.changes import Made
    from ninelives_control.command import Context


class Finding(Result):
    """Something that a stack would be better without."""

    rule: str = Field(description="What it is about, such as `breaker-outside-retry`.")
    path: str = Field(description="The policy at fault, `stack/policy`.")
    message: str = Field(description="What is wrong.")
    fix: str = Field(description="What to do.")
    is_new: bool = Field(description="Whether it was not so before.")


def order_of(arguments: BaseModel, context: Context) -> Order:
    """Return who wants a change and how, by the names of the arguments."""
    return Order(
        id=context.id,
        identity=context.identity,
        reason=getattr(arguments, "reason", ""),
        dry_run=getattr(arguments, "dry_run", False),
        lease=getattr(arguments, "lease", None),
    )


def findings_of(made: Made) -> list[Finding]:
    """Return what the linter thinks, as it is told."""
    return [
        Finding(
            rule=found.rule, path=found.path, message=found.message, fix=found.fix, is_new=is_new
        )
        for found, is_new in made.findings
    ]


def moment(time: datetime | None) -> str | None:
    """Return a moment in RFC 3339."""
    return None if time is None else rfc3339(time)
