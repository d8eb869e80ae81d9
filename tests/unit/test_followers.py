"""Streams whose messages are minded one by one, in virtual time."""

import asyncio

import pytest
from grpc.aio import EOF

from ninelives_grpc import Method, Stack, TimedOut, Timeout
from ninelives_grpc.call import Call
from ninelives_grpc.interceptors.aio_follower import AioFollower
from ninelives_grpc.interceptors.follower import Follower
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.messages import limits_of

IDLE = 10.0


class Attempt:
    """What is followed; notes whether it was cancelled."""

    cancelled = False

    def cancel(self):
        self.cancelled = True


@pytest.fixture
def stack(clock, registry):
    return Stack(
        "s", Timeout(3600.0, idle=60.0) + Timeout(600.0, idle=IDLE), clock=clock, registry=registry
    )


@pytest.fixture
def limits(stack, clock):
    execution = Execution(stack.plan, Call(Method("shop.v1.Cart/List"), clock.now()), None)
    execution.start(clock.now())
    return limits_of(execution)


@pytest.fixture
def ended():
    return []


@pytest.fixture
def follower(limits, clock, ended):
    follower = Follower(limits, clock, ended.append)
    yield follower
    follower.stop()


def slowly(clock, seconds, count):
    for number in range(count):
        clock.advance(seconds)
        yield number


def test_the_shortest_of_several_limits_counts(limits):
    assert limits.idle == IDLE


def test_each_message_has_the_whole_time(follower, clock, ended):
    messages = slowly(clock, 0.9 * IDLE, 20)

    assert [follower.take(messages) for _ in range(20)] == list(range(20))
    assert ended == []


def test_one_that_takes_longer_ends_the_stream(follower, clock, ended, stack):
    messages = iter([1])
    follower.take(messages)

    follower.take(slowly(clock, IDLE, 1))

    (error,) = ended
    assert isinstance(error, TimedOut)
    assert (error.stack, error.policy) == ("s", "timeout_2")
    assert stack.policy("timeout_2").state(clock.now())["occurred"] == 1
    with pytest.raises(TimedOut):
        follower.take(iter([2]))


def test_time_that_the_application_takes_between_two_messages_does_not_count(
    follower, clock, ended
):
    messages = iter(range(3))
    follower.take(messages)

    clock.advance(5 * IDLE)
    follower.take(messages)
    clock.advance(5 * IDLE)

    assert follower.take(messages) == 2
    assert ended == []


def test_a_stream_that_is_over_is_not_minded_any_more(follower, clock, ended):
    follower.take(iter([1]))
    follower.stop()

    follower.take(slowly(clock, 5 * IDLE, 1))

    assert ended == []


def test_asyncio_minds_each_message_alike(limits, stack, clock):
    attempt = Attempt()

    async def message(seconds, value):
        # The timer is set where there is something to wait for.
        await asyncio.sleep(0)
        clock.advance(seconds)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return value

    async def main():
        follower = AioFollower(limits, stack, attempt)
        for number in range(5):
            assert await follower.take(message(0.9 * IDLE, number)) == number
            clock.advance(5 * IDLE)
        assert follower.verdict() is None
        with pytest.raises(TimedOut):
            await follower.take(message(IDLE, 5))
        return follower.verdict()

    assert isinstance(asyncio.run(main()), TimedOut)
    assert stack.policy("timeout_2").state(clock.now())["occurred"] == 1


def test_the_end_of_an_asyncio_stream_is_no_message(limits, stack):
    async def end():
        return EOF

    follower = AioFollower(limits, stack, Attempt())

    assert asyncio.run(follower.take(end())) is EOF
    assert limits.taken == 0
