"""Change parameters of several policies at once: all of them, or none."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ninelives_grpc.errors import RevisionError
from ninelives_grpc.parameters import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ninelives_grpc.policies.policy import Live, Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to change of a policy.

    Attributes:
        live: The running policy.
        values: New values by name of the parameter.
        expected_revision: Change only if the policy is still at this revision.
    """

    live: Live[Any]
    values: Mapping[str, object]
    expected_revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A policy that has its lock, and what becomes of it."""

    live: Live[Any]
    old: Policy
    new: Policy
    changes: Sequence[Change]

    @property
    def differs(self) -> bool:
        return any(change.old != change.new for change in self.changes)


def change_all(
    wanted: Sequence[Wanted],
    *,
    dry_run: bool = False,
    by: str = "",
    reason: str = "",
    first: Callable[[Sequence[Change]], None] | None = None,
) -> list[Change]:
    """Swap the snapshots of policies for ones with other values; all of them, or none.

    Calls that run go on with the snapshots that they started with; one that starts meanwhile may
    find some policies changed and others not yet. What is so already is left alone, and nobody is
    told of it.

    Args:
        wanted: What is to change; each policy once.
        dry_run: Validate, and change nothing.
        by: Who asks, for the events.
        reason: Why, for the events.
        first: Called when all is valid and before anything holds: what it raises calls all off.

    Raises:
        ConfigError: A value is not allowed.
        RevisionError: A policy is not at the expected revision any more.
        UnknownNameError: A policy has no parameter of that name.
    """
    for one in wanted:
        for name in one.values:
            one.live.parameter(name)
    with contextlib.ExitStack() as locks:
        # In one order whoever asks, so that two of them never wait for each other.
        for one in sorted(wanted, key=lambda one: id(one.live)):
            locks.enter_context(one.live.changing)
        steps = [_step(one, dry_run=dry_run) for one in wanted]
        changes = [change for step in steps for change in step.changes]
        if dry_run:
            return changes
        if first is not None:
            first(changes)
        steps = [step for step in steps if step.differs]
        for step in steps:
            step.live.become(step.new, step.old)
    for step in steps:
        for change in step.changes:
            if change.old != change.new:
                step.live.announce(change, by, reason)
    return changes


def _step(wanted: Wanted, *, dry_run: bool) -> _Step:
    live, old, expected = wanted.live, wanted.live.policy, wanted.expected_revision
    if expected is not None and expected != live.revision:
        raise RevisionError(live.path, expected, live.revision)
    new = live.with_values(wanted.values)
    pairs = [(name, getattr(old, name), getattr(new, name)) for name in wanted.values]
    differs = any(before != after for _, before, after in pairs)
    revision = live.revision + (differs and not dry_run)
    changes = [
        Change(path=f"{live.path}/{name}", old=before, new=after, revision=revision)
        for name, before, after in pairs
    ]
    return _Step(live=live, old=old, new=new, changes=changes)
