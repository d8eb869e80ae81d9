"""What an algorithm is that finds out how many calls to let run at once."""

from __future__ import annotations

from typing import Protocol

from ninelives_grpc.policies.gate import Permit


class Law(Protocol):
    """Sets `limit` by how calls go.

    It reads no clock, does no I/O and takes no lock: it is told the time, which never goes back,
    and whoever asks sees to it that nobody else does. All of it is on the path of a call.

    Attributes:
        limit: Calls that may run at once now; a part of one does not count.
        base: Seconds that a call takes when nothing waits, as far as known, or 0.
        latency: Seconds that calls took in the last window on average, or 0.
        refused: Calls refused in this window.
        reason: One word for what the limit goes by now.
    """

    limit: float
    base: float
    latency: float
    refused: int
    reason: str

    def on_admit(self, method: str, in_flight: int, remaining: float | None, now: float) -> Permit:
        """Take note of a call that begins, and return its permit, whose `law` is this.

        Args:
            method: What is called.
            in_flight: Calls that run, with this one.
            remaining: Seconds that it may take, or None.
            now: The time.
        """
        ...

    def on_settle(self, permit: Permit, latency: float, in_flight: int, now: float) -> None:
        """Learn from a call that was answered, after which so many still run."""
        ...

    def on_drop(self, permit: Permit, in_flight: int, now: float) -> None:
        """Learn from a call to which the backend said that it has too much to do."""
        ...

    def on_ignore(self, permit: Permit, in_flight: int, now: float) -> None:
        """Take back the permit of a call whose end teaches nothing."""
        ...

    def on_refuse(self, now: float) -> None:
        """Take note of a call that was refused by the limit."""
        ...

    def on_change(self) -> None:
        """Keep to the bounds, which may have changed."""
        ...


class LawPermit(Permit):
    """Leave for one call, by the law that was in force when it began.

    Attributes:
        law: Which that was: what is learned from the call is for no other.
    """

    __slots__ = ("law",)

    def __init__(self, law: Law) -> None:
        self.law = law
