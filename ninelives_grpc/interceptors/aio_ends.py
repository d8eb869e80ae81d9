"""How an asyncio call of gRPC's ends, and how to hear of it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from grpc.aio import AioRpcError

from ninelives_grpc.outcome import Code, Kind, Outcome, cancelled, failed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_STARTS = ("_call_response", "_preparation", "_interceptors_task")
"""Where gRPC's call objects keep the task that starts them."""


class NeverStarted:
    """Stands for a call that gRPC has not started: it raised something, or was cancelled first.

    That is on requests and metadata of a wrong type, and in an interceptor; whoever awaits the call
    hears of it, while its callbacks are never called.
    """

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def cancelled(self) -> bool:
        """Tell that it was not cancelled."""
        return False


def hear_of_end(call: Any, ended: Callable[[Any], None], *, sure: bool = False) -> None:
    """Call back with a call object at its end, or with `NeverStarted`; at once if that has passed.

    It may come twice. The start of a call that is `sure` to start is not watched: that costs as
    much as a small policy.
    """
    try:
        call.add_done_callback(ended)
    except NotImplementedError:
        # An interceptor answered by itself: gRPC has an object for that, which is over.
        ended(call)
        return
    if sure:
        return
    for name in _STARTS:
        start: asyncio.Task[Any] | None = getattr(call, name, None)
        if start is not None:
            start.add_done_callback(partial(_start_ended, ended))
            return


def _start_ended(ended: Callable[[Any], None], start: asyncio.Task[Any]) -> None:
    error = asyncio.CancelledError() if start.cancelled() else start.exception()
    if error is not None and not isinstance(error, AioRpcError):
        ended(NeverStarted(error))


def outcome_of(ended: Any, duration: float) -> Outcome:
    """Return the outcome of a call object that is done; none of its coroutines then suspends."""
    if type(ended) is NeverStarted:
        return cancelled(duration, ended.error)
    coroutine = ended.code()
    try:
        coroutine.send(None)
    except StopIteration as stop:
        code = stop.value
    except Exception as raised:  # noqa: BLE001 - an interceptor's, which is raised wherever one asks
        return cancelled(duration, raised)
    if code is Code.OK:
        return Outcome(Kind.SUCCESS, code, duration)
    error = AioRpcError(
        code,
        finished(ended.initial_metadata()),
        finished(ended.trailing_metadata()),
        finished(ended.details()),
        finished(ended.debug_error_string()),
    )
    return cancelled(duration, error) if code is Code.CANCELLED else failed(error, duration)


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that does not have to wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    return None
