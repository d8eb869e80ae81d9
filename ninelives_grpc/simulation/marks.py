"""What a scenario expects, and of what: its marks."""

from __future__ import annotations

from enum import StrEnum

from ninelives_grpc.parameters import option, parameter, policy
from ninelives_grpc.simulation.sections import Section


class Measure(StrEnum):
    """What a mark is about."""

    GOODPUT = "goodput"
    """Replies within their deadline, as a share of min(offered, capacity)."""
    SERVED = "served"
    """Replies within their deadline, as a share of what was offered."""
    REFUSED = "refused"
    """Calls that were refused, as a share of what was offered."""
    AMPLIFICATION = "amplification"
    """Attempts that reached the server, as a multiple of the calls that were made."""


@policy
class Mark(Section):
    """What is to be reached.

    Args:
        of: `goodput`, `served`, `refused` or `amplification`.
        phase: Number of the phase that is looked at, from 1; None takes all.
        after: Seconds after its begin from which on it counts.
        until: Seconds after its begin up to which it counts; None goes to its end.
        at_least: Least value that is good.
        at_most: Greatest value that is good.
        caller: Name of the only calls that count.
        best: The best value published for any algorithm, for comparison.
        needs: Kind of policy for which it is meant, such as `admission_queue`; by default all.
    """

    of: Measure = parameter(default=Measure.GOODPUT, doc="What it is about.")
    phase: int | None = parameter(default=None, low=1, high=10_000, doc="Phase looked at.")
    after: float = parameter(
        default=0.0, low=0.0, high=1e6, unit="seconds", doc="When it begins to count."
    )
    until: float | None = parameter(
        default=None, low=0.0, high=1e6, unit="seconds", doc="When it ends to count."
    )
    at_least: float | None = parameter(default=None, low=0.0, high=1e6, doc="Least good value.")
    at_most: float | None = parameter(default=None, low=0.0, high=1e6, doc="Greatest good value.")
    best: float | None = parameter(default=None, low=0.0, high=1e6, doc="The best published.")
    caller: str | None = option(default=None)
    needs: str | None = option(default=None)

    def reached(self, value: float) -> bool:
        """Tell whether a value is good."""
        low, high = self.at_least, self.at_most
        return (low is None or value >= low) and (high is None or value <= high)

    def about(self) -> str:
        """Say what it is about."""
        parts = [str(self.of)]
        if self.caller is not None:
            parts.append(f"of {self.caller}")
        if self.phase is not None:
            parts.append(f"in phase {self.phase}")
        if self.after:
            parts.append(f"after {self.after:g} s")
        if self.until is not None:
            parts.append(f"until {self.until:g} s")
        return " ".join(parts)

    def wanted(self) -> str:
        """Say what is good."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return "" if self.at_most is None else f"<= {self.at_most:g}"
