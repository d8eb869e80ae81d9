"""What goes on: the state of the policies, and the calls of the last minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ninelives_control.command import Context, Effect, command
from ninelives_control.commands.traffic import WINDOWS, Traffic, Window, told
from ninelives_control.model import NamedValue, Page, Result, Text, named

if TYPE_CHECKING:
    from ninelives_grpc.stacks.stack import Stack


class GetState(Page):
    """Of which stacks to return the state."""

    stack: Text | None = Field(default=None, description="Name of the stack; all if not given.")
    window: Window = Field(default=WINDOWS[0], description="Seconds of traffic: 60, 300 or 900.")
    methods: int = Field(
        default=100, ge=0, le=1000, description="Methods per stack at most, the busiest first."
    )


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
        traffic=told(state.traffic),
        methods=[
            MethodTraffic(method=method, traffic=told(traffic))
            for method, traffic in busiest[:methods]
        ],
    )
