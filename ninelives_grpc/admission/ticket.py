"""What the executor of a sync server and the stacks behind it tell each other of a call.

gRPC looks up a handler and hands work to the executor in the context of the call, and so does the
handler run. The interceptor leaves there where the call enters a queue; the executor asks that
queue, and leaves a ticket with the answer, which the queue finds when the handler asks.
"""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

from ninelives_grpc.outcome import Code
from ninelives_grpc.policies.gate import Permit, Refusal
from ninelives_grpc.policies.policy import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ninelives_grpc.call import Method
    from ninelives_grpc.outcome import Outcome
    from ninelives_grpc.policies.admission_queue import AdmissionQueueGate
    from ninelives_grpc.policies.policy import Live
    from ninelives_grpc.stacks.plan import Plan
    from ninelives_grpc.stacks.stack import Stack

    Metadata = Iterable[tuple[str, str | bytes]]


class Entrance:
    """Where the calls of a method enter a queue.

    Attributes:
        gate: The queue.
        method: The method.
        streams: Whether it is answered by a stream.
        now: Tells the time.
        at: Calls a function at a time.
        behaviour: The protected handler; None if a refusal is for it to tell, as the stack has
            something to fall back to.
        recorder: Counts the calls of the stack.
    """

    __slots__ = ("_timeouts", "at", "behaviour", "gate", "method", "now", "recorder", "streams")

    def __init__(
        self,
        outside: Iterable[Live[Any]],
        gate: Any,
        stack: Stack,
        method: Method,
        *,
        streams: bool,
        behaviour: Callable[..., Any] | None = None,
    ) -> None:
        """Tell a queue that threads may wait in it; `outside` are the policies before it."""
        self.gate: AdmissionQueueGate = gate
        self.method = method
        self.streams = streams
        self.now = stack.clock.now
        self.at = stack.clock.at
        self.behaviour = behaviour if gate in stack.plan.gates else None
        self.recorder = stack.recorder
        self._timeouts: list[Any] = [each for each in outside if each.role is Role.TIMEOUT]
        gate.in_threads = True

    def within(self, deadline: float | None, now: float) -> float | None:
        """Return the deadline of a call that arrives, by its own and by those of the stack."""
        for timeout in self._timeouts:
            own = now + timeout.policy.seconds
            deadline = own if deadline is None or own < deadline else deadline
        return deadline


def entrance_of(
    stack: Stack, method: Method, *, streams: bool, behaviour: Callable[..., Any] | None = None
) -> Entrance | None:
    """Return where the calls of a method enter a queue of a stack: the first there is, or None."""
    outside: list[Live[Any]] = []
    plan: Plan | None = stack.plan
    while plan is not None:
        for layer in plan.layers:
            if layer.queues:
                return Entrance(outside, layer, stack, method, streams=streams, behaviour=behaviour)
            outside.append(layer)
        # Of the sides of a `|`, every call tries the first.
        plan = plan.leaf.plans[0] if plan.leaf is not None and plan.leaf.plans else None
    return None


Arrival = tuple[Entrance, "Metadata"]
"""Where a call enters, and what it brought."""

ARRIVAL: ContextVar[Arrival | None] = ContextVar("ninelives_arrival", default=None)
"""The call whose handler is looked up."""


def arrival_of(function: object) -> Arrival | None:
    """Return what was left in the context that a function runs in; None if it is no such call."""
    context = getattr(function, "__self__", None)
    return context.get(ARRIVAL) if type(context) is Context else None


class Ticket(Permit):
    """The answer that a call was given on arrival, shown once where its handler runs.

    Attributes:
        gate: Who gave it.
        refusal: Why the call is refused, or None.
        used: Whether it was shown.
        seconds: What serving the call took, as far as that can be learned from; else None.
    """

    __slots__ = ("_streams", "gate", "refusal", "seconds", "used")

    def __init__(
        self, gate: AdmissionQueueGate, *, streams: bool = False, refusal: Refusal | None = None
    ) -> None:
        self.gate = gate
        self.refusal = refusal
        self.used = False
        self.seconds: float | None = None
        self._streams = streams

    def show(self) -> Permit | Refusal:
        """Return the answer."""
        self.used = True
        return self.refusal or self

    def settled(self, outcome: Outcome) -> None:
        """Note how the handler ended; its place is free when its worker is."""
        if outcome.refusal is None and not outcome.local:
            # A sync handler runs to its end also when nobody waits for it any more.
            learned = not self._streams or outcome.code is not Code.CANCELLED
            self.seconds = outcome.duration if learned else None

    def worked(self, seconds: float) -> None:
        """Note for how long a worker was at it: all of what a call takes that is no stream."""
        if self.seconds is not None and not self._streams:
            self.seconds = seconds


TICKET: ContextVar[Ticket | None] = ContextVar("ninelives_ticket", default=None)
"""The ticket of the call whose handler runs."""
