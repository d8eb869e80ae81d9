"""One call of a sync server on its way to a worker."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from ninelives_grpc.admission.ticket import ARRIVAL, TICKET, Ticket
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from ninelives_grpc.admission.lines import Place
    from ninelives_grpc.admission.ticket import Arrival
    from ninelives_grpc.policies.admission_queue import AdmissionQueueGate
    from ninelives_grpc.policies.gate import Refusal

_ARGUMENTS, _BEHAVIOUR = 7, 3
"""gRPC has run: a function, of event, state, behaviour, what reads the request, and two codecs."""
_NO_DEADLINE = 1e9
"""Seconds; gRPC gives a call without a deadline 9.2e18 seconds."""


class Job:
    """What gRPC wants to have run, and the call that it is for.

    Attributes:
        call: The call, as far as it is known on arrival.
        gate: The queue.
        now: Tells the time.
        at: Calls a function at a time.
        place: Where it waits, once it does.
        future: What gRPC holds, when it waits.
    """

    __slots__ = ("_args", "_entrance", "_fn", "at", "call", "future", "gate", "now", "place")
    place: Place
    future: Future[Any]

    def __init__(self, arrival: Arrival, fn: Callable[..., Any], args: Any, now: float) -> None:
        """Take apart what gRPC hands over: function, event, state, and what the function needs."""
        entrance, metadata = arrival
        clock = entrance.stack.clock
        self.gate: AdmissionQueueGate = entrance.gate
        self.now = clock.now
        self.at = clock.at
        self._fn = fn
        self._args = args
        self._entrance = entrance
        event = args[1] if len(args) > 1 else None
        deadline = entrance.within(_deadline(event, now), now)
        peer = partial(_peer, event)
        self.call = Call(entrance.method, now, deadline, metadata, None, None, peer)

    def ticket(self, refusal: Refusal | None = None) -> Ticket:
        """Return what shows that it was admitted, or why not."""
        return Ticket(self.gate, streams=self._entrance.streams, refusal=refusal)

    def ending(self, refusal: Refusal) -> Callable[[], Any] | None:
        """Return what tells the client of a refusal, at once and without reading the request.

        None if only the handler can tell: when the stack has an answer in place of a refusal, when
        another interceptor has wrapped the handler, or when gRPC's work is not what it was.
        """
        ending, args = self._entrance.ending, self._args
        if ending is None or len(args) != _ARGUMENTS or args[_BEHAVIOUR] is not ending.behaviour:
            return None

        def end(_: object, context: Any) -> NoReturn:
            ending.refuse(refusal, context)

        # In place of the handler, and of the function that reads the request.
        work = (*args[:_BEHAVIOUR], end, tuple, *args[_BEHAVIOUR + 2 :])
        return partial(self._end, refusal, work)

    def _end(self, refusal: Refusal, work: tuple[Any, ...]) -> None:
        self._entrance.stack.recorder.ended(self.call, refused(refusal), self.now())
        self._fn(*work)

    def run(self, ticket: Ticket) -> Any:
        """Do the work, with the ticket where the stack of the handler finds it."""
        fn = self._fn
        fn(TICKET.set, ticket)
        # What the handler hands to the executor in its context is no call that arrives.
        fn(ARRIVAL.set, None)
        began = self.now()
        try:
            return fn(*self._args)
        finally:
            ticket.worked(self.now() - began)


def _deadline(event: Any, now: float) -> float | None:
    """Return when a call must be over, on the clock of `now`; None if that is not said."""
    at = getattr(getattr(event, "call_details", None), "deadline", None)
    remaining = None if at is None else at - time.time()
    return None if remaining is None or remaining > _NO_DEADLINE else now + remaining


def _peer(event: Any) -> str:
    peer: bytes = event.call.peer()
    return peer.decode("utf-8", "replace")
