"""What a driver is to do next for a call."""

from __future__ import annotations

from enum import Enum, auto


class Step(Enum):
    """The steps of an `Execution`."""

    ATTEMPT = auto()
    """Make one attempt within `deadline`, then call `settle` with its outcome."""
    PAUSE = auto()
    """Wait until `until`, or until `wait` is woken, then call `resume`."""
    RACE = auto()
    """Run all `branches` at once, and call `branch_finished` for each that ends.

    When `next_branch` is a time, call `branch_due` then, unless it has changed by then.
    """
    PENDING = auto()
    """The race goes on: run what has been added to `branches`, and mind `next_branch`."""
    FINISH = auto()
    """The call is over; `outcome` says how."""


ATTEMPT, PAUSE, RACE, PENDING, FINISH = Step
"""Short names, as a driver compares with them on the path of every call."""
