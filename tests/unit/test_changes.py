"""Parameters change while calls are in flight."""

import threading

import pytest

from ninelives_grpc import (
    Bulkhead,
    CircuitBreaker,
    ConfigError,
    RateLimit,
    Retry,
    RevisionError,
    Stack,
    Timeout,
    UnknownNameError,
)
from ninelives_grpc.testing import MemorySink


@pytest.fixture
def sink():
    return MemorySink()


@pytest.fixture
def stack(registry, clock, sink):
    return Stack(
        "s",
        Timeout(2.0) + CircuitBreaker() + Bulkhead(8),
        registry=registry,
        clock=clock,
        sink=sink,
    )


@pytest.fixture
def seconds(stack):
    return stack.parameters["timeout/seconds"]


def test_a_handle_reads_and_changes_one_value(stack, seconds):
    change = seconds.set(3)

    assert (change.path, change.old, change.new, change.revision) == (
        "s/timeout/seconds",
        2.0,
        3.0,
        2,
    )
    assert seconds.get() == 3.0
    assert seconds.revision == 2
    assert repr(seconds) == "<Adaptive s/timeout/seconds = 3.0>"
    assert stack.policy("timeout").policy.margin == 0.01


def test_a_change_is_told_with_who_and_why(seconds, sink, clock):
    clock.advance(5.0)

    seconds.set(3.0, by="anna", reason="too slow")

    (event,) = sink.events
    assert (event.name, event.stack, event.policy, event.at) == (
        "ParameterChanged",
        "s",
        "timeout",
        1005.0,
    )
    assert event.details() == {
        "parameter": "seconds",
        "old": 2.0,
        "new": 3.0,
        "revision": 2,
        "by": "anna",
    }
    assert event.reason == "too slow"
    assert event.why() == "seconds changed from 2.0 to 3.0 by anna: too slow"


@pytest.mark.parametrize("value", ["3", None, 0, 1e9, True])
def test_a_value_that_is_not_allowed_changes_nothing(seconds, sink, value):
    with pytest.raises(ConfigError) as caught:
        seconds.set(value)

    assert str(caught.value) == (
        f"s/timeout/seconds: must be a number from 0.001 to 86400 seconds, not {value!r}"
    )
    assert (seconds.get(), seconds.revision, sink.events) == (2.0, 1, [])


def test_values_that_do_not_go_together_are_refused_at_the_policy(stack):
    with pytest.raises(ConfigError) as caught:
        stack.parameters["circuit_breaker/open_duration"].set(9.0)

    assert str(caught.value) == (
        "s/circuit_breaker: max_open_duration 5 must not be less than open_duration 9"
    )


def test_several_values_change_together_or_not_at_all(stack, sink):
    breaker = stack.policy("circuit_breaker")

    with pytest.raises(ConfigError):
        breaker.change({"minimum_calls": 20, "failure_rate_threshold": 2.0})
    unchanged = breaker.policy.minimum_calls, breaker.revision
    changes = breaker.change({"open_duration": 9.0, "max_open_duration": 10.0})

    assert unchanged == (8, 1)
    assert [change.path for change in changes] == [
        "s/circuit_breaker/open_duration",
        "s/circuit_breaker/max_open_duration",
    ]
    assert [change.revision for change in changes] == [2, 2]
    assert breaker.revision == 2
    assert len(sink.events) == 2


def test_a_revision_that_has_passed_is_refused(seconds):
    seconds.set(3.0, expected_revision=1)

    with pytest.raises(RevisionError) as caught:
        seconds.set(4.0, expected_revision=1)

    assert (caught.value.expected, caught.value.actual) == (1, 2)
    assert str(caught.value) == ("s/timeout is at revision 2, not 1: read it again and decide anew")
    assert seconds.get() == 3.0


def test_a_dry_run_validates_and_changes_nothing(seconds, sink):
    change = seconds.set(3.0, dry_run=True)

    assert (change.old, change.new, change.revision) == (2.0, 3.0, 1)
    assert (seconds.get(), seconds.revision, sink.events) == (2.0, 1, [])
    with pytest.raises(ConfigError):
        seconds.set(-1.0, dry_run=True)
    with pytest.raises(RevisionError):
        seconds.set(3.0, dry_run=True, expected_revision=7)


def test_state_survives_a_change(stack):
    gate = stack.policy("bulkhead")

    stack.call(lambda: stack.parameters["bulkhead/max_concurrent"].set(4))

    assert gate.state(0.0)["acquired"] == 1
    assert gate.in_flight == 0


def test_an_update_depends_on_the_value_before(seconds):
    change = seconds.update(lambda value: value * 2)

    assert (change.old, change.new) == (2.0, 4.0)


def test_an_update_is_done_again_when_another_came_first(seconds):
    tries = []

    def double(value):
        tries.append(value)
        if len(tries) == 1:
            seconds.set(10.0)
        return value * 2

    seconds.update(double)

    assert tries == [2.0, 10.0]
    assert seconds.get() == 20.0


def test_no_update_is_lost_between_threads(stack):
    limit = stack.parameters["bulkhead/max_concurrent"]

    def work():
        for _ in range(100):
            limit.update(lambda value: value + 1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert limit.get() == 808
    assert limit.revision == 801


def test_a_subscriber_hears_of_changes_until_it_ends_that(stack, seconds):
    heard = []
    end = seconds.subscribe(heard.append)

    seconds.set(3.0)
    stack.parameters["timeout/margin"].set(0.5)
    end()
    end()
    seconds.set(4.0)

    assert heard == [3.0]


def test_several_subscribers_are_told_apart(seconds):
    first, second = [], []
    end_first = seconds.subscribe(first.append)
    seconds.subscribe(second.append)

    seconds.set(3.0)
    end_first()
    seconds.set(4.0)

    assert (first, second) == ([3.0], [3.0, 4.0])


def test_the_parameters_of_a_stack_are_a_mapping_by_policy_and_name(stack):
    parameters = stack.parameters

    assert list(parameters)[:2] == ["timeout/seconds", "timeout/idle"]
    assert len(parameters) == len(list(parameters)) == 5 + 17 + 5
    assert "bulkhead/order" in parameters
    assert "bulkhead/colour" not in parameters
    assert parameters.get("bulkhead") is None
    assert parameters["bulkhead/order"].get() == "fifo"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("timeout/secnds", "did you mean timeout/seconds"),
        ("tmeout/seconds", "did you mean timeout/seconds"),
        ("zzz", "there are: bulkhead/max_concurrent, "),
    ],
)
def test_an_unknown_parameter_comes_with_a_hint(stack, path, hint):
    with pytest.raises(UnknownNameError) as caught:
        stack.parameters[path]

    assert hint in str(caught.value)


def test_an_unknown_parameter_of_a_policy_changes_nothing(stack):
    timeout = stack.policy("timeout")

    with pytest.raises(UnknownNameError, match="no parameter of s/timeout named 'secnds'"):
        timeout.change({"seconds": 9.0, "secnds": 1.0})

    assert timeout.policy.seconds == 2.0


def test_an_option_is_no_parameter(registry):
    built = Stack("t", RateLimit(1.0) + Retry(), registry=registry)

    with pytest.raises(UnknownNameError):
        built.policy("rate_limit").change({"scope": "method"})
    with pytest.raises(UnknownNameError):
        built.policy("retry").parameter("name")
