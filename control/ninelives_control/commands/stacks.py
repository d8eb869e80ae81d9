"""Commands about stacks and the policies in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from ninelives_control.command import Context, Effect, Target, command
from ninelives_control.commands.parameters import Parameter, parameter_of
from ninelives_control.model import Arguments, NamedValue, Page, PolicyPath, Result, Text, named
from ninelives_control.paths import ANYWHERE, matches

if TYPE_CHECKING:
    from ninelives_grpc.policies.policy import Live


class ListStacks(Page):
    """Which stacks to return."""

    match: Text = Field(default=ANYWHERE, description="Pattern of their names, such as `pay*`.")


class Stack(Result):
    """A stack."""

    name: str = Field(description="Its name.")
    expression: str = Field(description="How its policies are composed, as written in Python.")
    policies: int = Field(description="How many policies it has.")
    parameters: int = Field(description="How many parameters they have.")


class Stacks(Result):
    """Stacks, by name."""

    stacks: list[Stack] = Field(description="The stacks on this page.")
    total: int = Field(description="How many there are on all pages.")


class ListPolicies(Page):
    """Which policies to return."""

    stack: Text | None = Field(default=None, description="Name of their stack; all if not given.")
    match: Text = Field(
        default=ANYWHERE, description="Pattern of their addresses, such as `*/circuit_breaker`."
    )


class Policy(Result):
    """A policy."""

    path: str = Field(description="Its address, `stack/policy`.")
    kind: str = Field(description="Its class, such as CircuitBreaker.")
    summary: str = Field(description="What it does.")
    revision: int = Field(description="How often its parameters were changed, starting with 1.")
    parameters: int = Field(description="How many parameters it has.")


class Policies(Result):
    """Policies, by stack, outermost first."""

    policies: list[Policy] = Field(description="The policies on this page.")
    total: int = Field(description="How many there are on all pages.")


class DescribePolicy(Arguments):
    """Which policy to describe."""

    path: PolicyPath = Field(description="Its address, `stack/policy`.")


class PolicyDescription(Result):
    """All about a policy."""

    path: str = Field(description="Its address, `stack/policy`.")
    kind: str = Field(description="Its class, such as CircuitBreaker.")
    summary: str = Field(description="What it does.")
    revision: int = Field(description="How often its parameters were changed, starting with 1.")
    declaration: str = Field(description="How it was declared, as written in Python.")
    parameters: list[Parameter] = Field(description="Its parameters.")
    state: list[NamedValue] = Field(description="What can be said of its state now.")


def _everywhere(_arguments: ListStacks, _context: Context) -> tuple[Target, ...]:
    return (Target(path=""),)


@command(Effect.READ, targets=_everywhere)
def list_stacks(arguments: ListStacks, context: Context) -> Stacks:
    """List the stacks."""
    found = [stack for stack in context.registry if matches(arguments.match, stack.name)]
    return Stacks(
        stacks=[
            Stack(
                name=stack.name,
                expression=repr(stack.expression),
                policies=len(stack.policies),
                parameters=len(stack.parameters),
            )
            for stack in arguments.of(found)
        ],
        total=len(found),
    )


@command(Effect.READ)
def list_policies(arguments: ListPolicies, context: Context) -> Policies:
    """List the policies of one stack, or of all."""
    found = [
        (f"{stack.name}/{name}", live)
        for stack in context.stacks(arguments.stack)
        for name, live in stack.policies.items()
        if matches(arguments.match, f"{stack.name}/{name}")
    ]
    return Policies(
        policies=[
            Policy(
                path=path,
                kind=type(live.policy).__name__,
                summary=_summary(live),
                revision=live.revision,
                parameters=len(live.specs),
            )
            for path, live in arguments.of(found)
        ],
        total=len(found),
    )


@command(Effect.READ)
def describe_policy(arguments: DescribePolicy, context: Context) -> PolicyDescription:
    """Describe a policy: what it does, its parameters and its state."""
    live = context.registry.policy(arguments.path)
    stack = context.registry.stack(arguments.path.partition("/")[0])
    return PolicyDescription(
        path=arguments.path,
        kind=type(live.policy).__name__,
        summary=_summary(live),
        revision=live.revision,
        declaration=repr(live.declared),
        parameters=[parameter_of(f"{arguments.path}/{name}", live) for name in live.specs],
        state=named(live.state(stack.clock.now())),
    )


def _summary(live: Live[Any]) -> str:
    return (type(live.policy).__doc__ or "").strip().partition("\n")[0]
