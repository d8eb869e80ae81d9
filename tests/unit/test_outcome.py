import asyncio
import concurrent.futures

import grpc
import pytest

from ninelives_grpc.errors import LocalError, Refused, TimedOut
from ninelives_grpc.outcome import (
    STOP_PUSHBACK,
    Code,
    Kind,
    cancelled,
    classify,
    code_of,
    failed,
    parse_pushback,
    pushback_of,
    refused,
    succeeded,
)
from ninelives_grpc.policies.gate import Refusal
from tests.unit.backend import StatusError

FAILURE = {
    Code.UNAVAILABLE,
    Code.DEADLINE_EXCEEDED,
    Code.INTERNAL,
    Code.DATA_LOSS,
    Code.UNKNOWN,
}
IGNORED = {Code.CANCELLED, Code.ABORTED, Code.RESOURCE_EXHAUSTED}


@pytest.mark.parametrize("code", list(Code), ids=lambda code: code.name)
def test_a_code_teaches_what_the_table_says(code):
    expected = (
        Kind.FAILURE if code in FAILURE else Kind.IGNORED if code in IGNORED else Kind.SUCCESS
    )

    assert classify(code) is expected


@pytest.mark.parametrize("code", list(Code), ids=lambda code: code.name)
@pytest.mark.parametrize("pushback", [0.0, 1.5, STOP_PUSHBACK])
def test_a_reply_with_a_pushback_only_says_that_there_is_too_much_to_do(code, pushback):
    assert classify(code, pushback) is Kind.IGNORED


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("300", 0.3),
        ("60000", 60.0),
        (b"250", 0.25),
        ("-1", STOP_PUSHBACK),
        ("-300", STOP_PUSHBACK),
        ("", STOP_PUSHBACK),
        ("soon", STOP_PUSHBACK),
        ("1.5", STOP_PUSHBACK),
        ("9" * 400, STOP_PUSHBACK),
        ("9" * 10_000, STOP_PUSHBACK),
    ],
    ids=lambda value: str(value)[:12],
)
def test_pushback_is_whole_milliseconds_and_anything_else_says_stop(value, seconds):
    metadata = (("other", "1"), ("grpc-retry-pushback-ms", value))

    assert parse_pushback(metadata) == seconds


@pytest.mark.parametrize("metadata", [None, (), (("other", "5"),)])
def test_there_is_no_pushback_when_nothing_was_sent(metadata):
    assert parse_pushback(metadata) is None


def test_pushback_is_read_from_the_trailing_metadata_of_an_error():
    assert pushback_of(StatusError(pushback=20)) == 0.02
    assert pushback_of(StatusError()) is None
    assert pushback_of(grpc.RpcError()) is None


def test_what_we_tell_our_own_callers_to_wait_is_no_pushback_of_a_server():
    error = Refused("no", code=Code.RESOURCE_EXHAUSTED, retry_after=1.0)

    assert pushback_of(error) is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StatusError(Code.NOT_FOUND), Code.NOT_FOUND),
        (grpc.RpcError("bare"), Code.UNKNOWN),
        (LocalError("no", code=Code.ABORTED), Code.ABORTED),
        (TimedOut("late"), Code.DEADLINE_EXCEEDED),
        (asyncio.CancelledError(), Code.CANCELLED),
        (concurrent.futures.CancelledError(), Code.CANCELLED),
        (grpc.FutureCancelledError(), Code.CANCELLED),
        (TimeoutError(), Code.DEADLINE_EXCEEDED),
        (grpc.FutureTimeoutError(), Code.DEADLINE_EXCEEDED),
        (ConnectionRefusedError(), Code.UNAVAILABLE),
        (ConnectionResetError(), Code.UNAVAILABLE),
        (OSError(), Code.UNKNOWN),
        (ValueError("x"), Code.UNKNOWN),
        (KeyboardInterrupt(), Code.UNKNOWN),
    ],
    ids=lambda value: value.name if isinstance(value, Code) else type(value).__name__,
)
def test_every_exception_stands_for_a_code(error, code):
    assert code_of(error) is code


def test_work_that_returned_is_a_success_that_holds_the_value():
    outcome = succeeded(0.25, "value")

    assert (outcome.kind, outcome.code, outcome.duration) == (Kind.SUCCESS, Code.OK, 0.25)
    assert outcome.value == "value"
    assert not outcome.failed
    assert not outcome.overload


def test_work_that_raised_is_classified_by_its_code():
    error = StatusError(Code.INTERNAL)

    outcome = failed(error, 0.5)

    assert (outcome.kind, outcome.code, outcome.error) == (Kind.FAILURE, Code.INTERNAL, error)
    assert outcome.failed


def test_an_answer_such_as_not_found_fails_the_caller_but_teaches_success():
    outcome = failed(StatusError(Code.NOT_FOUND), 0.0)

    assert outcome.failed
    assert outcome.kind is Kind.SUCCESS


def test_a_plain_exception_is_a_failure():
    assert failed(ValueError("x"), 0.0).kind is Kind.FAILURE


def test_a_refusal_raised_further_in_is_ignored():
    error = Refused("no", code=Code.UNAVAILABLE)

    assert failed(error, 0.0).kind is Kind.IGNORED


def test_a_pushback_turns_a_failure_into_an_overload_refusal():
    outcome = failed(StatusError(Code.UNAVAILABLE, pushback=100), 0.0)

    assert outcome.kind is Kind.IGNORED
    assert outcome.pushback == 0.1
    assert outcome.overload


def test_exhausted_resources_are_overload_but_our_own_refusals_are_not():
    refusal = Refusal("bulkhead", "full")

    assert failed(StatusError(Code.RESOURCE_EXHAUSTED), 0.0).overload
    assert not refused(refusal).overload
    assert not failed(Refused("full", code=Code.RESOURCE_EXHAUSTED), 0.0).overload
    assert not failed(StatusError(Code.UNAVAILABLE), 0.0).overload


def test_refused_and_cancelled_work_is_ignored():
    refusal = Refusal("breaker", "open", code=Code.UNAVAILABLE)

    assert (refused(refusal).kind, refused(refusal).code) == (Kind.IGNORED, Code.UNAVAILABLE)
    assert (cancelled().kind, cancelled().code) == (Kind.IGNORED, Code.CANCELLED)


@pytest.mark.parametrize(
    ("code", "details", "lost"),
    [
        (Code.INTERNAL, "Internal error from Core", True),
        (Code.INTERNAL, "something else", False),
        (Code.UNKNOWN, "Internal error from Core", False),
    ],
)
def test_a_status_that_grpc_has_lost_is_told_from_a_real_one(code, details, lost):
    assert failed(StatusError(code, details=details), 0.0).lost is lost


def test_an_outcome_describes_itself_in_a_line():
    by_server = failed(StatusError(Code.INTERNAL, details="disk full"), 0.0)
    by_function = failed(ValueError("bad"), 0.0)
    by_policy = refused(Refusal("bulkhead", "it is full"))

    assert by_server.describe() == "INTERNAL: disk full"
    assert by_function.describe() == "UNKNOWN: bad"
    assert by_policy.describe() == "RESOURCE_EXHAUSTED: it is full"
    assert repr(succeeded(0.0125)) == "<Outcome success OK 12.5 ms>"
