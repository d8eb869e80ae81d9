import pytest

from ninelives_grpc.sinks import SinkError, StreamingSink
from tests.unit.test_sinks import CLOSED, OPENED, ROUTINE


def nothing():
    """Take no notice."""


def test_every_subscriber_of_the_moment_gets_an_event():
    stream = StreamingSink()
    early = stream.subscribe(nothing)
    stream.emit(OPENED)
    late = stream.subscribe(nothing)

    stream.emit(CLOSED)

    assert early.take() == [OPENED, CLOSED]
    assert late.take() == [CLOSED]
    assert stream.subscribers == 2


def test_what_was_taken_does_not_come_again():
    stream = StreamingSink()
    subscription = stream.subscribe(nothing)
    stream.emit(OPENED)

    first, second = subscription.take(), subscription.take()

    assert (first, second) == ([OPENED], [])


def test_a_subscriber_is_notified_when_the_first_event_waits_and_not_for_each():
    stream, notified = StreamingSink(), []
    subscription = stream.subscribe(lambda: notified.append(None))

    stream.emit(OPENED)
    stream.emit(OPENED)
    before_taking = len(notified)
    subscription.take()
    stream.emit(OPENED)

    assert (before_taking, len(notified)) == (1, 2)


def test_who_does_not_keep_up_loses_the_oldest_and_that_is_counted():
    stream = StreamingSink()
    subscription = stream.subscribe(nothing, size=2)

    for event in (OPENED, OPENED, CLOSED):
        stream.emit(event)

    assert subscription.dropped == 1
    assert subscription.take() == [OPENED, CLOSED]


def test_a_subscription_of_one_is_notified_each_time():
    stream, notified = StreamingSink(), []
    subscription = stream.subscribe(lambda: notified.append(None), size=1)

    stream.emit(OPENED)
    stream.emit(CLOSED)

    assert len(notified) == 2
    assert subscription.take() == [CLOSED]


@pytest.mark.parametrize("size", [0, -1])
def test_a_subscription_must_have_room(size):
    with pytest.raises(ValueError, match="size must be at least 1"):
        StreamingSink().subscribe(nothing, size=size)


def test_who_has_ended_the_subscription_gets_nothing():
    stream = StreamingSink()
    gone, here = stream.subscribe(nothing), stream.subscribe(nothing)

    gone.close()
    gone.close()
    stream.emit(OPENED)

    assert (gone.take(), here.take()) == ([], [OPENED])
    assert stream.subscribers == 1


def test_routine_events_go_to_those_who_asked():
    stream = StreamingSink(routine=True)
    plain, eager = stream.subscribe(nothing), stream.subscribe(nothing, routine=True)

    stream.emit(ROUTINE)

    assert (plain.take(), eager.take()) == ([], [ROUTINE])


def test_one_that_can_not_be_notified_does_not_keep_the_others_from_their_events():
    def broken():
        raise RuntimeError("Event loop is closed")

    stream = StreamingSink()
    first, second = stream.subscribe(broken), stream.subscribe(nothing)

    with pytest.raises(SinkError, match="Event loop is closed"):
        stream.emit(OPENED)

    assert (first.take(), second.take()) == ([OPENED], [OPENED])
