"""The one table of what can happen to a call, for every kind of client, server and RPC.

A scenario is data: where it applies, what protects the call, what the other side does, and a small
function that makes the calls and checks what came of them. `cases` crosses the table with all ways
to be protected; `nonsense` is the one place that says which combinations do not exist, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from grpc import StatusCode

from ninelives_grpc import Bulkhead, CircuitBreaker, RateLimit, Refused, Retry, Stack, Timeout

from . import leaks
from .backend import ANSWER, DOWN, STALL, Backend, Play, RpcKind, expected, fail
from .clients import REQUESTS, Client, Running, Style

if TYPE_CHECKING:
    from ninelives_grpc.stacks.algebra import Expression

Counts = dict[tuple[str, str], int]
CLIENT, SERVER = "client", "server"
BOTH = frozenset({CLIENT, SERVER})
PUSHBACK = "grpc-retry-pushback-ms"
QUICK: dict[str, Any] = {"initial_backoff": 0.001, "jitter": "none"}


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


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One row of the table.

    Attributes:
        name: What happens.
        policies: What protects the call.
        act: Makes the calls, and checks what came of them.
        plays: What the server does, call by call.
        counts: Calls that the recorder is to have counted, by (code name, result).
        racing: What a server may have counted as well: it hears of the client's end from the client
            or from its own clock.
        sides: Where it applies.
        cancels: Whether the caller must be able to cancel.
        cuts: Whether it ends a response stream half way.
    """

    name: str
    policies: Callable[[], Expression]
    act: Callable[[Session], None]
    plays: tuple[Play, ...] = ()
    counts: Counts
    racing: Counts | None = None
    sides: frozenset[str] = BOTH
    cancels: bool = False
    cuts: bool = False


def full() -> Expression:
    return Timeout(30.0) + CircuitBreaker() + RateLimit(1000, 100) + Bulkhead(8)


def full_retry() -> Expression:
    return Timeout(30.0) + Retry(3, **QUICK) + CircuitBreaker() + RateLimit(1000, 100) + Bulkhead(8)


def answered(session: Session) -> None:
    session.answers(session.call())

    assert session.backend.attempts == 1


def answered_at_last(session: Session) -> None:
    session.answers(session.call())

    assert [visit.metadata.get("x-ninelives-attempt") for visit in session.backend.visits] == [
        None,
        "2",
        "3",
    ]
    assert all(visit.answer() == session.backend.visits[0].answer() for visit in session.backend.visits)


def exhausted(session: Session) -> None:
    running = session.call()

    assert session.backend.attempts == 3
    assert (running.code, running.details) == (StatusCode.UNAVAILABLE, "the last one")
    assert running.trailing["reason"] == "it is so"
    assert not isinstance(running.error, Refused)


def refused_by_bulkhead(session: Session) -> None:
    first = session.start()
    session.backend.wait_until_stalled()

    session.refuses(session.call(), StatusCode.RESOURCE_EXHAUSTED, "bulkhead")

    session.backend.release()
    assert first.result().error is None
    assert session.backend.attempts == 1
    session.answers(session.call())


def refused_by_rate_limit(session: Session) -> None:
    session.answers(session.call())

    session.refuses(session.call(), StatusCode.RESOURCE_EXHAUSTED, "rate_limit")

    assert session.backend.attempts == 1


def refused_by_open_circuit(session: Session) -> None:
    assert session.call().code is StatusCode.INTERNAL

    refused = session.call()

    session.refuses(refused, StatusCode.UNAVAILABLE, "circuit_breaker")
    assert 50_000 <= int(refused.trailing[PUSHBACK]) <= 70_000
    assert session.backend.attempts == 1
    if session.side == CLIENT:
        assert "broken" in str(refused.error.__cause__)


def refused_as_hopeless(session: Session) -> None:
    flow: Any = session.stack.policy("timeout")
    for _ in range(20):
        flow._medians.get(f"test.Scripted/{session.kind}").add(40.0)

    running = session.call(timeout=20.0)

    assert running.code is StatusCode.RESOURCE_EXHAUSTED
    assert session.backend.attempts == 0
    assert flow.refused == 1


def refused_after_a_wait(session: Session) -> None:
    first = session.start()
    session.backend.wait_until_stalled()

    waiting = session.call()

    session.refuses(waiting, StatusCode.RESOURCE_EXHAUSTED, "bulkhead")
    session.backend.release()
    assert first.result().error is None


def let_in_after_a_wait(session: Session) -> None:
    first = session.start()
    session.backend.wait_until_stalled()
    second = session.start()
    leaks.eventually(lambda: leaks.held(session.stack).get("bulkhead/queued") == 1, str)

    session.backend.release()

    assert first.result().error is None
    session.answers(second.result())


