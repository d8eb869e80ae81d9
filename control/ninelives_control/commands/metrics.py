"""How calls went and what policies did about it, over the last minutes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import Field

from ninelives_control.command import Context, Effect, command
from ninelives_control.commands.traffic import WINDOWS, Traffic, Window, told
from ninelives_control.model import NamedValue, Page, Result, Text, named
from ninelives_grpc.clock import rfc3339
from ninelives_grpc.policies.circuit import CircuitState

if TYPE_CHECKING:
    from ninelives_grpc.observer import model


class GetMetrics(Page):
    """Of which stacks to return the metrics."""

    window: Window = Field(default=WINDOWS[0], description="Seconds: 60, 300 or 900.")
    stack: Text | None = Field(default=None, description="Name of the stack; all if not given.")
    policy: Text | None = Field(default=None, description="Name of the policy; all if not given.")
    method: Text | None = Field(default=None, description="Series of this method; all.")
    target: Text | None = Field(default=None, description="Series of this target; all.")
    series: int = Field(
        default=100, ge=0, le=1001, description="Series per stack at most, the busiest first."
    )


class Series(Result):
    """The calls of one method to one target."""

    method: str = Field(description="Its name; `_OTHER` for all beyond the first thousand.")
    target: str = Field(description="Where the channel leads; empty if that is not known.")
    traffic: Traffic = Field(description="The calls.")


class Circuit(Result):
    """One circuit of a breaker."""

    key: str = Field(description="Which one; empty for the only one.")
    state: CircuitState = Field(description="Where it stands.")
    since: float = Field(description="Seconds for which it has stood there.")
    closed: float = Field(description="Seconds of the window that it was closed.")
    open: float = Field(description="Seconds of the window that it was open.")
    half_open: float = Field(description="Seconds of the window that it was half-open.")
    why: str = Field(description="When and why it came there; empty if it never changed.")


class PolicyMetrics(Result):
    """What one policy did in the window."""

    path: str = Field(description="Its address, `stack/policy`.")
    kind: str = Field(description="Its class, such as CircuitBreaker.")
    error_rate: float = Field(description="Share of calls that failed or that it refused.")
    retries: int = Field(description="Extra attempts that it started.")
    used: float | None = Field(description="How much of its limit is used now, 0 to 1.")
    left: float | None = Field(description="Extra attempts that its budget could pay now.")
    refusals: list[NamedValue] = Field(description="Calls that it refused, by reason.")
    events: list[NamedValue] = Field(description="What it did, by kind of event.")
    circuits: list[Circuit] = Field(description="Its circuits, a hundred at most.")


class StackMetrics(Result):
    """One stack in the window."""

    name: str = Field(description="Its name.")
    traffic: Traffic = Field(description="All its calls.")
    series: list[Series] = Field(description="By method and target, the busiest first.")
    policies: list[PolicyMetrics] = Field(description="Its policies, outermost first.")
    overflowed: int = Field(description="Calls since the start that were counted as `_OTHER`.")


class Metrics(Result):
    """Stacks in a window."""

    time: str = Field(description="When, in RFC 3339, UTC.")
    window: int = Field(description="Seconds that were asked for.")
    stacks: list[StackMetrics] = Field(description="The stacks on this page, by name.")
    total: int = Field(description="How many there are on all pages.")
    dropped: int = Field(description="Events since the start that could not be counted.")


@command(Effect.READ)
def get_metrics(arguments: GetMetrics, context: Context) -> Metrics:
    """Return how calls went, what policies refused and repeated, and why circuits are open."""
    found = context.observer.metrics(
        float(arguments.window),
        stack=arguments.stack,
        policy=arguments.policy,
        method=arguments.method,
        target=arguments.target,
    )
    return Metrics(
        time=rfc3339(datetime.fromtimestamp(found.at, UTC)),
        window=arguments.window,
        stacks=[_stack(stack, arguments.series) for stack in arguments.of(found.stacks)],
        total=len(found.stacks),
        dropped=context.observer.dropped,
    )


def _stack(stack: model.StackMetrics, series: int) -> StackMetrics:
    return StackMetrics(
        name=stack.name,
        traffic=told(stack.traffic),
        series=[
            Series(method=each.method, target=each.target, traffic=told(each.traffic))
            for each in stack.series[:series]
        ],
        policies=[_policy(policy) for policy in stack.policies],
        overflowed=stack.overflowed,
    )


def _policy(policy: model.PolicyMetrics) -> PolicyMetrics:
    return PolicyMetrics(
        path=policy.path,
        kind=policy.kind,
        error_rate=policy.error_rate,
        retries=policy.retries,
        used=policy.used,
        left=policy.left,
        refusals=named(policy.refusals),
        events=named(policy.events),
        circuits=[
            Circuit(
                key=circuit.key,
                state=CircuitState(circuit.state),
                since=circuit.since,
                why=circuit.why,
                **circuit.seconds,
            )
            for circuit in policy.circuits
        ],
    )
