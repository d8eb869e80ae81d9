"""Values that were lent for a time, and what has to return when it is over."""

from __future__ import annotations

import dataclasses
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ninelives_control.errors import CommandError
from ninelives_grpc.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from ninelives_control.identity.identity import Identity
    from ninelives_control.model import ParameterValue
    from ninelives_grpc.clock import Clock

_LOGGER = logging.getLogger("ninelives_control")
_AGAIN = 1.0
"""Seconds after which a lease that could not be ended is tried again; twice as many each time."""
_RAREST = 300.0
"""Seconds after which it is tried again at the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loan:
    """One parameter of a lease.

    Attributes:
        value: The value that was lent.
        back: The value that returns.
    """

    value: ParameterValue
    back: ParameterValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What one command has lent.

    Attributes:
        id: The id of that command.
        holder: Who issued it.
        reason: Why.
        until: When it ends.
        loans: The parameters by address. One that was changed again has left the lease.
    """

    id: str
    holder: Identity
    reason: str
    until: datetime
    loans: Mapping[str, Loan]


class Leases:
    """Keeps what is lent now, and has each lease ended in time.

    A parameter is in one lease at most. What returns is the last value that was set without one.

    Attributes:
        closed: Whether there is nobody any more who would end a lease in time.

    Args:
        clock: What tells how long is left.
        end: Ends a lease: called by its id in a thread of its own, and again after a `CommandError`
            until it is gone.
    """

    def __init__(self, clock: Clock, end: Callable[[str], None]) -> None:
        """Begin with none."""
        self._clock = clock
        self._end = end
        self._leases: dict[str, Lease] = {}
        self._ends: dict[str, float] = {}
        self._alarms: dict[str, Callable[[], None]] = {}
        self._lock = threading.RLock()
        self._worker: ThreadPoolExecutor | None = None
        self.closed = False

    def __iter__(self) -> Iterator[Lease]:
        """Go through the leases, those that end first at first."""
        return iter(sorted(self._leases.values(), key=lambda lease: (lease.until, lease.id)))

    def get(self, key: str) -> Lease:
        """Return the lease of an id.

        Raises:
            UnknownNameError: There is none, or none any more.
        """
        found = self._leases.get(key)
        if found is None:
            raise UnknownNameError("lease", key, self._leases)
        return found

    def loans(self, key: str) -> Mapping[str, Loan]:
        """Return what the command of an id has lent, and has not returned."""
        lease = self._leases.get(key)
        return {} if lease is None else lease.loans

    def back(self, path: str, present: ParameterValue) -> ParameterValue:
        """Return the value that a parameter would have without its lease.

        What the application itself has set since is not lent.
        """
        with self._lock:
            for lease in self._leases.values():
                loan = lease.loans.get(path)
                if loan is not None and loan.value == present:
                    return loan.back
        return present

    def longer(self, paths: Iterable[str], seconds: float) -> Lease | None:
        """Return a lease of one of these that ends later than one would that is taken now."""
        wanted, until = set(paths), self._clock.now() + seconds
        with self._lock:
            for key, lease in self._leases.items():
                if self._ends[key] > until and not wanted.isdisjoint(lease.loans):
                    return lease
        return None

    def release(self, paths: Iterable[str]) -> None:
        """Take parameters out of their leases; a lease of nothing is gone."""
        leaving = set(paths)
        with self._lock:
            for lease in tuple(self._leases.values()):
                kept = {path: loan for path, loan in lease.loans.items() if path not in leaving}
                if not kept:
                    del self._leases[lease.id], self._ends[lease.id]
                    self._alarms.pop(lease.id, _nothing)()
                elif len(kept) < len(lease.loans):
                    self._leases[lease.id] = dataclasses.replace(lease, loans=kept)

    def add(self, lease: Lease, seconds: float) -> None:
        """Take in a lease that ends in so many seconds."""
        with self._lock:
            self._leases[lease.id] = lease
            self._ends[lease.id] = self._clock.now() + seconds
            self._ring(lease.id, seconds)

    def close(self) -> None:
        """End no lease any more by itself; see `join`."""
        with self._lock:
            self.closed = True
            alarms, self._alarms = tuple(self._alarms.values()), {}
        for call_off in alarms:
            call_off()

    def join(self) -> None:
        """Wait, when it is closed, for the lease that is being ended."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown()

    def _ring(self, key: str, seconds: float, again: float = _AGAIN) -> None:
        if not self.closed:
            until = self._clock.now() + seconds
            self._alarms[key] = self._clock.at(until, lambda: self._due(key, again))

    def _due(self, key: str, again: float) -> None:
        """Hand a lease over to a thread that may block, which that of the clock must not."""
        with self._lock:
            if self.closed or self._alarms.pop(key, None) is None:
                return
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, thread_name_prefix="ninelives-lease")
            self._worker.submit(self._over, key, again)

    def _over(self, key: str, again: float) -> None:
        try:
            self._end(key)
        except CommandError as error:
            _LOGGER.warning("%s lends on for %g s, as it could not be ended: %s", key, again, error)
        with self._lock:
            if key in self._leases:
                self._ring(key, again, min(2 * again, _RAREST))


def _nothing() -> None:
    """Be called off without having been set."""
