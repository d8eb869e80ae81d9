"""Say what does not go well together in a stack: each finding with its place, and what to do.

Every rule looks at one way that a call can take through the plan, outermost policy first, with the
values that hold now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.lint.as_if import AsIf
from ninelives_grpc.lint.attempts import (
    attempts_outlast_deadline,
    breaker_outside_retry,
    hedge_not_idempotent,
    retries_multiply,
    retries_without_budget,
)
from ninelives_grpc.lint.fallbacks import fallback_never_runs
from ninelives_grpc.lint.finding import Finding
from ninelives_grpc.lint.loops import loops_astray
from ninelives_grpc.lint.shedding import early_drop_without_limit, load_shed_without_source
from ninelives_grpc.lint.waiting import (
    idle_outlasts_limit,
    queue_of_several_executors,
    queue_outlasts_deadline,
    queue_without_executor,
    rank_without_queue,
    waits_twice,
    width_over_workers,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from ninelives_grpc.laws.loop import FeedbackLoop
    from ninelives_grpc.lint.finding import Way
    from ninelives_grpc.policies.policy import Policy
    from ninelives_grpc.stacks.plan import Plan

__all__ = ["Finding", "findings"]

RULES: tuple[Callable[[Way], Iterator[Finding]], ...] = (
    attempts_outlast_deadline,
    breaker_outside_retry,
    retries_multiply,
    queue_outlasts_deadline,
    retries_without_budget,
    idle_outlasts_limit,
    rank_without_queue,
    early_drop_without_limit,
    load_shed_without_source,
    queue_without_executor,
    width_over_workers,
    queue_of_several_executors,
    waits_twice,
)
"""What is looked for on each way by its policies alone."""


def findings(
    plan: Plan,
    methods: Collection[str] = (),
    instead: Mapping[str, Policy] | None = None,
    loops: Iterable[FeedbackLoop] = (),
) -> list[Finding]:
    """Return what is found on all ways through a plan, each once.

    Args:
        plan: The plan of a stack.
        methods: What was called lately.
        instead: Snapshots to look at in place of those that hold now, by `stack/policy`.
        loops: The loops that steer its policies.
    """
    found: dict[Finding, None] = {}
    as_if = AsIf(instead or {})
    for real in _ways(plan, ()):
        way = tuple(as_if(live) for live in real)
        for rule in RULES:
            found |= dict.fromkeys(rule(way))
        found |= dict.fromkeys(hedge_not_idempotent(way, methods))
    found |= dict.fromkeys(fallback_never_runs(plan, as_if))
    for loop in loops:
        found |= dict.fromkeys(loops_astray(loop, as_if))
    return list(found)


def _ways(plan: Plan, outer: Way) -> Iterator[Way]:
    way = (*outer, *plan.layers)
    if plan.leaf is None or not plan.leaf.plans:
        yield way
        return
    for inner in plan.leaf.plans:
        yield from _ways(inner, way)
