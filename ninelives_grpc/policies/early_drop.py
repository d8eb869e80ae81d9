"""Refuse a few calls before a queue is full, so that it does not fill up for all of them.

Random early detection (Floyd and Jacobson, 1993), in its gentle form: from a fill on, the chance to
be refused rises with it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from ninelives_grpc.events import EarlyDropRefused
from ninelives_grpc.parameters import option, parameter, policy
from ninelives_grpc.policies.gate import PERMIT, Gate, Refusal, Verdict
from ninelives_grpc.policies.policy import Policy
from ninelives_grpc.policies.shedding import Shedding

if TYPE_CHECKING:
    from typing import Any

    from ninelives_grpc.call import Call
    from ninelives_grpc.parameters import Value
    from ninelives_grpc.policies.policy import Address

_LOGGER = logging.getLogger("ninelives_grpc")
_MOST = 1000.0
"""The greatest fill: JSON has no word for an infinite one."""


@policy
class EarlyDrop(Policy):
    """Refuse more and more of the calls as the queue of the policy behind it fills up.

    Of those it refuses the ones that matter least, see `prioritize`; among equals chance decides.
    It holds nothing by itself, so it stands in front of a hard limit: `Bulkhead`, whose queue it
    looks at, or its places if nobody may wait there; `ConcurrencyLimit` or `AdmissionQueue`, of
    which it looks at the calls that run.

    Args:
        of: Name of the policy to look at; by default the nearest one further in that has a limit.
        drop_above: Fill from which on calls are refused.
        drop_when_full: Share of the calls that is refused when it is full.
        drop_all_at: Fill from which on all are; between full and this the share rises steadily.
        gauge: Function that returns the fill of something else in place of a policy: 1 is full. It
            is on the path of every call, so it must not block.

    Raises:
        ConfigError: A value is outside its bounds; names the field and the bound.
    """

    of: str = option(default="")
    drop_above: float = parameter(
        default=0.6, low=0.0, high=1.0, unit="ratio", doc="Fill from which on calls are refused."
    )
    drop_when_full: float = parameter(
        default=0.3, low=0.0, high=1.0, unit="ratio", doc="Share refused when it is full."
    )
    drop_all_at: float = parameter(
        default=2.0, low=1.0, high=1000.0, unit="ratio", doc="Fill from which on all are refused."
    )
    gauge: Callable[[], float] | None = option(default=None)

    def live(self, address: Address) -> EarlyDropGate:
        """Start without anything to look at but a gauge."""
        return EarlyDropGate(self, address)

    def conflict(self) -> str:
        """Say which options do not go together."""
        if not isinstance(self.of, str):
            return f"of must be the name of a policy, not {self.of!r}"
        if self.gauge is not None and not callable(self.gauge):
            return f"gauge must be a function, not {self.gauge!r}"
        return "give either of or gauge" if self.of and self.gauge is not None else ""


class EarlyDropGate(Shedding[EarlyDrop]):
    """Looks at a fill before each call.

    Attributes:
        followed: The policy that it looks at, or None.
    """

    def __init__(self, policy: EarlyDrop, address: Address) -> None:
        super().__init__(policy, address)
        self.followed: Gate[Any] | None = None
        self._filled: Callable[[], float | None] = _nothing
        self._failed = False
        if policy.gauge is not None:
            self._filled = self._gauged

    def follow(self, gate: Gate[Any]) -> None:
        """Look at a policy, unless there is a gauge."""
        if self.policy.gauge is None:
            self.followed = gate
            self._filled = gate.fill

    def fill(self) -> float | None:
        """Return the fill that it looks at."""
        return self._filled()

    def would_refuse(self, call: Call | None, now: float) -> bool:
        """Tell whether it is full enough that some are refused."""
        return (self._filled() or 0.0) > self.policy.drop_above

    def admit(self, call: Call, now: float, deadline: float | None) -> Verdict:
        """Let the call through, or refuse it for the sake of the others."""
        policy, fill = self.policy, self._filled()
        if fill is None or fill <= policy.drop_above:
            self._arrived = 0
            return PERMIT
        dropped = _dropped(policy, fill)
        return (
            PERMIT if self._passes(call, 1.0 - dropped) else self._refuse(call, fill, dropped, now)
        )

    def state(self, now: float) -> dict[str, Value]:
        """Return the fill, the share that is refused for it, and how many were."""
        fill = self._filled()
        return {
            "of": "" if self.followed is None else self.followed.name,
            "fill": fill,
            "dropped": 0.0 if fill is None else _dropped(self.policy, fill),
            "refused": self.refused,
        }

    def _gauged(self) -> float | None:
        assert self.policy.gauge is not None
        try:
            fill = float(self.policy.gauge())
        except Exception:  # a call must not fail because nobody knows how full it is
            if not self._failed:
                self._failed = True
                _LOGGER.exception("the gauge of %s failed; nothing is refused then", self.path)
            return None
        return None if math.isnan(fill) else min(fill, _MOST)

    def _refuse(self, call: Call, fill: float, dropped: float, now: float) -> Refusal:
        self._count(EarlyDropRefused)
        of = "the gauge" if self.followed is None else self.followed.path
        if self._emitter.sink is not None:
            self._emitter.tell(
                EarlyDropRefused,
                *self._about(call, now),
                of,
                fill,
                dropped,
            )
        details = f"early drop {self.path} refuses {dropped:.0%} of the calls: {of} fills up"
        # No time to come back at: whoever comes back at once fills it up again.
        return Refusal(self.name, details)


def _nothing() -> None:
    """Tell that there is nothing to look at."""


def _dropped(policy: EarlyDrop, fill: float) -> float:
    """Return the share to refuse at a fill."""
    above, full, end = policy.drop_above, policy.drop_when_full, policy.drop_all_at
    if fill <= above:
        return 0.0
    if fill < 1.0:
        return full * (fill - above) / (1.0 - above)
    if fill >= end:
        return 1.0
    return full + (1.0 - full) * (fill - 1.0) / (end - 1.0)
