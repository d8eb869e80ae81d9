"""What goes on: the state of the policies, and the calls of the last minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from ninelives_control.command import Context, Effect, command
from ninelives_control.model import NamedValue, Page, Result, Text, named
from ninelives_grpc.windows.sliding import HORIZONS

if TYPE_CHECKING:
    from ninelives_grpc.observer.traffic import Traffic as Recorded
    from ninelives_grpc.stacks.stack import Stack

WINDOWS = tuple(int(horizon) for horizon in HORIZONS)


def _window(seconds: int) -> int:
    if seconds not in WINDOWS:
        allowed = {"windows": ", ".join(str(window) for window in WINDOWS)}
        raise PydanticCustomError("window", "must be one of {windows}", allowed)
    return seconds


Window = Annotated[int, AfterValidator(_window), Field(json_schema_extra={"enum": list(WINDOWS)})]
"""Seconds that a window covers."""


class GetState(Page):
    """Of which stacks to return the state."""

    stack: Text | None = Field(default=None, description="Name of the stack; all if not given.")
    window: Window = Field(default=WINDOWS[0], description="Seconds of traffic: 60, 300 or 900.")
    methods: int = Field(
        default=100, ge=0, le=1000, description="Methods per stack at most, the busiest first."
    )


class Traffic(Result):
    """The calls that ended in a window."""

    seconds: float = Field(description="Its length; less than asked for if the stack is younger.")
    calls: int = Field(description="Calls that ended in it.")
    successes: int = Field(description="Calls that the backend answered.")
    failures: int = Field(description="Calls that failed.")
    refusals: int = Field(description="Calls that a policy refused.")
    ignored: int = Field(description="Calls cancelled, aborted, or turned away by the backend.")
    success_rate: float = Field(description="Share of successes, 0 to 1; 1 without calls.")
    calls_per_second: float = Field(description="Calls that ended in a second, on average.")
    p50: float | None = Field(description="Seconds that half of the calls did not exceed.")
    p95: float | None = Field(description="Seconds that 95 % of the calls did not exceed.")
    p99: float | None = Field(description="Seconds that 99 % of the calls did not exceed.")


class MethodTraffic(Result):
    """The calls of one method."""

    method: str = Field(description="Its name, `package.Service/Method`.")
    traffic: Traffic = Field(description="Its calls.")


class PolicyState(Result):
    """The state of a policy."""

    path: str = Field(description="Its address, `stack/policy`.")
    kind: str = Field(description="Its class, such as CircuitBreaker.")
    revision: int = Field(description="How often its parameters were changed, starting with 1.")
    values: list[NamedValue] = Field(description="What can be said of its state.")


class StackState(Result):
    """The state of a stack."""

    name: str = Field(description="Its name.")
    policies: list[PolicyState] = Field(description="Its policies, outermost first.")
    traffic: Traffic = Field(description="All its calls.")
    methods: list[MethodTraffic] = Field(description="Its calls by method, the busiest first.")


class State(Result):
    """The state of stacks."""

    stacks: list[StackState] = Field(description="The stacks on this page, by name.")
    total: int = Field(description="How many there are on all pages.")
    window: int = Field(description="Seconds of traffic that were asked for.")


@command(Effect.READ)
def get_state(arguments: GetState, context: Context) -> State:
    """Return the state of policies and the traffic of the last minutes, of one stack or of all."""
    found = context.stacks(arguments.stack)
    return State(
        stacks=[
            state_of(stack, arguments.window, arguments.methods) for stack in arguments.of(found)
        ],
        total=len(found),
        window=arguments.window,
    )


def state_of(stack: Stack, window: int = WINDOWS[0], methods: int = 100) -> StackState:
    """Return the state of a stack, with the busiest methods."""
    state = stack.state(float(window))
    busiest = sorted(state.methods.items(), key=lambda entry: (-entry[1].calls, entry[0]))
    return StackState(
        name=state.name,
        policies=[
            PolicyState(
                path=f"{state.name}/{policy.name}",
                kind=policy.kind,
                revision=policy.revision,
                values=named(policy.values),
            )
            for policy in state.policies
        ],
        traffic=_traffic(state.traffic),
        methods=[
            MethodTraffic(method=method, traffic=_traffic(traffic))
            for method, traffic in busiest[:methods]
        ],
    )


def _traffic(traffic: Recorded) -> Traffic:
    return Traffic(
        seconds=traffic.seconds,
        calls=traffic.calls,
        successes=traffic.successes,
        failures=traffic.failures,
        refusals=traffic.refusals,
        ignored=traffic.ignored,
        success_rate=traffic.success_rate,
        calls_per_second=traffic.calls_per_second,
        p50=traffic.p50,
        p95=traffic.p95,
        p99=traffic.p99,
    )
