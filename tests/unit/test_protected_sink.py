import pytest

from ninelives_grpc import CircuitBreaker, Registry, Retry, Stack
from ninelives_grpc.sinks import FallbackSink, MemorySink, NonBlockingSink, Sink, SinkError
from ninelives_grpc.testing import VirtualClock
from tests.unit.backend import StatusError
from tests.unit.test_sinks import CLOSED, OPENED


class Flaky(Sink):
    def __init__(self, failures):
        self.failures = failures
        self.events = []

    def emit(self, event):
        if self.failures:
            self.failures -= 1
            raise StatusError
        self.events.append(event)


AT_ONCE = {"initial_backoff": 0.0, "jitter": "none"}


def test_a_sink_is_retried_like_a_call():
    flaky = Flaky(2)
    sink = flaky.protected(Retry(3, **AT_ONCE))

    sink.emit(OPENED)

    assert flaky.events == [OPENED]
    assert sink.stack.recorder.totals().retries.total() == 1


def test_a_sink_that_keeps_failing_is_left_alone_for_a_while():
    flaky = Flaky(10)
    sink = flaky.protected(CircuitBreaker(consecutive_failures=2)) | (kept := MemorySink())

    for _ in range(5):
        sink.emit(CLOSED)

    assert flaky.failures == 8
    assert sink.first.dropped == 3
    assert kept.events == [CLOSED] * 5


def test_its_own_events_are_not_told_to_itself():
    flaky, registry = Flaky(1), Registry()
    registry.attach(flaky.protected(Retry(2, **AT_ONCE)))
    stack = Stack("shop", Retry(2), registry=registry, clock=VirtualClock())

    stack.parameters["retry/max_attempts"].set(5)

    assert [event.name for event in flaky.events] == ["ParameterChanged"]
    assert list(registry) == [stack]


def test_the_error_of_a_composition_tells_each_sink_that_failed():
    first, second, third = Flaky(9), Flaky(9), Flaky(9)
    sink = FallbackSink(first + second, third)

    with pytest.raises(SinkError) as caught:
        sink.emit(OPENED)

    assert [failed for failed, _ in caught.value.failures] == [first, second, third]
    assert [type(error) for error in caught.value.errors] == [StatusError] * 3
    assert str(caught.value).startswith("Flaky raised StatusError: as told; Flaky raised")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Flaky(99),
        lambda: Flaky(99) + Flaky(99),
        lambda: Flaky(99) | Flaky(99),
        lambda: Flaky(99).protected(CircuitBreaker(consecutive_failures=1)),
        lambda: NonBlockingSink(Flaky(99)),
    ],
    ids=["plain", "multicast", "fallback", "protected", "non-blocking"],
)
def test_a_sink_that_fails_is_never_felt_by_a_call(make):
    stack = Stack("shop", CircuitBreaker(consecutive_failures=1), registry=Registry(), sink=make())

    with pytest.raises(StatusError):
        stack.call(lambda: (_ for _ in ()).throw(StatusError()))
    stack.policy("circuit_breaker").reset(stack.clock.now())

    assert stack.call(lambda: "answer") == "answer"
    for sink in stack.sinks:
        sink.close()
