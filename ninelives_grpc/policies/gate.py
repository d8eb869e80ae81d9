"""A policy that only admits or refuses, and records how it went."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeVar

import grpc

from ninelives_grpc.outcome import cancelled
from ninelives_grpc.policies.policy import Live, Policy, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.call import Call
    from ninelives_grpc.limits.law import Law
    from ninelives_grpc.outcome import Outcome
    from ninelives_grpc.policies.circuit import Circuit

P = TypeVar("P", bound=Policy)


class Permit:
    """Leave for one attempt, settled once. A gate may return the same one to all."""

    __slots__ = ()
    admitted: ClassVar[bool] = True
    circuit: Circuit | None = None
    """Whose permit it is, for a circuit breaker to know its own."""
    law: Law | None = None
    """By which law it was given, for a concurrency limit to know the present one's."""


PERMIT = Permit()
"""For gates that have nothing to remember about an attempt."""


class Refusal:
    """No, and why.

    Attributes:
        policy: Name of the policy that refuses.
        code: Status code for the caller.
        details: One sentence.
        retry_after: Seconds after which a new call has a chance, or None.
        cause: The error behind it, or None.
    """

    __slots__ = ("cause", "code", "details", "policy", "retry_after")
    admitted: ClassVar[bool] = False
    failure: BaseException | None = None
    """What the attempt is to fail with, when it only seems to have been made."""
    waited = 0.0
    """Seconds that it seems to have taken."""

    def __init__(
        self,
        policy: str,
        details: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.RESOURCE_EXHAUSTED,
        retry_after: float | None = None,
        cause: BaseException | None = None,
    ) -> None:
        self.policy = policy
        self.code = code
        self.details = details
        self.retry_after = retry_after
        self.cause = cause


class Wait:
    """Not yet: ask again with `claim` at `until`, or as soon as `wake` is called.

    Attributes:
        until: Time on the stack's clock.
        since: When the wait began.
        wake: Set by the driver; called once, from any thread, when there is news.
        ready: Whether there was news, also before `wake` was set.
    """

    __slots__ = ("ready", "since", "until", "wake")
    admitted: ClassVar[bool] = False

    def __init__(self, since: float, until: float) -> None:
        self.since = since
        self.until = until
        self.ready = False
        self.wake: Callable[[], None] | None = None

    def notify(self) -> None:
        """Tell the driver that asking again is worth it now."""
        self.ready = True
        wake = self.wake
        if wake is not None:
            wake()


Verdict = Permit | Refusal | Wait


class Gate(Live[P]):
    """A running policy that admits or refuses.

    `admit` and `settle` never wait, take one short lock around arithmetic, and publish events after
    they have released it. Whoever gets a permit settles it exactly once.
    """

    role = Role.GATE
    records: ClassVar[bool] = True
    """Whether `settle` has anything to do; when not, it is not called."""
    keyed = False
    """Whether it looks into the call to know which of its states counts."""

    def would_refuse(self, call: Call | None, now: float) -> bool:
        """Tell whether a call that has just arrived at a server is sure to be refused; takes none.

        It is asked before the request is read and before the peer is known, and may say no when it
        can not tell.

        Args:
            call: The call by its method and metadata; None to a gate that is not `keyed`.
            now: The time.
        """
        return False

    def fill(self) -> float | None:
        """Return how full its queue is, or its places where nobody waits; None without either.

        1 is full, and what may be more than that is more than 1.
        """
        return None

    def admit(self, call: Call, now: float, deadline: float | None) -> Verdict:
        """Give leave for one attempt, or say why not, or until when to wait.

        Args:
            call: The call.
            now: The time.
            deadline: When the attempt must be over, by the call's own deadline and the timeouts
                outside of this gate: nobody waits longer.
        """
        raise NotImplementedError

    def settle(self, permit: Permit, outcome: Outcome, now: float) -> None:
        """Take the permit back and learn from the outcome."""
        raise NotImplementedError

    def take_back(self, verdict: Permit | Wait, now: float) -> None:
        """Have nobody make use of what `admit` has given."""
        if isinstance(verdict, Wait):
            self.abandon(verdict, now)
        elif self.records:
            self.settle(verdict, cancelled(), now)

    def claim(self, wait: Wait, call: Call, now: float) -> Verdict:
        """Answer again after a wait; a refusal ends it. Where nobody waits, that is at once."""
        return self.admit(call, now, None)

    def abandon(self, wait: Wait, now: float) -> None:
        """Forget a wait that nobody pursues any more, and whatever it may have been granted."""
