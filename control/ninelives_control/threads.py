"""Commands run in a few threads of the control plane's own, and nobody gains by asking faster.

A command may block, so it does not run on the loop. There are few threads, as those of the
application wait for each of them that runs: Python runs one at a time.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ninelives_control.errors import Code, CommandError
from ninelives_control.limits import THREADS

if TYPE_CHECKING:
    from collections.abc import Callable

A = ParamSpec("A")
R = TypeVar("R")

_HOLD = 0.5
"""Seconds that those wait for their answer who have asked too often."""
_MOST_HELD = 500
"""Answers that are held at a time; others are given at once."""
_held = 0


def pool() -> ThreadPoolExecutor:
    """Return the threads, for the loop to run its `asyncio.to_thread` in."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="ninelives-command")


async def in_thread(function: Callable[A, R], /, *args: A.args, **kwargs: A.kwargs) -> R:
    """Call a function of the dispatcher in one of the threads.

    Most clients that are refused ask again at once, and to refuse them is work as well. So they
    hear of it a little later.
    """
    try:
        result = await asyncio.to_thread(function, *args, **kwargs)
    except CommandError as error:
        await _hold(error)
        raise
    if isinstance(result, CommandError):  # what `refuse` returns
        await _hold(result)
    return result


async def _hold(error: CommandError) -> None:
    global _held  # noqa: PLW0603 - a process rarely has more than one control plane
    if error.code is not Code.RATE_LIMITED or _held >= _MOST_HELD:
        return
    _held += 1
    try:
        await asyncio.sleep(_HOLD)
    finally:
        _held -= 1
