import random

import pytest
from grpc.aio import Metadata

from ninelives_grpc import ConfigError, Method, Priority, prioritize, shield
from ninelives_grpc.call import Call, ServedCall, Side, current_call, serving
from ninelives_grpc.interceptors.attempts import aio_metadata, new_call, request_metadata
from ninelives_grpc.priority import given_rank, with_rank

CLIENT = Method("shop.v1.Cart/Get", side=Side.CLIENT)
SERVER = Method("shop.v1.Cart/Get", side=Side.SERVER)


def metadata(priority=None, level=None):
    pairs = [
        ("x-ninelives-priority", priority),
        ("x-ninelives-level", level),
        ("other", "critical"),
    ]
    return [(key, value) for key, value in pairs if value is not None]


def _rank_in_force():
    """The rank of a call that is made now."""
    call = new_call(CLIENT, 0.0, None, None, b"")
    priority, level = given_rank(call.metadata)
    return None if priority is None else (priority, level)


@pytest.fixture
def serve():
    """Makes the test serve a call with some metadata until it ends."""

    def begin(sent):
        call = Call(SERVER, 0.0, None, sent)
        serving.set(ServedCall(SERVER, None, lambda: 0.0, lambda: False, call))
        return call

    token = serving.set(None)
    yield begin
    serving.reset(token)


@pytest.mark.parametrize(
    ("sent", "rank"),
    [
        (metadata("critical", "7"), (Priority.CRITICAL, 7)),
        (metadata("HIGH", "0"), (Priority.HIGH, 0)),
        (metadata("low"), (Priority.LOW, None)),
        (metadata(None, "99"), (None, 99)),
        (metadata("background", "100"), (Priority.BACKGROUND, 99)),
        (metadata("background", "9" * 1000), (Priority.BACKGROUND, 99)),
    ],
)
def test_class_and_level_are_read_from_metadata(sent, rank):
    assert given_rank(sent) == rank


@pytest.mark.parametrize(
    "sent",
    [
        None,
        (),
        metadata("urgent"),
        metadata(""),
        metadata(b"critical"),
        metadata(None, "-1"),
        metadata(None, "1.5"),
        metadata(None, "high"),
        metadata(None, b"5"),
        metadata(None, ""),
    ],
    ids=repr,
)
def test_a_bad_header_counts_as_none_and_never_as_an_error(sent):
    assert given_rank(sent) == (None, None)
    assert Call(SERVER, 0.0, None, sent).rank[0] is Priority.NORMAL


def test_there_are_five_classes_and_the_first_is_served_longest():
    assert [priority.name for priority in sorted(Priority)] == [
        "CRITICAL",
        "HIGH",
        "NORMAL",
        "LOW",
        "BACKGROUND",
    ]


def test_a_call_without_a_level_gets_one_by_chance_and_keeps_it():
    random.seed(1)
    calls = [Call(SERVER, 0.0, None, metadata("low")) for _ in range(2000)]

    levels = [call.rank[1] for call in calls]

    assert set(levels) == set(range(100))
    assert levels == [call.rank[1] for call in calls]
    assert {call.rank[0] for call in calls} == {Priority.LOW}


def test_a_client_says_the_rank_that_its_call_has_got():
    call = Call(CLIENT, 0.0, None, metadata("low", "high"))

    level = call.rank[1]

    said = [("other", "critical"), ("x-ninelives-priority", "low")]
    assert list(call.metadata) == [*said, ("x-ninelives-level", str(level))]


@pytest.mark.parametrize("kind", [tuple, list, lambda pairs: Metadata(*pairs)])
def test_metadata_says_one_rank_whatever_it_said_before(kind):
    said = with_rank(kind(metadata("low", "3")), (Priority.HIGH, 5))

    assert given_rank(said) == (Priority.HIGH, 5)
    assert len(list(said)) == 3
    assert isinstance(said, Metadata) == isinstance(kind([]), Metadata)


def test_calls_made_inside_have_the_given_rank():
    assert _rank_in_force() is None

    with prioritize(Priority.LOW, 3):
        assert _rank_in_force() == (Priority.LOW, 3)
        with prioritize("critical"):
            rank = _rank_in_force()
            assert rank == _rank_in_force()
        assert _rank_in_force() == (Priority.LOW, 3)

    assert rank[0] is Priority.CRITICAL
    assert _rank_in_force() is None


@pytest.mark.parametrize(
    ("priority", "level", "message"),
    [
        ("urgent", None, "prioritize: priority: must be one of critical, high, normal, low, "),
        ("low", 100, "prioritize: level: must be a whole number from 0 to 99, not 100"),
        ("low", 0.5, "prioritize: level: must be a whole number from 0 to 99, not 0.5"),
    ],
)
def test_a_rank_that_there_is_not_is_named_with_those_there_are(priority, level, message):
    with pytest.raises(ConfigError, match=message), prioritize(priority, level):
        pass


def test_calls_have_the_rank_of_the_call_being_served(serve):
    serve(metadata("high", "7"))

    assert _rank_in_force() == (Priority.HIGH, 7)
    with shield():
        assert _rank_in_force() == (Priority.HIGH, 7)
    with prioritize("background", 1), shield():
        assert _rank_in_force() == (Priority.BACKGROUND, 1)


def test_a_call_that_no_policy_has_ranked_hands_nothing_on(serve):
    call = serve(metadata())

    assert _rank_in_force() is None
    rank = call.rank
    assert _rank_in_force() == rank


def test_who_is_told_a_priority_still_knows_the_call_being_served(serve):
    serve(metadata("low", "2"))
    served = current_call()

    with prioritize("high", 3), prioritize("critical", 4):
        assert current_call() is served
        assert _rank_in_force() == (Priority.CRITICAL, 4)
        with shield():
            assert current_call() is None
            assert _rank_in_force() == (Priority.CRITICAL, 4)

    assert current_call() is served


def test_nothing_is_served_where_only_a_priority_is_said():
    with prioritize("high", 3):
        assert current_call() is None


def test_what_was_said_outside_of_a_handler_does_not_hold_inside(serve):
    with prioritize("critical", 1):
        serve(metadata("low", "2"))

        assert _rank_in_force() == (Priority.LOW, 2)


def test_a_client_call_takes_the_rank_along_unless_it_brings_its_own():
    with prioritize("high", 4):
        bare = new_call(CLIENT, 0.0, None, None, b"")
        other = new_call(CLIENT, 0.0, None, [("k", "v")], b"")
        own = new_call(CLIENT, 0.0, None, metadata("low"), b"")

    assert given_rank(request_metadata(bare)) == (Priority.HIGH, 4)
    assert next(iter(request_metadata(other))) == ("k", "v")
    assert isinstance(aio_metadata(other), Metadata)
    assert given_rank(aio_metadata(other)) == (Priority.HIGH, 4)
    assert request_metadata(own) == metadata("low")
    assert new_call(CLIENT, 0.0, None, None, b"").metadata is None
