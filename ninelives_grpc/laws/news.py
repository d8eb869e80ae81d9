"""What a loop tells of itself: its events, and its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ninelives_grpc.events import LawAdjusted, LawFailed, LoopPaused, LoopResumed

if TYPE_CHECKING:
    from ninelives_grpc.laws.loop import FeedbackLoop
    from ninelives_grpc.laws.metrics import Metrics
    from ninelives_grpc.parameters import Change, Value


def adjusted(loop: FeedbackLoop, change: Change, metrics: Metrics) -> LawAdjusted:
    """Tell of a value that the loop has set."""
    return LawAdjusted(
        **_about(loop, metrics.at),
        reason=loop.reason,
        law=type(loop.policy).__name__,
        old=change.old,
        new=change.new,
        calls=metrics.calls,
        seconds=metrics.seconds,
        age=metrics.age,
        success_rate=metrics.success_rate,
        p99=metrics.p99,
    )


def paused(loop: FeedbackLoop, metrics: Metrics) -> LoopPaused:
    """Tell that it pauses."""
    about = _about(loop, metrics.at)
    return LoopPaused(**about, reason=loop.paused, calls=metrics.calls, age=metrics.age)


def resumed(loop: FeedbackLoop, reason: str, seconds: float, now: float) -> LoopResumed:
    """Tell that it goes on after so many seconds."""
    return LoopResumed(**_about(loop, now), reason=reason, paused=seconds)


def failed(loop: FeedbackLoop, now: float) -> LawFailed:
    """Tell of an error of the law."""
    law = type(loop.policy).__name__
    return LawFailed(**_about(loop, now), law=law, error=loop.error)


def state_of(loop: FeedbackLoop, metrics: Metrics | None, now: float) -> dict[str, Value]:
    """Return what it moves, how that went, and what it goes by."""
    state: dict[str, Value] = {
        "parameter": loop.handle.path,
        "value": loop.handle.get(),
        "paused": loop.paused,
        "adjusted": loop.adjusted,
        "reason": loop.reason,
        "errors": loop.errors,
        "last_error": loop.error,
        "lost": loop.lost,
        "due_in": max(0.0, loop.due - now),
    }
    if metrics is not None:
        state |= {
            "data_age": metrics.age + max(0.0, now - metrics.at),
            "data_calls": metrics.calls,
            "data_success_rate": metrics.success_rate,
            "data_p99": metrics.p99,
        }
    return state


def _about(loop: FeedbackLoop, now: float) -> dict[str, Any]:
    return {"stack": loop.stack, "policy": loop.name, "at": now, "parameter": loop.handle.path}
