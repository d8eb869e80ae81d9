"""One logical call as policies see it, and the call that is being served around it."""

from __future__ import annotations

import random
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ninelives_grpc.errors import ConfigError, TimedOut
from ninelives_grpc.idempotency import marked_idempotent
from ninelives_grpc.priority import LEVELS, Priority, given_rank, with_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ninelives_grpc.lifetime import Lifetime
    from ninelives_grpc.policies.budget import BudgetFlow
    from ninelives_grpc.priority import Rank

    Metadatum = tuple[str, str | bytes]

ATTEMPT_KEY = "x-ninelives-attempt"
"""Request metadata that tells the server which repetition this is, from the second attempt on."""
_NO_DEADLINE = 1e9
"""Seconds; gRPC gives a sync call without a deadline 9.2e18 seconds."""


class Side(StrEnum):
    """From where a call is seen."""

    CLIENT = "client"
    SERVER = "server"
    FUNCTION = "function"


class Method:
    """An RPC method, or the name of a protected function.

    Attributes:
        name: `package.Service/Method`, without the leading slash of the wire.
        side: Whether it is called or served here, or is no RPC at all.
        idempotent: Whether it is known that repeating a call does no harm: told so, or, of a method
            that is called, marked `idempotency_level` in its `.proto`.
        target: Where the channel leads by which it is called, "" if that is not known.
    """

    __slots__ = ("idempotent", "name", "side", "target")

    def __init__(
        self,
        name: str,
        *,
        side: Side = Side.FUNCTION,
        idempotent: bool = False,
        target: str = "",
    ) -> None:
        """Name a method; the name may be in the wire's form."""
        self.name = name.removeprefix("/")
        self.side = side
        self.target = target
        self.idempotent = idempotent or (side is Side.CLIENT and marked_idempotent(self.name))

    def __repr__(self) -> str:
        """Show the name."""
        return f"<Method {self.name}>"


class Call:
    """One logical call; all its attempts share it.

    Attributes:
        method: What is called.
        started: Time on the stack's clock.
        deadline: Time by which it must be over, or None.
        metadata: Request metadata, as given by the caller.
        attempts: How often it was tried so far.
        committed: Whether something of the answer has reached the application, or what was sent is
            not kept any more: from then on nothing may be repeated (gRFC A6).
        peer: Returns the caller's address, on a server.
        request: The request message, or None when it is a stream.
        inherited: Deadline of the call being served while this one was made, or None.
        delay: Seconds spent waiting between attempts.
        paid: Budgets that have paid for an extra attempt of this call, once each time.
        lifetime: Of the channel, if it was wrapped: its end is the end of any wait.
    """

    __slots__ = (
        "_rank",
        "attempts",
        "committed",
        "deadline",
        "delay",
        "inherited",
        "lifetime",
        "metadata",
        "method",
        "paid",
        "peer",
        "request",
        "started",
    )

    def __init__(
        self,
        method: Method,
        started: float,
        deadline: float | None = None,
        metadata: Iterable[Metadatum] | None = None,
        request: object = None,
        inherited: float | None = None,
        peer: Callable[[], str] | None = None,
        lifetime: Lifetime | None = None,
    ) -> None:
        self.method = method
        self.lifetime = lifetime
        self.request = request
        self.inherited = inherited
        self.peer = peer
        self.started = started
        self.deadline = deadline
        self.metadata = metadata
        self.attempts = 0
        self.committed = False
        self.delay = 0.0
        self.paid: tuple[BudgetFlow[Any], ...] = ()
        self._rank: Rank | None = None

    @property
    def rank(self) -> Rank:
        """Class and level; a call that came without a level gets one by chance, and keeps it."""
        return self._rank or self.ranked(random.randrange(LEVELS))

    def ranked(self, level: int) -> Rank:
        """Return class and level, which is the given one if the call has none yet.

        A client says so to the server: a call keeps its rank over every hop.
        """
        if self._rank is None:
            priority, given = given_rank(self.metadata)
            if priority is None:
                priority = Priority.NORMAL
            self._rank = rank = (priority, level if given is None else given)
            if self.method.side is Side.CLIENT:
                self.metadata = with_rank(self.metadata, rank)
        return self._rank

    @property
    def known_rank(self) -> Rank | None:
        """Class and level, if the call came with one or was asked for it."""
        if self._rank is None and given_rank(self.metadata) == (None, None):
            return None
        return self.rank

    def pay(self, budget: BudgetFlow[Any], now: float) -> bool:
        """Pay for one extra attempt, or say that there is nothing left."""
        if not budget.withdraw(now):
            return False
        self.paid = (*self.paid, budget)
        return True


