"""What the scenarios do: make calls, and check what came of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpc import StatusCode

from ninelives_grpc import Refused

from . import leaks
from .backend import expected
from .clients import REQUESTS
from .session import CLIENT, PUSHBACK

if TYPE_CHECKING:
    from .session import Session


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
    assert all(
        visit.answer() == session.backend.visits[0].answer() for visit in session.backend.visits
    )


def exhausted(session: Session) -> None:
    running = session.call()

    assert session.backend.attempts == 3
    assert (running.code, running.details) == (StatusCode.UNAVAILABLE, "the last one")
    assert running.trailing["reason"] == "it is so"
    assert not isinstance(running.error, Refused)


def not_paid_for(session: Session) -> None:
    running = session.call()

    assert session.backend.attempts == 2
    assert (running.code, running.details) == (StatusCode.UNAVAILABLE, "down")
    assert not isinstance(running.error, Refused)
    assert session.stack.emitter.counts["retry", "RetryAttempt"] == 1


def answered_locally(session: Session) -> None:
    running = session.call()

    assert running.error is None, repr(running.error)
    assert running.messages == [b"local"]
    assert session.backend.attempts == 0


def refused_by_bulkhead(session: Session) -> None:
    first = session.start()
    session.backend.wait_until_stalled()

    session.refuses(session.call(), StatusCode.RESOURCE_EXHAUSTED, "bulkhead")

    session.backend.release()
    assert first.result().error is None
    assert session.backend.attempts == 1
    leaks.assert_nothing_held([session.stack])
    session.answers(session.call())


def refused_by_rate_limit(session: Session) -> None:
    session.answers(session.call())

    session.refuses(session.call(), StatusCode.RESOURCE_EXHAUSTED, "rate_limit")

    assert session.backend.attempts == 1


def refused_by_open_circuit(session: Session) -> None:
    assert session.call().code is StatusCode.INTERNAL
    # The client may hear of the end before the thread of the handler does.
    leaks.eventually(lambda: leaks.counted(session.stack) == 1, str)

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
    session.backend.wait_until_all_gone()
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


def server_gone(session: Session) -> None:
    running = session.start()
    session.backend.wait_until_stalled()

    session.cut()

    assert running.result().code is StatusCode.UNAVAILABLE
    assert session.backend.attempts == 1
    session.backend.wait_until_gone()


def client_gone(session: Session) -> None:
    running = session.start()
    session.backend.wait_until_stalled()

    session.cut()

    session.backend.wait_until_gone()
    assert running.result().code is StatusCode.UNAVAILABLE


def deadline_of_the_caller(session: Session) -> None:
    running = session.call(timeout=0.1)

    assert running.code is StatusCode.DEADLINE_EXCEEDED
    session.backend.wait_until_all_gone()
