import copy
import pickle

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from ninelives_grpc.errors import (
    AioRefused,
    AioTimedOut,
    ConfigError,
    LocalError,
    MissingExtraError,
    NinelivesError,
    Refused,
    RevisionError,
    TimedOut,
    UnknownNameError,
    pushback_metadata,
)
from ninelives_grpc.sinks import SinkError

Code = grpc.StatusCode


def refusal(kind=Refused):
    return kind(
        "bulkhead is full",
        code=Code.RESOURCE_EXHAUSTED,
        stack="payments",
        policy="bulkhead",
        retry_after=0.25,
    )


EVERY_ERROR = [
    NinelivesError("text"),
    ConfigError("must be 1", path="a/b"),
    UnknownNameError("stack", "paymnts", ["payments"]),
    RevisionError("a/b/c", 1, 2),
    MissingExtraError("otel", "metrics"),
    SinkError([("log", ValueError("x")), ("file", KeyError("y"))]),
    LocalError("text", code=Code.ABORTED),
    refusal(),
    refusal(AioRefused),
    TimedOut("too late", stack="s", policy="timeout"),
    AioTimedOut("too late"),
]


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_an_error_survives_copy_and_pickle_with_all_it_knows(error, again):
    error = copy.copy(error)
    error.add_note("seen by a test")

    twin = again(error)

    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert twin.__notes__ == ["seen by a test"]
    assert set(vars(twin)) == set(vars(error))


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (ConfigError, ValueError),
        (UnknownNameError, KeyError),
        (MissingExtraError, ImportError),
        (LocalError, grpc.RpcError),
        (Refused, LocalError),
        (TimedOut, TimeoutError),
        (TimedOut, LocalError),
        (AioRefused, Refused),
        (AioRefused, AioRpcError),
        (AioTimedOut, TimedOut),
        (AioTimedOut, AioRpcError),
    ],
)
def test_an_error_is_caught_by_what_it_is(kind, base):
    assert issubclass(kind, base)
    assert issubclass(kind, NinelivesError)


def test_a_config_error_names_the_place_first():
    assert str(ConfigError("must be 1", path="a/b")) == "a/b: must be 1"
    assert str(ConfigError("must be 1")) == "must be 1"


@pytest.mark.parametrize(
    ("known", "hint"),
    [
        (["payments", "search"], "did you mean payments?"),
        (["payments", "payment"], "did you mean payments or payment?"),
        (["x", "y"], "there are: x, y"),
        ([f"x{n}" for n in range(12)], "there are: x0, x1, x10, x11, x2, x3, x4, x5, x6, x7, …"),
        ([], "there is no stack at all"),
    ],
)
def test_an_unknown_name_comes_with_a_hint(known, hint):
    error = UnknownNameError("stack", "paymnts", known)

    assert str(error) == f"no stack named 'paymnts'; {hint}"


def test_a_missing_extra_prints_the_command_that_installs_it():
    assert str(MissingExtraError("otel", "metrics")) == (
        'metrics needs: pip install "ninelives-grpc[otel]"'
    )


@pytest.mark.parametrize("kind", [Refused, AioRefused])
def test_a_refusal_answers_like_any_ended_call(kind):
    error = refusal(kind)

    assert isinstance(error, grpc.RpcError)
    assert isinstance(error, grpc.Call)
    assert isinstance(error, grpc.Future)
    assert error.code() is Code.RESOURCE_EXHAUSTED
    assert error.details() == error.debug_error_string() == "bulkhead is full"
    assert (error.stack, error.policy, error.retry_after) == ("payments", "bulkhead", 0.25)
    assert (error.is_active(), error.running(), error.cancelled(), error.cancel()) == (False,) * 4
    assert error.done()
    assert error.time_remaining() == 0
    assert list(error.initial_metadata()) == []
    assert list(error.trailing_metadata()) == [("grpc-retry-pushback-ms", "250")]


@pytest.mark.parametrize("kind", [AioRefused, AioTimedOut])
def test_under_asyncio_metadata_is_of_the_class_that_grpc_uses_there(kind):
    error = kind("no", code=Code.UNAVAILABLE, retry_after=1.0)

    assert isinstance(error.initial_metadata(), Metadata)
    assert error.trailing_metadata() == Metadata(("grpc-retry-pushback-ms", "1000"))


def test_a_refusal_taken_for_a_future_or_a_stream_raises_itself():
    error = refusal()
    told = []

    error.add_done_callback(told.append)

    assert told == [error]
    assert error.exception() is error
    assert error.add_callback(told.clear) is False
    for take in (error.result, lambda: next(iter(error))):
        with pytest.raises(Refused) as caught:
            take()
        assert caught.value is error
    assert error.traceback() is not None


def test_a_refusal_shows_itself_in_one_line():
    assert str(refusal()) == "RESOURCE_EXHAUSTED: bulkhead is full"
    assert repr(refusal()) == "<Refused RESOURCE_EXHAUSTED: bulkhead is full>"
    assert str(refusal(AioRefused)) == "RESOURCE_EXHAUSTED: bulkhead is full"


def test_a_time_limit_is_deadline_exceeded_unless_told_otherwise():
    assert TimedOut("late").code() is Code.DEADLINE_EXCEEDED
    assert TimedOut("late", code=Code.ABORTED).code() is Code.ABORTED


@pytest.mark.parametrize(
    ("retry_after", "sent"),
    [(0.0, "0"), (0.25, "250"), (0.0104, "11"), (0.0002, "1"), (0.1 + 0.2, "300"), (-1.0, "0")],
)
def test_whoever_waits_as_long_as_told_is_never_too_early(retry_after, sent):
    assert pushback_metadata(retry_after) == (("grpc-retry-pushback-ms", sent),)


def test_nothing_is_sent_when_the_wait_is_not_known():
    assert pushback_metadata(None) == ()
