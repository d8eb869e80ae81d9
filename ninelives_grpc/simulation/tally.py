"""What became of the calls, counted as they end and noted ten times a second."""

from __future__ import annotations

from array import array
from typing import NamedTuple

INTERVAL = 0.1
"""Seconds between two samples, of what lasts no longer than an hour."""


class Counts(NamedTuple):
    """Calls so far, of each kind of caller: every one ends in exactly one of the last four.

    Attributes:
        offered: Made.
        good: Answered within their deadline.
        late: Answered after it, or given up at it.
        refused: Refused by a policy, of the server or of the client.
        failed: Ended by an error of the server.
    """

    offered: tuple[int, ...]
    good: tuple[int, ...]
    late: tuple[int, ...]
    refused: tuple[int, ...]
    failed: tuple[int, ...]


class Sample(NamedTuple):
    """How it stands at a time.

    Attributes:
        at: Seconds since the begin.
        counts: Calls so far.
        attempts: Attempts that have come to the server so far.
        answers: Latencies noted so far.
        limit: Calls that may run at once, by the first policy that limits them, or None.
        in_flight: Calls that the server works on.
        queued: Calls that wait: before the workers, or for a policy.
    """

    at: float
    counts: Counts
    attempts: int
    answers: int
    limit: float | None
    in_flight: int
    queued: int


class Tally:
    """Counts calls as they end.

    Attributes:
        offered: See `Counts`; each is a list with a number for each kind of caller.
        attempts: Attempts that have come to the server.
        latencies: Seconds of each call that was answered, in the order of their ends.
    """

    __slots__ = ("attempts", "failed", "good", "late", "latencies", "offered", "refused")

    def __init__(self, callers: int) -> None:
        """Begin with none."""
        self.offered = [0] * callers
        self.good = [0] * callers
        self.late = [0] * callers
        self.refused = [0] * callers
        self.failed = [0] * callers
        self.attempts = 0
        self.latencies = array("d")

    def counts(self) -> Counts:
        """Return the numbers as they are now."""
        return Counts(
            tuple(self.offered),
            tuple(self.good),
            tuple(self.late),
            tuple(self.refused),
            tuple(self.failed),
        )
