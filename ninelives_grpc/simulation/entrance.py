"""How calls come to a simulated server: by which policies, and what is known of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ninelives_grpc.call import Call, Method, Side
from ninelives_grpc.interceptors.serve import check_served
from ninelives_grpc.policies.gate import Gate, Permit, Refusal, Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.call import Metadatum
    from ninelives_grpc.outcome import Outcome
    from ninelives_grpc.routes import Routes
    from ninelives_grpc.simulation.sections import Caller
    from ninelives_grpc.stacks.execution import Execution
    from ninelives_grpc.stacks.plan import Plan
    from ninelives_grpc.stacks.stack import Stack

    Pairs = tuple[Metadatum, ...] | None
    Answer = Callable[[Outcome], None]


class Entrance(NamedTuple):
    """How calls of one kind come in.

    Attributes:
        method: The method.
        pairs: Their metadata.
        gate: The only policy, when that is a gate: it is asked directly.
        plan: The policies, when there are others, or None.
        stack: Their stack, when calls are to be noted for its loops.
        slower: How many times as long they take.
    """

    method: Method
    pairs: Pairs
    gate: Gate[Any] | None
    plan: Plan | None
    stack: Stack | None
    slower: float


class Job(NamedTuple):
    """A call at the server.

    Attributes:
        came: When.
        deadline: When it is of no more use, or None.
        call: The call, as policies see it.
        permit: What the only gate said.
        execution: Its way through the plan, or None where there is one gate or none.
        caller: Number of its kind.
        answer: Takes the outcome; None only counts it.
        took: Seconds that it takes a worker, or 0 to draw.
        begun: When its policies let it through.
    """

    came: float
    deadline: float | None
    call: Call
    permit: Permit | Refusal | Wait
    execution: Execution | None
    caller: int
    answer: Answer | None
    took: float
    begun: float


new: Callable[[type[Job], tuple[Any, ...]], Job] = tuple.__new__
"""Makes a job in a third of the time that `Job(...)` takes, which is on the path of every call."""
UNSEEN = Call(Method(""), 0.0)
"""Stands for calls that no policy sees: of those a million may wait."""


def entrance_of(caller: Caller, routes: Routes | None) -> Entrance:
    """Find out how calls of a kind come in.

    Raises:
        ConfigError: Their stack has a policy that makes no sense on a server; says which.
    """
    method = Method(caller.method, side=Side.SERVER)
    stack = None if routes is None else routes(method.name)
    pairs, slower = caller.pairs(), caller.slower
    if stack is None:
        return Entrance(method, pairs, None, None, None, slower)
    check_served(stack)
    plan = stack.plan
    lone = plan.leaf is None and len(plan.layers) == 1 and isinstance(plan.layers[0], Gate)
    gate: Any = plan.layers[0] if lone else None
    noted = stack if any(hasattr(live, "tick") for live in stack.policies.values()) else None
    return Entrance(method, pairs, gate, None if lone else plan, noted, slower)


def peer() -> str:
    """Return the address that all calls seem to come from."""
    return "ipv4:192.0.2.1:1"
