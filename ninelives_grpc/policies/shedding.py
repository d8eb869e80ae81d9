"""What policies have in common that let only a share of the calls through."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ninelives_grpc.call import Side
from ninelives_grpc.policies.gate import Gate, Permit, Wait
from ninelives_grpc.policies.policy import Policy
from ninelives_grpc.priority import number_of
from ninelives_grpc.shares.line import Line

if TYPE_CHECKING:
    from ninelives_grpc.call import Call
    from ninelives_grpc.policies.policy import Address

P = TypeVar("P", bound=Policy)


class Shedding(Gate[P]):
    """Lets the calls through that matter most, as many as a share says.

    A server asks twice, on arrival and where the handler runs. Chance must not decide twice over
    one call: as many as were let in on arrival are let through later unasked.

    Attributes:
        refused: Calls refused so far.
    """

    records = False

    def __init__(self, policy: P, address: Address) -> None:
        super().__init__(policy, address)
        self.refused = 0
        self._line = Line()
        self._arrived = 0

    def start_afresh(self) -> None:
        """Make a new lock, and forget who has arrived."""
        super().start_afresh()
        self._arrived = 0

    def take_back(self, verdict: Permit | Wait, now: float) -> None:
        """Note that a call was let in on arrival, and comes again."""
        with self._lock:
            self._arrived += 1

    def settle(self, permit: Permit, outcome: object, now: float) -> None:
        """Do nothing: calls count when they start."""

    def _passes(self, call: Call, share: float) -> bool:
        """Tell whether a call belongs to the share, and count it if it does not."""
        served = call.method.side is Side.SERVER and call.peer is not None
        rank = number_of(call.rank)
        with self._lock:
            if served and self._arrived:
                self._arrived -= 1
                return True
            passes = self._line.passes(rank, share)
            self.refused += not passes
        return passes
