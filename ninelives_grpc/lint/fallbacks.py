"""Sides of a `|` whose turn never comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ninelives_grpc.lint.finding import Finding
from ninelives_grpc.policies.budget import RetryBudget
from ninelives_grpc.policies.policy import Role
from ninelives_grpc.stacks.leaves import FallbackLeaf, RespondLeaf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ninelives_grpc.lint.as_if import AsIf
    from ninelives_grpc.policies.budget import BudgetFlow
    from ninelives_grpc.stacks.plan import Plan


def fallback_never_runs(plan: Plan, as_if: AsIf) -> Iterator[Finding]:
    """Find sides of a `|` whose turn never comes."""
    leaf = plan.leaf
    if leaf is None:
        return
    for inner in leaf.plans:
        yield from fallback_never_runs(inner, as_if)
    if not isinstance(leaf, FallbackLeaf):
        return
    path = f"{leaf._address.stack}/{leaf._address.policy}"
    first = next((side for side in leaf.plans[:-1] if _always_answers(side)), None)
    if first is not None:
        yield Finding(
            rule="fallback-never-runs",
            path=path,
            message=f"{first.leaf._respond.path} always answers, "  # type: ignore[union-attr]
            "and what follows it is never asked",
            fix="put the local answer last",
        )
    elif leaf._budget is not None and _penniless(as_if(leaf._budget)):
        yield Finding(
            rule="fallback-never-runs",
            path=path,
            message=f"{leaf._budget.path} never pays, so that a side with attempts is never asked",
            fix=f"give {leaf._budget.path} a capacity, and a threshold below 1",
        )


def _always_answers(side: Plan) -> bool:
    if not isinstance(side.leaf, RespondLeaf) or callable(side.leaf._respond.policy.value):
        return False
    return Role.GATE not in {layer.role for layer in side.layers}


def _penniless(budget: BudgetFlow[Any]) -> bool:
    policy = budget.policy
    if not isinstance(policy, RetryBudget) or policy.cost == 0:
        return False
    return policy.threshold == 1 or policy.capacity < policy.cost