def timed_out(session: Session) -> None:
    running = session.call()

    assert running.code is StatusCode.DEADLINE_EXCEEDED
    assert running.messages == []
    session.backend.wait_until_gone()
    assert session.stack.policy("timeout").state(0.0)["occurred"] == 1


def cancelled(session: Session) -> None:
    running = session.start()
    session.backend.wait_until_stalled()

    running.cancel()

    assert running.result().code is StatusCode.CANCELLED
    session.backend.wait_until_gone()
    assert session.backend.attempts == 1


def cancelled_before_a_retry(session: Session) -> None:
    running = session.start()
    session.backend.wait_until_ended()
    leaks.eventually(lambda: session.stack.emitter.counts["retry", "RetryAttempt"], str)

    running.cancel()

    assert running.result().code is StatusCode.CANCELLED
    assert session.backend.attempts == 1


def cancelled_in_the_queue(session: Session) -> None:
    first = session.start()
    session.backend.wait_until_stalled()
    waiting = session.start()
    leaks.eventually(lambda: leaks.held(session.stack).get("bulkhead/queued") == 1, str)

    waiting.cancel()

    assert waiting.result().code is StatusCode.CANCELLED
    leaks.eventually(lambda: "bulkhead/queued" not in leaks.held(session.stack), str)
    session.backend.release()
    assert first.result().error is None
    assert session.backend.attempts == 1


def handler_raised(session: Session) -> None:
    running = session.call()

    assert running.code is StatusCode.UNKNOWN
    assert "a mistake" in str(running.details)
    assert session.backend.attempts == 1


def cut_half_way(session: Session) -> None:
    running = session.call()

    assert running.messages == expected(session.kind, REQUESTS, 2)
    assert (running.code, running.details) == (StatusCode.UNAVAILABLE, "cut")
    assert session.backend.attempts == 1


def client_gone(session: Session) -> None:
    running = session.start()
    session.backend.wait_until_stalled()

    session.cut()

    session.backend.wait_until_gone()
    assert running.result().code is StatusCode.UNAVAILABLE


def deadline_of_the_caller(session: Session) -> None:
    running = session.call(timeout=0.1)

    assert running.code is StatusCode.DEADLINE_EXCEEDED
    session.backend.wait_until_gone()


BROKEN = fail(StatusCode.INTERNAL, "broken")

