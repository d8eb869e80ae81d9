"""What must be gone after every call: permits, threads, tasks."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from typing import TYPE_CHECKING

from tests.waiting import until

from .backend import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ninelives_grpc import Stack

_HELD = ("in_flight", "queued", "probes", "half_open")
_OURS = ("test-caller", "test-loop")
"""Threads that the tests themselves keep for the whole run."""
_GRPCS = "_poll_wrapper"
"""gRPC's own thread for all asyncio channels and servers of the process."""


def eventually(happened: Callable[[], object], what: Callable[[], object]) -> None:
    """Wait until something holds that another thread brings about, or say what there was."""
    until(happened, what, patience=PATIENCE, every=0.002)


def held(stack: Stack) -> dict[str, object]:
    """Return what the policies of a stack still hold for calls."""
    state = stack.state()
    return {
        f"{policy.name}/{name}": value
        for policy in state.policies
        for name, value in policy.values.items()
        if name in _HELD and value
    }


def counted(stack: Stack) -> int:
    """Return how many calls the recorder has counted."""
    return stack.recorder.totals().calls.total()


def results(stack: Stack) -> Counter[tuple[str, str]]:
    """Return how many calls the recorder has counted, by (code name, result)."""
    found: Counter[tuple[str, str]] = Counter()
    for ending, count in stack.recorder.totals().calls.items():
        found[ending.code, ending.result] += count
    return found


def assert_nothing_held(stacks: Iterable[Stack]) -> None:
    """Fail unless every permit is given back, at once or in a moment."""
    for stack in stacks:
        eventually(lambda stack=stack: not held(stack), lambda stack=stack: held(stack))


def threads() -> set[threading.Thread]:
    """Return the threads that are there because of calls."""
    return {
        thread
        for thread in threading.enumerate()
        if not thread.name.startswith(_OURS)
        and _GRPCS not in thread.name
        # What Python makes up for a thread of C that has asked a plugin for credentials.
        and not isinstance(thread, threading._DummyThread)
    }


def assert_no_thread_left(before: set[threading.Thread]) -> None:
    """Fail unless threads that were started since have ended, at once or in a moment."""
    eventually(lambda: not threads() - before, lambda: threads() - before)


def tasks(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[object]]:
    """Return the tasks of a loop; call it in that loop."""
    return asyncio.all_tasks(loop) - {asyncio.current_task(loop)}


def collect() -> None:
    """Let the garbage collector find what is not referred to any more."""
    for _ in range(3):
        gc.collect()
