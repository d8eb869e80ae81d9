"""Answer here, without asking the backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.events import Responded
from ninelives_grpc.parameters import option, policy
from ninelives_grpc.policies.policy import Live, Policy, Role

if TYPE_CHECKING:
    from ninelives_grpc.call import Call
    from ninelives_grpc.policies.policy import Address


@policy
class Respond(Policy):
    """End a chain with a local answer: `… | Respond(EMPTY)`.

    Args:
        value: The response message; for a response stream, an iterable of messages. Or a function
            that gets the `Call` (its `method`, `request` and `metadata`) and returns that, without
            blocking; what it raises is raised to the caller.
    """

    value: object = option(kw_only=False)

    def live(self, address: Address) -> RespondFlow:
        """Make the running policy."""
        return RespondFlow(self, address)


class RespondFlow(Live[Respond]):
    """Gives the answer.

    Attributes:
        responded: Answers given so far.
    """

    role = Role.RESPOND

    def __init__(self, policy: Respond, address: Address) -> None:
        super().__init__(policy, address)
        self.responded = 0

    def answer(self, call: Call, now: float) -> object:
        """Return the local answer."""
        value = self.policy.value
        answer = value(call) if callable(value) else value
        with self._lock:
            self.responded += 1
        self._count(Responded)
        if self._emitter.sink is not None:
            self._emitter.tell(Responded, *self._about(call, now))
        return answer

    def state(self, now: float) -> dict[str, int | float | str | bool | None]:
        """Return how many answers were given."""
        return {"responded": self.responded}
