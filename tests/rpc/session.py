"""One protected client or server, and how a scenario makes its calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ninelives_grpc import Refused

from .backend import expected
from .clients import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from grpc import StatusCode

    from ninelives_grpc import Stack

    from .backend import Backend, RpcKind
    from .clients import Client, Running, Style

CLIENT, SERVER = "client", "server"
PUSHBACK = "grpc-retry-pushback-ms"


@dataclass
class Session:
    """One protected client or server, and what a scenario needs to make calls.

    Attributes:
        side: Which side is protected.
        kind: The kind of RPC.
        style: How the client makes calls.
        client: Makes them.
        backend: Scripts and sees the server's handlers.
        stack: What protects.
        cut: Breaks the connection between the two.
        calls: How many calls have been made.
    """

    side: str
    kind: RpcKind
    style: Style
    client: Client
    backend: Backend
    stack: Stack
    cut: Callable[[], None]
    calls: int = 0
    running: list[Running] = field(default_factory=list)

    def start(self, **options: Any) -> Running:
        """Start a call."""
        self.calls += 1
        running = self.client.start(self.kind, self.style, **options)
        self.running.append(running)
        return running

    def call(self, **options: Any) -> Running:
        """Make a call, and wait for its end."""
        return self.start(**options).result()

    def answers(self, running: Running) -> None:
        """Check that a call was answered in full."""
        assert running.error is None, repr(running.error)
        assert running.messages == expected(self.kind, REQUESTS)

    def refuses(self, running: Running, code: StatusCode, policy: str) -> None:
        """Check that a call was refused, in the way in which the caller is told on each side."""
        assert running.messages == []
        assert running.code is code, repr(running.error)
        if self.side == CLIENT:
            assert isinstance(running.error, Refused)
            assert running.error.policy == policy
            assert running.error.stack == self.stack.name
            assert running.error.retry_after is not None
            milliseconds = int(running.trailing[PUSHBACK])
            assert -0.01 <= milliseconds - running.error.retry_after * 1000 <= 1
        else:
            assert not isinstance(running.error, Refused)
            assert policy in str(running.details)
        assert int(running.trailing[PUSHBACK]) >= 0
