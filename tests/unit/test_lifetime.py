import threading

import pytest

from ninelives_grpc import Method, Retry, Stack
from ninelives_grpc.call import Call
from ninelives_grpc.errors import LocalError
from ninelives_grpc.lifetime import Lifetime
from ninelives_grpc.outcome import Code, failed
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.sync import drive
from ninelives_grpc.testing import VirtualClock
from tests.unit.backend import StatusError


def test_who_waits_is_told_of_the_end_once():
    lifetime, told = Lifetime(), []
    lifetime.on_close(lambda: told.append("closed"))

    lifetime.close()
    lifetime.close()

    assert told == ["closed"]
    assert lifetime.closed


def test_who_has_stopped_waiting_is_not_told():
    lifetime, told = Lifetime(), []

    lifetime.on_close(lambda: told.append("closed"))()
    lifetime.close()

    assert told == []


def test_who_comes_too_late_is_told_at_once():
    lifetime, told = Lifetime(), []
    lifetime.close()

    lifetime.on_close(lambda: told.append("closed"))

    assert told == ["closed"]


@pytest.mark.parametrize("when", ["before", "during", "never"])
def test_closing_a_channel_ends_the_wait_between_two_attempts(registry, when):
    lifetime = Lifetime()

    class Closing(VirtualClock):
        def wait(self, woken, until):
            if when == "during":
                lifetime.close()
            super().wait(woken, until)

    clock = Closing()
    retry = Retry(2, initial_backoff=1.0, jitter="none")
    stack = Stack("s", retry, registry=registry, clock=clock)
    call = Call(Method("m"), clock.now(), lifetime=lifetime)
    execution = Execution(stack.plan, call, None)

    def attempt(*_):
        if when == "before":
            lifetime.close()
        return failed(StatusError(), 0.0)

    if when == "never":
        drive(execution, attempt, clock, clock.now())
    else:
        with pytest.raises(LocalError, match="CANCELLED: Channel closed!"):
            drive(execution, attempt, clock, clock.now())

    expected = (Code.UNAVAILABLE, 1001.0) if when == "never" else (Code.CANCELLED, 1000.0)
    assert (execution.outcome.code, clock.now()) == expected
    assert lifetime._waiting == set() or when == "before"


def test_closing_from_another_thread_wakes_the_waiting_one():
    lifetime, woken = Lifetime(), threading.Event()
    lifetime.on_close(woken.set)

    thread = threading.Thread(target=lifetime.close)
    thread.start()

    assert woken.wait(10)
    thread.join()
