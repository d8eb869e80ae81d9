"""The one table of what can happen to a call, for every kind of client, server and RPC.

A scenario is data: where it applies, what protects the call, what the other side does, and what
makes the calls and checks what came of them. `cases` crosses the table with all ways to be
protected; `nonsense` is the one place that says which combinations do not exist, and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grpc import StatusCode

from ninelives_grpc import Bulkhead, CircuitBreaker, RateLimit, Respond, Retry, RetryBudget, Timeout

from . import acts
from .backend import ANSWER, DOWN, STALL, Play, RpcKind, fail
from .session import CLIENT, SERVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ninelives_grpc.call import Call
    from ninelives_grpc.stacks.algebra import Expression

    from .clients import Style
    from .session import Session

Counts = dict[tuple[str, str], int]
BOTH = frozenset({CLIENT, SERVER})
QUICK: dict[str, Any] = {"initial_backoff": 0.001, "jitter": "none"}


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


def local_answer(call: Call) -> object:
    return [b"local"] if call.method.name.endswith("stream") else b"local"


def full() -> Expression:
    return Timeout(30.0) + CircuitBreaker() + RateLimit(1000, 100) + Bulkhead(8)


def full_retry() -> Expression:
    return Timeout(30.0) + Retry(3, **QUICK) + CircuitBreaker() + RateLimit(1000, 100) + Bulkhead(8)


BROKEN = fail(StatusCode.INTERNAL, "broken")

TABLE = (
    Scenario(name="success", policies=full, act=acts.answered, counts={("OK", "success"): 1}),
    Scenario(
        name="success under retry",
        policies=full_retry,
        act=acts.answered,
        sides=frozenset({CLIENT}),
        counts={("OK", "success"): 1},
    ),
    Scenario(
        name="retry then success",
        policies=full_retry,
        plays=(DOWN, DOWN, ANSWER),
        act=acts.answered_at_last,
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
        act=acts.exhausted,
        sides=frozenset({CLIENT}),
        counts={("UNAVAILABLE", "failure"): 1},
    ),
    Scenario(
        name="not repeated for want of budget",
        policies=lambda: (
            Bulkhead(8) + Retry(10, **QUICK, budget=RetryBudget(capacity=2.0, threshold=0.5))
        ),
        plays=(DOWN, DOWN, DOWN),
        act=acts.not_paid_for,
        sides=frozenset({CLIENT}),
        counts={("UNAVAILABLE", "failure"): 1},
    ),
    Scenario(
        name="refused and answered by a fallback",
        policies=lambda: Bulkhead(8) + CircuitBreaker(mode="open") | Respond(local_answer),
        act=acts.answered_locally,
        counts={("OK", "success"): 1},
    ),
    Scenario(
        name="refused by bulkhead",
        policies=lambda: Timeout(30.0) + CircuitBreaker() + Bulkhead(1),
        plays=(STALL,),
        act=acts.refused_by_bulkhead,
        counts={("OK", "success"): 2, ("RESOURCE_EXHAUSTED", "refused"): 1},
    ),
    Scenario(
        name="refused by rate limit",
        policies=lambda: Bulkhead(8) + RateLimit(0.01, 1),
        act=acts.refused_by_rate_limit,
        counts={("OK", "success"): 1, ("RESOURCE_EXHAUSTED", "refused"): 1},
    ),
    Scenario(
        name="refused by open circuit",
        policies=lambda: (
            Bulkhead(8)
            + CircuitBreaker(consecutive_failures=1, open_duration=60, max_open_duration=60)
        ),
        plays=(BROKEN,),
        act=acts.refused_by_open_circuit,
        counts={("INTERNAL", "failure"): 1, ("UNAVAILABLE", "refused"): 1},
    ),
    Scenario(
        name="refused by timeout as hopeless",
        policies=lambda: Bulkhead(8) + Timeout(60.0),
        act=acts.refused_as_hopeless,
        sides=frozenset({SERVER}),
        counts={("RESOURCE_EXHAUSTED", "refused"): 1},
    ),
    Scenario(
        name="refused after a wait",
        policies=lambda: Bulkhead(1, max_queue=1, max_wait=0.05),
        plays=(STALL,),
        act=acts.refused_after_a_wait,
        counts={("OK", "success"): 1, ("RESOURCE_EXHAUSTED", "refused"): 1},
    ),
    Scenario(
        name="let in after a wait",
        policies=lambda: Bulkhead(1, max_queue=1, max_wait=30.0),
        plays=(STALL,),
        act=acts.let_in_after_a_wait,
        counts={("OK", "success"): 2},
    ),
    Scenario(
        name="timeout",
        policies=lambda: Bulkhead(8) + Timeout(0.1) + CircuitBreaker(),
        plays=(STALL,),
        act=acts.timed_out,
        counts={("DEADLINE_EXCEEDED", "failure"): 1},
    ),
    Scenario(
        name="deadline of the caller",
        policies=full,
        plays=(STALL,),
        act=acts.deadline_of_the_caller,
        counts={("DEADLINE_EXCEEDED", "failure"): 1},
        racing={("CANCELLED", "ignored"): 1},
    ),
    Scenario(
        name="cancelled by the caller",
        policies=full,
        plays=(STALL,),
        act=acts.cancelled,
        cancels=True,
        counts={("CANCELLED", "ignored"): 1},
    ),
    Scenario(
        name="cancelled by the caller under retry",
        policies=full_retry,
        plays=(STALL,),
        act=acts.cancelled,
        cancels=True,
        sides=frozenset({CLIENT}),
        counts={("CANCELLED", "ignored"): 1},
    ),
    Scenario(
        name="cancelled by the caller before a retry",
        policies=lambda: Bulkhead(8) + Retry(initial_backoff=30.0, max_backoff=30.0, jitter="none"),
        plays=(DOWN,),
        act=acts.cancelled_before_a_retry,
        cancels=True,
        sides=frozenset({CLIENT}),
        counts={("CANCELLED", "ignored"): 1},
    ),
    Scenario(
        name="cancelled by the caller in a queue",
        policies=lambda: Bulkhead(1, max_queue=1, max_wait=30.0),
        plays=(STALL,),
        act=acts.cancelled_in_the_queue,
        cancels=True,
        counts={("OK", "success"): 1, ("CANCELLED", "ignored"): 1},
    ),
    Scenario(
        name="handler exception",
        policies=full,
        plays=(Play(messages=0, raises=RuntimeError, details="a mistake"),),
        act=acts.handler_raised,
        counts={("UNKNOWN", "failure"): 1},
    ),
    Scenario(
        name="handler exception under retry",
        policies=full_retry,
        plays=(Play(messages=0, raises=RuntimeError, details="a mistake"),),
        act=acts.handler_raised,
        sides=frozenset({CLIENT}),
        counts={("UNKNOWN", "failure"): 1},
    ),
    Scenario(
        name="stream cut half way",
        policies=full,
        plays=(Play(messages=2, code=StatusCode.UNAVAILABLE, details="cut"),),
        act=acts.cut_half_way,
        cuts=True,
        counts={("UNAVAILABLE", "failure"): 1},
    ),
    Scenario(
        name="stream cut half way under retry",
        policies=full_retry,
        plays=(Play(messages=2, code=StatusCode.UNAVAILABLE, details="cut"),),
        act=acts.cut_half_way,
        cuts=True,
        sides=frozenset({CLIENT}),
        counts={("UNAVAILABLE", "failure"): 1},
    ),
    Scenario(
        name="server gone",
        policies=full,
        plays=(STALL,),
        act=acts.server_gone,
        sides=frozenset({CLIENT}),
        counts={("UNAVAILABLE", "failure"): 1},
    ),
    Scenario(
        name="server gone under retry",
        policies=full_retry,
        plays=(STALL,),
        act=acts.server_gone,
        sides=frozenset({CLIENT}),
        counts={("UNAVAILABLE", "failure"): 1},
    ),
    Scenario(
        name="client gone",
        policies=full,
        plays=(STALL,),
        act=acts.client_gone,
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
