"""How much may be asked of a control plane, so that no caller can take all of it."""

from __future__ import annotations

import dataclasses
import threading
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ninelives_control.errors import Code, CommandError
from ninelives_control.identity.identity import Identity, Proof, host_in
from ninelives_grpc import Bulkhead, RateLimit, Refused, Registry, Stack
from ninelives_grpc.errors import ConfigError
from ninelives_grpc.windows.lru import LeastRecentlyUsed

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_control.identity.identity import Caller
    from ninelives_grpc.call import Call
    from ninelives_grpc.clock import Clock
    from ninelives_grpc.stacks.algebra import Expression

R = TypeVar("R")
THREADS = 8
"""Threads that commands from outside run in."""
_PATIENCE = 0.5
"""Seconds that a command waits for those of the same caller to end."""
_ALL_UNKNOWN = 10
"""Unknown callers together may do so many times as much as those of one host."""
_MOST_CALLERS = 1000
_key: ContextVar[str] = ContextVar("ninelives_control_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may be asked of a control plane; what is more is refused with `rate_limited`.

    The application itself is never limited, nor is what ends by itself, such as a lease.

    Attributes:
        commands_per_second: Commands that one identity may issue.
        burst: Commands of one identity that may come at once after a quiet time.
        changes_per_second: Those of them that change something, which are written down twice.
        changes_burst: Those that may come at once after a quiet time.
        concurrent: Commands of one identity that run at once; others wait for half a second.
        unknown_per_second: Commands that callers without a token from one host may issue, and
            likewise attempts with a token or certificate that is not known. All hosts together
            have ten times as many.
        unknown_burst: Those that may come at once after a quiet time.
        connections: Connections to each port or socket.
        connections_per_host: Those from one address other than this machine's own.
        patience: Seconds in which a connection must be secured and a request received.
        stall: Seconds after which a client is cut off that does not take what it asked for.

    Raises:
        ConfigError: A limit is not above 0; names it.
    """

    commands_per_second: float = 100.0
    burst: float = 200.0
    changes_per_second: float = 20.0
    changes_burst: float = 100.0
    concurrent: int = 4
    unknown_per_second: float = 20.0
    unknown_burst: float = 100.0
    connections: int = 1000
    connections_per_host: int = 250
    patience: float = 10.0
    stall: float = 30.0

    def __post_init__(self) -> None:
        """Check that all can be kept."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ConfigError(f"must be above 0, not {value!r}", path=f"Limits.{field.name}")


class Turnstile:
    """Lets callers through one by one: stacks of our own, which nobody sees among the others.

    A caller that is known passes whatever others do at its host. A token has 256 random bits, so
    what is limited for those that are not known is not their chance to guess one, but the work and
    the rows of the audit that they cause.

    Args:
        limits: How much is let through.
        clock: What tells the time.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        """Begin with nobody."""
        self._limits = limits
        self._clock = clock
        self._known = self._stack(
            RateLimit(limits.commands_per_second, limits.burst, scope=_key_of),
        )
        self._changes = self._stack(
            RateLimit(limits.changes_per_second, limits.changes_burst, scope=_key_of),
        )
        rate, burst = limits.unknown_per_second, limits.unknown_burst
        self._unknown = self._stack(
            RateLimit(rate, burst, scope=_key_of)
            + RateLimit(rate * _ALL_UNKNOWN, burst * _ALL_UNKNOWN, name="all"),
        )
        self._running = LeastRecentlyUsed(_MOST_CALLERS, self._running_of)
        self._lock = threading.Lock()

    def admit(self, identity: Identity, caller: Caller, what: str = "commands") -> None:
        """Let an identity issue a command, or whatever else is counted by itself.

        Raises:
            CommandError: `rate_limited`: it has issued too many.
        """
        if identity.proof is Proof.IN_PROCESS:
            return
        limits = self._limits
        if identity.proof is Proof.ANONYMOUS:
            key = f"{what} {identity.name} {_host_of(caller)}"
            self._pass(self._unknown, key, f"you may issue {limits.unknown_per_second:g} commands")
        else:
            said = f"{identity.name} may issue {limits.commands_per_second:g} commands"
            self._pass(self._known, f"{what} {identity.name}", said)

    def admit_change(self, identity: Identity) -> None:
        """Let an identity issue a command that changes something.

        Raises:
            CommandError: `rate_limited`: it has issued too many.
        """
        if identity.proof is not Proof.IN_PROCESS:
            said = f"{identity.name} may issue {self._limits.changes_per_second:g} changes"
            self._pass(self._changes, identity.name, said)

    def admit_unknown(self, caller: Caller) -> None:
        """Let somebody be told that it is not known.

        Raises:
            CommandError: `rate_limited`: it has been told too often.
        """
        said = f"unknown callers may try {self._limits.unknown_per_second:g} times"
        self._pass(self._unknown, f"unknown {_host_of(caller)}", said)

    def run(
        self,
        identity: Identity,
        function: Callable[[], R],
        refuse: Callable[[CommandError], CommandError],
    ) -> R:
        """Call a function for an identity, once few enough of its others run.

        Args:
            identity: For whom.
            function: What is to be called.
            refuse: Returns what is raised in its place if the others take too long.
        """
        if identity.proof is Proof.IN_PROCESS:
            return function()
        with self._lock:
            running: Stack = self._running.get(identity.name)
        begun = False

        def begin() -> R:
            nonlocal begun
            begun = True
            return function()

        try:
            return running.call(begin)
        except Refused:
            if begun:
                raise
        message = (
            f"{self._limits.concurrent} commands of {identity.name} run already; "
            "try again when they have ended"
        )
        raise refuse(CommandError(Code.RATE_LIMITED, message, retry_after=_PATIENCE))

    def _pass(self, stack: Stack, key: str, said: str) -> None:
        token = _key.set(key)
        try:
            stack.call(_nothing)
        except Refused as refused:
            wait = refused.retry_after or _PATIENCE
        else:
            return
        finally:
            _key.reset(token)
        message = f"{said} a second; try again in {wait:.2g} s"
        raise CommandError(Code.RATE_LIMITED, message, retry_after=wait)

    def _stack(self, expression: Expression) -> Stack:
        stack = Stack("control", expression, registry=Registry(), clock=self._clock)
        # NINELIVES_DISABLED takes policies out of the way of calls, not the guard from this door.
        stack.disabled = False
        return stack

    def _running_of(self, _name: str) -> Stack:
        concurrent = self._limits.concurrent
        return self._stack(Bulkhead(concurrent, max_queue=THREADS, max_wait=_PATIENCE))


def _host_of(caller: Caller) -> str:
    """Return the address of a caller without its port, or "" if it is in the process."""
    return "" if isinstance(caller, Identity) else host_in(caller.peer)


def _key_of(_call: Call) -> str:
    return _key.get()


def _nothing() -> None:
    """Stand for what is let through."""