TABLE = (
    Scenario(name="success", policies=full, act=answered, counts={("OK", "success"): 1}),
    Scenario(
        name="success under retry",
        policies=full_retry,
        act=answered,
        sides=frozenset({CLIENT}),
        counts={("OK", "success"): 1},
    ),
    Scenario(
        name="retry then success",
        policies=full_retry,
        plays=(DOWN, DOWN, ANSWER),
        act=answered_at_last,
        sides=frozenset({CLIENT}),
        counts={("OK", "success"): 1},
    ),
    Scenario(
        name="exhausted",
        policies=full_retry,
        plays=(
            DOWN,
            DOWN,
            Play(
                messages=0,
                code=StatusCode.UNAVAILABLE,
                details="the last one",
                trailing=(("reason", "it is so"),),
            ),
        ),
        act=exhausted,
        sides=frozenset({CLIENT}),
        counts={("UNAVAILABLE", "failure"): 1},
    ),
    Scenario(
        name="refused by bulkhead",
        policies=lambda: Timeout(30.0) + CircuitBreaker() + Bulkhead(1),
        plays=(STALL,),
        act=refused_by_bulkhead,
        counts={("OK", "success"): 2, ("RESOURCE_EXHAUSTED", "refused"): 1},
    ),
    Scenario(
        name="refused by rate limit",
        policies=lambda: Bulkhead(8) + RateLimit(0.01, 1),
        act=refused_by_rate_limit,
        counts={("OK", "success"): 1, ("RESOURCE_EXHAUSTED", "refused"): 1},
    ),
    Scenario(
        name="refused by open circuit",
        policies=lambda: Bulkhead(8)
        + CircuitBreaker(consecutive_failures=1, open_duration=60, max_open_duration=60),
        plays=(BROKEN,),
        act=refused_by_open_circuit,
        counts={("INTERNAL", "failure"): 1, ("UNAVAILABLE", "refused"): 1},
    ),
    Scenario(
        name="refused by timeout as hopeless",
        policies=lambda: Bulkhead(8) + Timeout(60.0),
        act=refused_as_hopeless,
        sides=frozenset({SERVER}),
        counts={("RESOURCE_EXHAUSTED", "refused"): 1},
    ),
    Scenario(
        name="refused after a wait",
        policies=lambda: Bulkhead(1, max_queue=1, max_wait=0.05),
        plays=(STALL,),
        act=refused_after_a_wait,
        counts={("OK", "success"): 1, ("RESOURCE_EXHAUSTED", "refused"): 1},
    ),
    Scenario(
        name="let in after a wait",
        policies=lambda: Bulkhead(1, max_queue=1, max_wait=30.0),
        plays=(STALL,),
        act=let_in_after_a_wait,
        counts={("OK", "success"): 2},
    ),
    Scenario(
        name="timeout",
        policies=lambda: Bulkhead(8) + Timeout(0.1) + CircuitBreaker(),
        plays=(STALL,),
        act=timed_out,
        counts={("DEADLINE_EXCEEDED", "failure"): 1},
    ),
    Scenario(
        name="deadline of the caller",
        policies=full,
        plays=(STALL,),
        act=deadline_of_the_caller,
        counts={("DEADLINE_EXCEEDED", "failure"): 1},
        racing={("CANCELLED", "ignored"): 1},
    ),
    Scenario(
        name="cancelled by the caller",
        policies=full,
        plays=(STALL,),
        act=cancelled,
        cancels=True,
        counts={("CANCELLED", "ignored"): 1},
    ),
    Scenario(
        name="cancelled by the caller under retry",
        policies=full_retry,
        plays=(STALL,),
        act=cancelled,
        cancels=True,
        sides=frozenset({CLIENT}),
        counts={("CANCELLED", "ignored"): 1},
    ),
    Scenario(
        name="cancelled by the caller before a retry",
        policies=lambda: Bulkhead(8)
        + Retry(initial_backoff=30.0, max_backoff=30.0, jitter="none"),
        plays=(DOWN,),
        act=cancelled_before_a_retry,
        cancels=True,
        sides=frozenset({CLIENT}),
        counts={("CANCELLED", "ignored"): 1},
    ),
    Scenario(
        name="cancelled by the caller in a queue",
        policies=lambda: Bulkhead(1, max_queue=1, max_wait=30.0),
        plays=(STALL,),
        act=cancelled_in_the_queue,
        cancels=True,
        counts={("OK", "success"): 1, ("CANCELLED", "ignored"): 1},
    ),
    Scenario(
        name="handler exception",
        policies=full,
        plays=(Play(messages=0, raises=RuntimeError, details="a mistake"),),
        act=handler_raised,
        counts={("UNKNOWN", "failure"): 1},
    ),
    Scenario(
        name="handler exception under retry",
        policies=full_retry,
        plays=(Play(messages=0, raises=RuntimeError, details="a mistake"),),
        act=handler_raised,
        sides=frozenset({CLIENT}),
        counts={("UNKNOWN", "failure"): 1},
    ),
    Scenario(
        name="stream cut half way",
        policies=full,
        plays=(Play(messages=2, code=StatusCode.UNAVAILABLE, details="cut"),),
        act=cut_half_way,
        cuts=True,
        counts={("UNAVAILABLE", "failure"): 1},
    ),
    Scenario(
        name="stream cut half way under retry",
        policies=full_retry,
        plays=(Play(messages=2, code=StatusCode.UNAVAILABLE, details="cut"),),
        act=cut_half_way,
        cuts=True,
        sides=frozenset({CLIENT}),
        counts={("UNAVAILABLE", "failure"): 1},
    ),
    Scenario(
        name="client gone",
        policies=full,
        plays=(STALL,),
        act=client_gone,
        sides=frozenset({SERVER}),
        counts={("CANCELLED", "ignored"): 1},
    ),
)


def nonsense(scenario: Scenario, side: str, protected: str, kind: RpcKind, style: Style) -> str:
    """Say why a combination does not exist, or return ""."""
    if side not in scenario.sides:
        return (
            "a server is called once and repeats nothing"
            if side == SERVER
            else "a client is not served: it has no deadline to keep, and can not be gone from"
        )
    if scenario.cuts and not kind.streams_responses:
        return "there is no response stream to be cut"
    if scenario.cancels and style.blocks:
        return "who waits inside of the call has nothing to cancel it by"
    if protected == "aio-reader-writer" and kind is RpcKind.UNARY_UNARY:
        return "without a stream there is nothing to read or write"
    return ""


def cases(side: str, ways: list[tuple[str, RpcKind, Style]]) -> Iterator[tuple[Any, ...]]:
    """Cross the table with all ways to be protected and to call."""
    for scenario in TABLE:
        for protected, kind, style in ways:
            if not nonsense(scenario, side, protected, kind, style):
                yield scenario, protected, kind, style
