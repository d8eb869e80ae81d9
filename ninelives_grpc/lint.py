"""Say what does not go well together in a stack: each finding with its place, and what to do.

Every rule looks at one way that a call can take through the plan, outermost policy first, with the
values that hold now.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ninelives_grpc.idempotency import marked_idempotent
from ninelives_grpc.laws.breaker_threshold import BreakerThresholdLaw
from ninelives_grpc.policies.admission_queue import AdmissionQueue
from ninelives_grpc.policies.budget import ConcurrencyBudget, RetryBudget, WindowBudget
from ninelives_grpc.policies.bulkhead import Bulkhead, Order
from ninelives_grpc.policies.circuit_breaker import CircuitBreaker, Mode
from ninelives_grpc.policies.early_drop import EarlyDrop
from ninelives_grpc.policies.gate import Gate
from ninelives_grpc.policies.load_shed import LoadShed
from ninelives_grpc.policies.policy import Role
from ninelives_grpc.policies.rate_limit import RateLimit
from ninelives_grpc.policies.retry import Retry
from ninelives_grpc.policies.scope import STACK
from ninelives_grpc.policies.timeout import Timeout
from ninelives_grpc.stacks.leaves import FallbackLeaf, RespondLeaf

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from ninelives_grpc.laws.loop import FeedbackLoop
    from ninelives_grpc.policies.budget import BudgetFlow
    from ninelives_grpc.policies.policy import Live, Policy
    from ninelives_grpc.stacks.plan import Plan

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
    as_if = _AsIf(instead or {})
    for real in _ways(plan, ()):
        way = tuple(as_if(live) for live in real)
        for rule in RULES:
            found |= dict.fromkeys(rule(way))
        found |= dict.fromkeys(hedge_not_idempotent(way, methods))
    found |= dict.fromkeys(_fallbacks(plan, as_if))
    for loop in loops:
        found |= dict.fromkeys(_loops(loop, as_if))
    return list(found)


class _AsIf:
    """Shows running policies as if they had other snapshots."""

    def __init__(self, instead: Mapping[str, Policy]) -> None:
        self._instead = instead

    def __call__(self, live: Any) -> Any:
        snapshot = self._instead.get(live.path)
        budget = getattr(live, "budget", None)
        shown = budget and self(budget)
        if snapshot is None and shown is budget:
            return live
        seen = copy.copy(live)
        seen.policy = live.policy if snapshot is None else snapshot
        if shown is not budget:
            seen.budget = shown
        return seen


def _ways(plan: Plan, outer: Way) -> Iterator[Way]:
    way = (*outer, *plan.layers)
    if plan.leaf is None or not plan.leaf.plans:
        yield way
        return
    for inner in plan.leaf.plans:
        yield from _ways(inner, way)


def attempts_outlast_deadline(way: Way) -> Iterator[Finding]:
    """Find attempts that together may take longer than the call may."""
    for index, retry in _retries(way):
        outer, inner = _shortest(way[:index]), _shortest(way[index + 1 :])
        if outer is None or inner is None:
            continue
        limit, each, attempts = _seconds(outer), _seconds(inner), retry.policy.max_attempts
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


def queue_outlasts_deadline(way: Way) -> Iterator[Finding]:
    """Find waits for a place or a turn that leave no time for the call itself."""
    for index, live in enumerate(way):
        policy, outer = live.policy, _shortest(way[:index])
        if outer is None or not isinstance(policy, Bulkhead | RateLimit):
            continue
        if isinstance(policy, Bulkhead) and policy.max_queue == 0:
            continue
        if policy.max_wait >= _seconds(outer):
            yield Finding(
                rule="queue-outlasts-deadline",
                path=live.path,
                message=f"a call may wait {policy.max_wait:g} s, and has {_seconds(outer):g} s "
                f"in all, by {outer.path}",
                fix=f"set {live.path}/max_wait to a fraction of that",
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


def idle_outlasts_limit(way: Way) -> Iterator[Finding]:
    """Find limits for the silence of a stream that are longer than the stream may last."""
    shortest = _shortest(way)
    for live in way:
        idle = live.policy.idle if isinstance(live.policy, Timeout) else None
        if idle is not None and shortest is not None and idle >= _seconds(shortest):
            yield Finding(
                rule="idle-outlasts-limit",
                path=live.path,
                message=f"a stream may be silent for {idle:g} s, and lasts no more than "
                f"{_seconds(shortest):g} s, by {shortest.path}",
                fix=f"set {live.path}/idle to a fraction of that, or to null",
            )


def rank_without_queue(way: Way) -> Iterator[Finding]:
    """Find bulkheads that are told who comes first, and have nobody wait."""
    for live in way:
        policy = live.policy
        if not isinstance(policy, Bulkhead):
            continue
        if policy.order is Order.PRIORITY and not (policy.max_queue and policy.max_wait):
            message, fix = "nobody waits, so nobody comes first", "set max_queue and max_wait"
        elif policy.fair_by != STACK and policy.order is not Order.PRIORITY:
            message = f"fair_by has no effect with the order {policy.order}"
            fix = f'set {live.path}/order to "priority"'
        else:
            continue
        yield Finding(rule="rank-without-queue", path=live.path, message=message, fix=fix)


def early_drop_without_limit(way: Way) -> Iterator[Finding]:
    """Find early drops with nothing behind them that would hold."""
    for index, live in enumerate(way):
        policy = live.policy
        if not isinstance(policy, EarlyDrop) or policy.of or policy.gauge is not None:
            continue
        behind = [gate for gate in way[index + 1 :] if isinstance(gate, Gate)]
        if all(isinstance(gate.policy, EarlyDrop) or gate.fill() is None for gate in behind):
            yield Finding(
                rule="early-drop-without-limit",
                path=live.path,
                message="there is no limit behind it whose fill it could go by, so it does nothing",
                fix="put it in front of a Bulkhead or another limit, or give it a gauge",
            )


def load_shed_without_source(way: Way) -> Iterator[Finding]:
    """Find load sheds that are told nothing."""
    for live in way:
        if isinstance(live.policy, LoadShed) and not (live.policy.sources or live.policy.sensors):
            yield Finding(
                rule="load-shed-without-source",
                path=live.path,
                message="it has neither sources nor sensors, so it never refuses a call",
                fix='name a source, such as sources=["memory"]',
            )


def queue_without_executor(way: Way) -> Iterator[Finding]:
    """Find queues of sync servers in which threads wait, behind the queue of their own pool."""
    for live in way:
        if isinstance(live.policy, AdmissionQueue) and live.in_threads and not live.workers:  # type: ignore[attr-defined]
            yield Finding(
                rule="queue-without-executor",
                path=live.path,
                message="calls wait for a thread of the server before it sees them, and then in it",
                fix="give the server an AdmissionExecutor in place of its ThreadPoolExecutor",
            )


def width_over_workers(way: Way) -> Iterator[Finding]:
    """Find queues that would have more calls run than there are workers."""
    for live in way:
        if not isinstance(live.policy, AdmissionQueue):
            continue
        width, workers = live.policy.width, live.workers  # type: ignore[attr-defined]
        if width is not None and 0 < workers < width:
            yield Finding(
                rule="width-over-workers",
                path=live.path,
                message=f"{width} calls may run, and the executor has {workers} workers",
                fix=f"set {live.path}/width to {workers} or null, or give it more workers",
            )


def waits_twice(way: Way) -> Iterator[Finding]:
    """Find waits inside of a queue, which takes them for work, or outside, where nothing counts."""
    queues = [live for live in way if isinstance(live.policy, AdmissionQueue)]
    for live in way:
        policy = live.policy
        waits = isinstance(policy, Bulkhead) and policy.max_queue and policy.max_wait > 0
        if queues and (waits or (isinstance(policy, RateLimit) and policy.max_wait > 0)):
            yield Finding(
                rule="waits-twice",
                path=live.path,
                message=f"calls wait here and in {queues[0].path}, which does not know of it",
                fix=f"set {live.path}/max_wait to 0",
            )


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
    waits_twice,
)
"""What is looked for on each way by its policies alone."""


def _fallbacks(plan: Plan, as_if: _AsIf) -> Iterator[Finding]:
    """Find sides of a `|` whose turn never comes."""
    leaf = plan.leaf
    if leaf is None:
        return
    for inner in leaf.plans:
        yield from _fallbacks(inner, as_if)
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


def _loops(loop: FeedbackLoop, as_if: _AsIf) -> Iterator[Finding]:
    """Find loops that make errors of errors, and values that a loop will not keep."""
    settings, handle = as_if(loop).policy, loop.handle
    if not settings.enabled:
        return
    if isinstance(settings, BreakerThresholdLaw):
        yield Finding(
            rule="loop-feeds-back",
            path=loop.path,
            message="errors lower the threshold of the breaker, and an open breaker makes errors",
            fix=f"set {loop.path}/enabled to false, and let an OpenTimeLaw move open_duration",
        )
    value = getattr(as_if(handle.live).policy, handle.spec.name)
    low, high = loop.bounds(settings)
    if value is not None and not low <= value <= high:
        yield Finding(
            rule="loop-out-of-bounds",
            path=loop.path,
            message=f"{handle.path} is {value:g}, and the loop moves it from {low:g} to {high:g}",
            fix=f"set the value within that, or {loop.path}/low and {loop.path}/high around it",
        )


def _always_answers(side: Plan) -> bool:
    if not isinstance(side.leaf, RespondLeaf) or callable(side.leaf._respond.policy.value):
        return False
    return Role.GATE not in {layer.role for layer in side.layers}


def _boundless(budget: BudgetFlow[Any], extra: int) -> bool:
    policy = budget.policy
    if isinstance(policy, RetryBudget):
        return policy.cost == 0
    return isinstance(policy, WindowBudget | ConcurrencyBudget) and policy.ratio >= extra


def _penniless(budget: BudgetFlow[Any]) -> bool:
    policy = budget.policy
    if not isinstance(policy, RetryBudget) or policy.cost == 0:
        return False
    return policy.threshold == 1 or policy.capacity < policy.cost


def _retries(way: Way) -> list[tuple[int, Live[Any]]]:
    """Return the retries that do retry, with their places."""
    return [
        (index, live)
        for index, live in enumerate(way)
        if isinstance(live.policy, Retry) and live.policy.max_attempts > 1
    ]


def _shortest(way: Way) -> Live[Any] | None:
    limits = [live for live in way if isinstance(live.policy, Timeout)]
    return min(limits, key=_seconds, default=None)


def _seconds(live: Live[Any]) -> float:
    seconds: float = live.policy.seconds
    return seconds
