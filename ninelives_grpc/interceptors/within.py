"""Await something within a limit of ours, without a timer where it is ready at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Generator, Iterator

    from ninelives_grpc.stacks.stack import Stack


class LimitReachedError(Exception):
    """A limit of ours ran out; never leaves the interceptors."""


async def within(
    limit: float, stack: Stack, work: Awaitable[Any], scope: asyncio.Timeout | None = None
) -> Any:
    """Await the work until the clock of the stack shows `limit`.

    With a `scope`, which is a timeout of that clock, the limit can be moved meanwhile.

    Raises:
        LimitReachedError: It took longer, and was cancelled.
    """
    steps = iter(work.__await__())
    try:
        waits_for = next(steps)
    except StopIteration as ready:
        # Most messages of a stream: a timer would cost more than the message.
        return ready.value
    scope = scope or stack.clock.timeout(limit)
    try:
        async with scope:
            return await _Started(steps, waits_for)
    except TimeoutError as error:
        if scope.expired():
            raise LimitReachedError from error
        raise


class _Started:
    """The rest of an awaitable that has taken its first step; as `yield from`, PEP 380."""

    def __init__(self, steps: Iterator[Any], waits_for: Any) -> None:
        self._steps: Any = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, None, Any]:
        steps, waits_for = self._steps, self._waits_for
        while True:
            try:
                try:
                    yield waits_for
                except GeneratorExit:
                    steps.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - such as a cancel: it is for the work
                    waits_for = steps.throw(error)
                else:
                    waits_for = next(steps)
            except StopIteration as ended:
                return ended.value
