"""What a test may claim of a stack; see `ninelives_grpc.testing`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from ninelives_grpc.events import KINDS
from ninelives_grpc.policies.circuit_breaker import CircuitBreakerGate

if TYPE_CHECKING:
    from ninelives_grpc.stacks.stack import Stack

_LOOK = 0.01
"""Seconds after which who waits looks again."""
_HELD = ("in_flight", "queued", "probes")
_RESULTS = ("success", "failure", "ignored", "refused")


def assert_ended(stack: Stack, **results: int) -> None:
    """Fail unless the calls of a stack have ended like this, and no others have.

        assert_ended(stack, success=2, refused=1)

    Args:
        stack: Whose calls.
        results: How many ended as `success`, as `failure`, as `ignored` (cancelled, say) and as
            `refused` by a policy; those not named, 0.

    Raises:
        AssertionError: They ended otherwise; says how.
        TypeError: There is no such result.
    """
    _check(results, _RESULTS, "result")
    ended: Counter[str] = Counter()
    for ending, calls in stack.recorder.totals().calls.items():
        ended[ending.result] += calls
    _compare(f"calls of stack {stack.name!r}", ended, results)


def assert_happened(stack: Stack, **events: int) -> None:
    """Fail unless these events have happened in a stack so many times.

        assert_happened(stack, RetryAttempt=2, CircuitOpened=1, HedgeStarted=0)

    It needs no sink. Routine events, which every good call has, are not counted.

    Args:
        stack: Whose events.
        events: How many there were, by kind; others may have happened as well.

    Raises:
        AssertionError: There were more or fewer; says how many.
        TypeError: There is no such kind of event.
    """
    _check(events, [name for name, kind in KINDS.items() if not kind.routine], "event")
    happened: Counter[str] = Counter()
    for (_, name), count in stack.emitter.counts.items():
        happened[name] += count
    _compare(f"events of stack {stack.name!r}", {name: happened[name] for name in events}, events)


def assert_settled(stack: Stack, within: float = 5.0) -> None:
    """Fail unless every permit has been given back: no call under way, waiting or probing.

    The end of a call is settled by callback, in a moment: this waits for it. In a running event
    loop it does not, as it would keep the callbacks from running; there, `await
    asyncio.to_thread(assert_settled, stack)`.

    Args:
        stack: What should have nothing left to do.
        within: Seconds to wait.

    Raises:
        AssertionError: Something is still held; says by which policy.
    """
    in_loop = asyncio._get_running_loop() is not None
    until = time.monotonic() + (0.0 if in_loop else within)
    while held := _held(stack):
        if time.monotonic() >= until:
            msg = (
                f"stack {stack.name!r} still holds {', '.join(held)}: a call is under way, or a "
                "stream has neither been read to its end nor cancelled"
            )
            if in_loop:
                msg += "; in an event loop, `await asyncio.to_thread(assert_settled, stack)`"
            raise AssertionError(msg)
        threading.Event().wait(_LOOK)


def _check(given: dict[str, int], known: tuple[str, ...] | list[str], what: str) -> None:
    for name in given:
        if name not in known:
            msg = f"there is no {what} {name!r}; there are {', '.join(known)}"
            raise TypeError(msg)


def _compare(what: str, found: dict[str, int], wanted: dict[str, int]) -> None:
    found = {name: count for name, count in found.items() if count}
    wanted = {name: count for name, count in wanted.items() if count}
    if found != wanted:
        raise AssertionError(f"{what}: {_told(found)}, not {_told(wanted)}")


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}={count}" for name, count in sorted(counts.items())) or "none"


def _held(stack: Stack) -> list[str]:
    held = []
    for name, live in stack.policies.items():
        states = {"": live.state(stack.clock.now())}
        if isinstance(live, CircuitBreakerGate):
            states = live.circuits(stack.clock.now())
        for key, state in states.items():
            of = f" of {key}" if key else ""
            held += [f"{name}/{word} = {state[word]}{of}" for word in _HELD if state.get(word)]
    return held
