"""Where outcomes become exceptions again, and calls begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.call import ServedCall, serving
from ninelives_grpc.errors import AioRefused, LocalError, Refused
from ninelives_grpc.outcome import Code

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token

    from ninelives_grpc.call import Method
    from ninelives_grpc.outcome import Outcome
    from ninelives_grpc.policies.gate import Refusal
    from ninelives_grpc.stacks.execution import Execution
    from ninelives_grpc.stacks.stack import Stack


def abandon(
    stack: Stack, execution: Execution, now: float, error: BaseException | None = None
) -> None:
    """End a call that nobody goes on with: every permit is given back, and it is noted."""
    execution.cancel(now, error)
    stack.recorder.ended(execution.call, execution.outcome, now)


def inherited_deadline(now: float) -> float | None:
    """Return the deadline of the call being served, on the caller's clock, or None."""
    served = serving.get()
    if served is None or served.deadline is None:
        return None
    remaining = served.time_remaining()
    return None if remaining is None else now + remaining


def serve(
    method: Method, deadline: float | None, clock: Callable[[], float]
) -> Token[ServedCall | None] | None:
    """Hand the deadline of an attempt down to the calls made in it; None when there is none."""
    if deadline is None:
        return None
    outer = serving.get()
    return serving.set(
        ServedCall(
            method,
            deadline,
            clock,
            lambda: False if outer is None else outer.cancelled,
            None if outer is None else outer.rank,
        )
    )


def result_of(execution: Execution, stack: str, *, aio: bool = False) -> Outcome:
    """Return the outcome of a call that went well, or raise what its caller is to see.

    The frames that an error has passed through refer to the execution: it lets go of the outcome,
    so that error and frames are freed as soon as the caller is done with them.
    """
    outcome = execution.outcome
    del execution.outcome
    if not outcome.failed:
        return outcome
    error = error_of(outcome, stack, aio=aio)
    try:
        raise error
    finally:
        del error, outcome


def error_of(outcome: Outcome, stack: str, *, aio: bool = False) -> BaseException:
    """Return what the caller of a call that failed is to see."""
    error = outcome.error
    if outcome.refusal is not None and error is None:
        error = refusal_error(outcome.refusal, stack, aio=aio)
    assert error is not None
    for note in outcome.notes:
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
    return error


def channel_closed() -> LocalError:
    """Return the error of a call whose channel was closed while it waited, in gRPC's words."""
    return LocalError("Channel closed!", code=Code.CANCELLED)


def refusal_error(refusal: Refusal, stack: str, *, aio: bool = False) -> LocalError:
    """Return a refusal as an exception."""
    kind = AioRefused if aio else Refused
    error = kind(
        refusal.details,
        code=refusal.code,
        stack=stack,
        policy=refusal.policy,
        retry_after=refusal.retry_after,
    )
    error.__cause__ = refusal.cause
    return error
