"""Give up in time: a limit for a whole call, or for each attempt, depending on where it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.errors import AioTimedOut, TimedOut
from ninelives_grpc.events import TimeoutOccurred, TimeoutRefused
from ninelives_grpc.outcome import Code, Outcome
from ninelives_grpc.parameters import parameter, policy
from ninelives_grpc.policies.gate import Refusal
from ninelives_grpc.policies.policy import Live, Policy, Role
from ninelives_grpc.windows.lru import LeastRecentlyUsed
from ninelives_grpc.windows.median import StreamingMedian

if TYPE_CHECKING:
    from ninelives_grpc.call import Call
    from ninelives_grpc.policies.policy import Address

_TOLERANCE = 0.01
"""Seconds by which gRPC's clock may run before ours when a deadline fires."""


@policy
class Timeout(Policy):
    """Give a call at most `seconds`.

    Outside a `Retry` it covers all attempts and the waits between them, inside it one attempt. It
    is sent as the RPC's own deadline, and never later than the deadline of the call being served,
    less `margin` for the answer to get back in time; see `shield` for work that must run on.

    On a server it limits the handler: an asyncio handler is cancelled, a sync one is answered for
    when it ends, and asks `current_call().check()`. A call that arrives with less time left than
    its method's median takes is refused at once.

    A stream may take long and yet be alive: `idle` ends one whose messages fail to come. On a
    client that is while the application waits for a response; until the first one it counts as an
    attempt that timed out, which a `Retry` outside repeats. On a server it is while the handler has
    no response, perhaps as its own client sends nothing: an asyncio handler is cancelled; a sync
    one that reads a stream is woken by the end of its call, which the client sees as CANCELLED, and
    any other is stopped when it comes with the next message.

    Args:
        seconds: The limit.
        idle: Seconds to wait for the next response of a stream; None waits as long as there is.
        margin: Seconds kept back from the deadline of the call being served.
        refuse_hopeless: Whether a server refuses calls that cannot be answered in time.
        minimum_calls: Calls of a method before its median counts for that.

    Raises:
        ConfigError: A value is outside its bounds; names the field and the bound.
    """

    seconds: float = parameter(
        low=0.001, high=86_400.0, unit="seconds", doc="The limit.", kw_only=False
    )
    idle: float | None = parameter(
        default=None,
        low=0.001,
        high=86_400.0,
        unit="seconds",
        doc="Longest wait for the next response of a stream.",
    )
    margin: float = parameter(
        default=0.01, low=0.0, high=60.0, unit="seconds", doc="Kept back from the served deadline."
    )
    refuse_hopeless: bool = parameter(
        default=True, doc="Whether a server refuses calls that cannot be answered in time."
    )
    minimum_calls: int = parameter(
        default=20, low=1, high=100_000, unit="calls", doc="Calls before a median counts."
    )

    def live(self, address: Address) -> TimeoutFlow:
        """Start without knowing how long methods take."""
        return TimeoutFlow(self, address)


class TimeoutFlow(Live[Timeout]):
    """Sets deadlines, and on a server learns how long methods take.

    Attributes:
        occurred: How often a limit ran out.
        refused: How many calls were refused as hopeless.
    """

    role = Role.TIMEOUT

    def __init__(self, policy: Timeout, address: Address) -> None:
        super().__init__(policy, address)
        self.occurred = 0
        self.refused = 0
        self._medians = LeastRecentlyUsed(1000, lambda _: StreamingMedian())

    @property
    def follows_messages(self) -> bool:
        """Whether a stream may only be silent for so long."""
        return self.policy.idle is not None

    def within(self, inherited: float, own: float) -> float:
        """Return the earlier of our deadline and the one of the call being served."""
        return min(own, inherited - self.policy.margin)

    def hopeless(self, call: Call, now: float) -> Refusal | None:
        """Refuse a served call that has less time left than its method takes."""
        policy = self.policy
        if call.deadline is None or not policy.refuse_hopeless:
            return None
        with self._lock:
            median = self._medians.peek(call.method.name)
            if median is None or median.count < policy.minimum_calls:
                return None
            needed, remaining = median.value, call.deadline - now
            if remaining >= needed:
                return None
            self.refused += 1
        self._count(TimeoutRefused)
        if self._emitter.sink is not None:
            self._emitter.tell(
                TimeoutRefused,
                *self._about(call, now, "hopeless"),
                remaining,
                needed,
            )
        details = f"{remaining:.3g} s left, and {call.method.name} takes {needed:.3g} s"
        return Refusal(self.name, details)

    def learn(self, call: Call, outcome: Outcome) -> None:
        """Note how long a served call took."""
        with self._lock:
            self._medians.get(call.method.name).add(outcome.duration)

    def ended(
        self, call: Call, outcome: Outcome, own: float, outer: float | None, now: float
    ) -> None:
        """Tell whether it was this limit that ran out, and not the caller's."""
        if outcome.code is not Code.DEADLINE_EXCEEDED or outcome.refusal or outcome.timed_out:
            return
        if now < own - _TOLERANCE or (outer is not None and own >= outer):
            return
        if call.inherited is not None and own >= call.inherited - self.policy.margin:
            return
        outcome.timed_out = True
        self._occur(call, self.policy.seconds, now)

    def silent(self, call: Call, limit: float, now: float, *, aio: bool) -> TimedOut:
        """Note that a stream was silent for too long, and return the error that it ends with."""
        self._occur(call, limit, now, idle=True)
        kind = AioTimedOut if aio else TimedOut
        details = f"{call.method.name} sent no message for {limit:g} s"
        return kind(details, stack=self.stack, policy=self.name)

    def _occur(self, call: Call, limit: float, now: float, *, idle: bool = False) -> None:
        with self._lock:
            self.occurred += 1
        self._count(TimeoutOccurred)
        if self._emitter.sink is not None:
            self._emitter.tell(TimeoutOccurred, *self._about(call, now), limit, idle)

    def state(self, now: float) -> dict[str, int | float | str | bool | None]:
        """Return how often a limit ran out, and how many calls were refused."""
        return {"occurred": self.occurred, "refused": self.refused}
