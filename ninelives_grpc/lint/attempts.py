"""Attempts that do no good: too many, too long, too late, or never made."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ninelives_grpc.idempotency import marked_idempotent
from ninelives_grpc.lint.finding import Finding
from ninelives_grpc.lint.timeouts import seconds_of, shortest_timeout
from ninelives_grpc.policies.budget import ConcurrencyBudget, RetryBudget, WindowBudget
from ninelives_grpc.policies.circuit_breaker import CircuitBreaker, Mode
from ninelives_grpc.policies.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ninelives_grpc.lint.finding import Way
    from ninelives_grpc.policies.budget import BudgetFlow
    from ninelives_grpc.policies.policy import Live


def attempts_outlast_deadline(way: Way) -> Iterator[Finding]:
    """Find attempts that together may take longer than the call may."""
    for index, retry in _retries(way):
        outer, inner = shortest_timeout(way[:index]), shortest_timeout(way[index + 1 :])
        if outer is None or inner is None:
            continue
        limit, each, attempts = seconds_of(outer), seconds_of(inner), retry.policy.max_attempts
        if each * attempts > limit:
            yield Finding(
                rule="attempts-outlast-deadline",
                path=inner.path,
                message=f"{attempts} attempts of {each:g} s take longer than the {limit:g} s "
                f"of {outer.path}",
                fix=f"set {inner.path}/seconds to {limit / attempts:.3g} or less, "
                "or make fewer attempts",
            )


def breaker_outside_retry(way: Way) -> Iterator[Finding]:
    """Find circuit breakers that see one call where the backend sees several attempts."""
    for index, live in enumerate(way):
        if not isinstance(live.policy, CircuitBreaker) or live.policy.mode is Mode.DISABLED:
            continue
        for _, retry in _retries(way[index + 1 :]):
            yield Finding(
                rule="breaker-outside-retry",
                path=live.path,
                message=f"it stands outside {retry.path}, and sees one call, not the attempts",
                fix="put the retry outside the circuit breaker: retry + circuit_breaker",
            )


def hedge_not_idempotent(way: Way, methods: Collection[str]) -> Iterator[Finding]:
    """Find hedges of methods that are not known to be idempotent."""
    for live in way:
        told = getattr(live.policy, "idempotent", True)
        if type(live.policy).__name__ != "Hedge" or told is True or live.policy.max_hedges == 0:
            continue
        named = told or ()
        # What has no slash is no method, but where the recorder puts what it can not keep apart.
        called = [name for name in methods if "/" in name]
        unknown = [name for name in called if name not in named and not marked_idempotent(name)]
        if unknown:
            message = f"{unknown[0]} is not known to be idempotent, and is never hedged"
        elif not named and not called:
            message = "no method is named that it may hedge, and only marked ones will be"
        else:
            continue
        yield Finding(
            rule="hedge-not-idempotent",
            path=live.path,
            message=message,
            fix="name it in idempotent=[...], or mark it idempotency_level in its .proto",
        )


def retries_multiply(way: Way) -> Iterator[Finding]:
    """Find retries inside of retries."""
    for (_, outer), (_, inner) in pairwise(_retries(way)):
        product = outer.policy.max_attempts * inner.policy.max_attempts
        yield Finding(
            rule="retries-multiply",
            path=inner.path,
            message=f"it repeats what {outer.path} repeats too: {product} attempts for one call",
            fix="let one layer retry, and take out the other",
        )


def retries_without_budget(way: Way) -> Iterator[Finding]:
    """Find retries that nothing bounds, so that they multiply the load in an outage."""
    for _, retry in _retries(way):
        budget = retry.budget  # type: ignore[attr-defined]
        if _boundless(budget, retry.policy.max_attempts - 1):
            yield Finding(
                rule="retries-without-budget",
                path=retry.path,
                message=f"{budget.path} pays for every repetition: in an outage the backend gets "
                f"{retry.policy.max_attempts} times the load",
                fix="use RetryBudget() as it is by default",
            )


def _boundless(budget: BudgetFlow[Any], extra: int) -> bool:
    policy = budget.policy
    if isinstance(policy, RetryBudget):
        return policy.cost == 0
    return isinstance(policy, WindowBudget | ConcurrencyBudget) and policy.ratio >= extra


def _retries(way: Way) -> list[tuple[int, Live[Any]]]:
    """Return the retries that do retry, with their places."""
    return [
        (index, live)
        for index, live in enumerate(way)
        if isinstance(live.policy, Retry) and live.policy.max_attempts > 1
    ]
