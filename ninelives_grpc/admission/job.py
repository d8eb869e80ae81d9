"""One call of a sync server on its way to a worker."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from ninelives_grpc.admission.status import can_refuse, refuse
from ninelives_grpc.admission.ticket import ARRIVAL, TICKET, Ticket
from ninelives_grpc.call import Call, deadline_in
from ninelives_grpc.outcome import refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.admission.ticket import Arrival
    from ninelives_grpc.policies.admission_queue import AdmissionQueueGate
    from ninelives_grpc.policies.gate import Refusal


class Job:
    """What gRPC wants to have run, and the call that it is for.

    Attributes:
        entrance: Where it enters the queue.
        gate: The queue.
        now: Tells the time.
        refusal: Why the call is refused, or None.
    """

    __slots__ = (
        "_args",
        "_call",
        "_fn",
        "_metadata",
        "_seconds",
        "entrance",
        "gate",
        "now",
        "refusal",
    )

    def __init__(self, arrival: Arrival, fn: Callable[..., Any], args: Any) -> None:
        """Note what gRPC hands over: a function, the event, the state, and what else it needs."""
        self.entrance, self._metadata = entrance, _ = arrival
        self.gate: AdmissionQueueGate = entrance.gate
        self.now = entrance.now
        self.refusal: Refusal | None = None
        self._fn = fn
        self._args = args
        self._call: Call | None = None
        self._seconds: float | None = None

    @property
    def call(self) -> Call:
        """The call, as far as it is known on arrival; made only for who asks."""
        if self._call is None:
            entrance, now = self.entrance, self.now()
            event = self._args[1] if len(self._args) > 1 else None
            deadline = entrance.within(_deadline(event, now), now)
            peer = partial(_peer, event)
            self._call = Call(entrance.method, now, deadline, self._metadata, None, None, peer)
        return self._call

    def refuse(self, refusal: Refusal) -> Callable[[], Any]:
        """Return what tells the client of a refusal: at once, and without reading the request.

        Only the handler can tell when the stack has an answer in place of a refusal, when another
        interceptor has wrapped the handler, or when gRPC's work is not what it was.
        """
        self.refusal = refusal
        if not can_refuse(self._args, self.entrance.behaviour):
            return self.run
        return partial(self._end, refusal)

    def _end(self, refusal: Refusal) -> None:
        self.entrance.recorder.ended(self.call, refused(refusal), self.now())
        refuse(self._args, refusal)

    def run(self) -> Any:
        """Do the work, with a ticket where the stack of the handler finds it."""
        fn = self._fn
        ticket = Ticket(self.gate, streams=self.entrance.streams, refusal=self.refusal)
        fn(TICKET.set, ticket)
        # What the handler hands to the executor in its context is no call that arrives.
        fn(ARRIVAL.set, None)
        began = self.now()
        try:
            return fn(*self._args)
        finally:
            ticket.worked(self.now() - began)
            self._seconds = ticket.seconds

    def finished(self, _: object) -> None:
        """Give the place back, of a call that has one: also if it was cancelled, and never ran."""
        self.gate.finish(self._seconds, self.now())


def _deadline(event: Any, now: float) -> float | None:
    """Return when a call must be over, on the clock of `now`; None if that is not said."""
    at = getattr(getattr(event, "call_details", None), "deadline", None)
    return deadline_in(None if at is None else at - time.time(), now)


def _peer(event: Any) -> str:
    peer: bytes = event.call.peer()
    return peer.decode("utf-8", "replace")