class ServedCall:
    """The call that the code at hand is serving: when it must be done, and whether anyone waits.

    A sync handler cannot be stopped from outside. One that runs long asks `check()` in its loop.
    """

    __slots__ = ("_clock", "_gone", "_ranked", "deadline", "method")

    def __init__(
        self,
        method: Method,
        deadline: float | None,
        clock: Callable[[], float],
        gone: Callable[[], bool],
        ranked: Call | Rank | None = None,
    ) -> None:
        """Describe the call; server interceptors make these."""
        self.method = method
        self.deadline = deadline
        self._clock = clock
        self._gone = gone
        self._ranked = ranked

    @property
    def rank(self) -> Rank | None:
        """Class and level (0..99, 0 is served first), or None when the call has none."""
        ranked = self._ranked
        return ranked.known_rank if isinstance(ranked, Call) else ranked

    @property
    def cancelled(self) -> bool:
        """Whether the client went away or the deadline has passed: the work is for nobody."""
        return self._gone() or (self.deadline is not None and self._clock() >= self.deadline)

    def time_remaining(self) -> float | None:
        """Return the seconds left, at least 0, or None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - self._clock())

    def check(self) -> None:
        """Go on, or stop here.

        Raises:
            TimedOut: The client went away or the deadline has passed.
        """
        if self.cancelled:
            msg = f"nobody waits for {self.method.name} any more"
            raise TimedOut(msg)


class Prioritized(ServedCall):
    """The call being served, or none, where `prioritize` says with which rank to make others.

    Attributes:
        served: The call, or None.
    """

    __slots__ = ("served",)

    def __init__(self, rank: Rank, served: ServedCall | None) -> None:
        """Say a rank, and leave everything else as it is."""
        if served is None:
            super().__init__(_NO_METHOD, None, _never, _never, rank)
        else:
            super().__init__(served.method, served.deadline, served._clock, served._gone, rank)
        self.served = served


_NO_METHOD = Method("")


def deadline_in(remaining: float | None, now: float) -> float | None:
    """Return when a served call must be over that has so many seconds left by gRPC, or None."""
    return None if remaining is None or remaining > _NO_DEADLINE else now + remaining


def _never() -> bool:
    """Tell that nobody has gone."""
    return False


serving: ContextVar[ServedCall | None] = ContextVar("ninelives_serving", default=None)
"""The call being served; calls made meanwhile inherit its deadline and rank. See `current_call`."""


def current_call() -> ServedCall | None:
    """Return the call that is being served by this thread or task, or None."""
    around = serving.get()
    return around.served if isinstance(around, Prioritized) else around


@contextmanager
def shield() -> Iterator[None]:
    """Let calls made inside run on after the served call's deadline: for work that must finish."""
    around = serving.get()
    rank = None if around is None else around.rank
    token = serving.set(None if rank is None else Prioritized(rank, None))
    try:
        yield
    finally:
        serving.reset(token)


@contextmanager
def prioritize(priority: Priority | str, level: int | None = None) -> Iterator[None]:
    """Give calls made inside a class and a level, which they keep over every hop.

    A handler need not do that: the calls that it makes have the rank of the one being served. They
    say it in metadata, `x-ninelives-priority` and `x-ninelives-level`, and what a call brings
    itself comes first. It counts where a policy goes by it, as `Bulkhead(order="priority")` does.

    Args:
        priority: The class, or its name.
        level: From 0, served first, to 99; None takes one by chance, the same for all calls inside.

    Raises:
        ConfigError: There is no such class or level.
    """
    name = priority.name if isinstance(priority, Priority) else str(priority).upper()
    if name not in Priority.__members__:
        known = ", ".join(each.name.lower() for each in Priority)
        msg = f"must be one of {known}, not {priority!r}"
        raise ConfigError(msg, path="prioritize: priority")
    if level is not None and level not in range(LEVELS):
        msg = f"must be a whole number from 0 to {LEVELS - 1}, not {level!r}"
        raise ConfigError(msg, path="prioritize: level")
    rank = (Priority[name], random.randrange(LEVELS) if level is None else level)
    token = serving.set(Prioritized(rank, current_call()))
    try:
        yield
    finally:
        serving.reset(token)
