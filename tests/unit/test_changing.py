"""Parameters of several policies changed at once: all of them, or none."""

import threading

import pytest

from ninelives_grpc import (
    Bulkhead,
    CircuitBreaker,
    ConfigError,
    Retry,
    RevisionError,
    Stack,
    Timeout,
    UnknownNameError,
)
from ninelives_grpc.testing import MemorySink


@pytest.fixture
def events(registry):
    sink = MemorySink()
    registry.attach(sink)
    return sink


@pytest.fixture(autouse=True)
def pair(registry, events):  # noqa: ARG001 - it hears of all from the start
    """Two stacks."""
    return [
        Stack(name, Timeout(2.0) + Retry(3) + Bulkhead(4), registry=registry)
        for name in ("search", "payments")
    ]


GOOD = {
    "search/timeout/seconds": 5.0,
    "search/bulkhead/max_concurrent": 9,
    "search/bulkhead/max_queue": 7,
    "payments/retry/max_attempts": 2,
}


def values(registry):
    return {path: registry.parameter(path).get() for path in GOOD}


def test_parameters_of_several_stacks_change_together(registry, events):
    changes = registry.change(GOOD, by="me", reason="why")

    assert values(registry) == GOOD
    assert {change.path: (change.old, change.new, change.revision) for change in changes} == {
        "search/timeout/seconds": (2.0, 5.0, 2),
        "search/bulkhead/max_concurrent": (4, 9, 2),
        "search/bulkhead/max_queue": (0, 7, 2),
        "payments/retry/max_attempts": (3, 2, 2),
    }
    assert [(e.stack, e.parameter, e.by, e.reason) for e in events.events] == [
        ("search", "seconds", "me", "why"),
        ("search", "max_concurrent", "me", "why"),
        ("search", "max_queue", "me", "why"),
        ("payments", "max_attempts", "me", "why"),
    ]


@pytest.mark.parametrize(
    ("bad", "error", "text"),
    [
        ({"payments/retry/max_attempts": 0}, ConfigError, "payments/retry/max_attempts"),
        ({"payments/retry/max_attemps": 2}, UnknownNameError, "did you mean max_attempts"),
        ({"payment/retry/max_attempts": 2}, UnknownNameError, "did you mean payments"),
    ],
)
def test_one_bad_value_and_nothing_changes(registry, pair, events, bad, error, text):
    before = values(registry)

    with pytest.raises(error, match=text):
        registry.change(GOOD | bad)

    assert values(registry) == before
    assert pair[0].policy("timeout").revision == 1
    assert list(events.events) == []


def test_one_policy_at_another_revision_and_nothing_changes(registry):
    before = values(registry)
    registry.parameter("payments/retry/max_attempts").set(4)

    with pytest.raises(RevisionError, match="payments/retry is at revision 2, not 1"):
        registry.change(GOOD, expected_revisions={"search/timeout": 1, "payments/retry": 1})

    assert values(registry) == before | {"payments/retry/max_attempts": 4}


def test_what_comes_first_can_call_it_off(registry, events):
    before, seen = values(registry), []

    def first(changes):
        seen.extend(change.path for change in changes)
        assert values(registry) == before
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk"):
        registry.change(GOOD, first=first)

    assert sorted(seen) == sorted(GOOD)
    assert values(registry) == before
    assert list(events.events) == []
    registry.change(GOOD)  # no lock is left behind


def test_a_dry_run_tells_what_would_change_and_changes_nothing(registry, events):
    before = values(registry)

    changes = registry.change(GOOD, dry_run=True, first=lambda _: pytest.fail("nothing is to come"))

    assert {change.path: change.new for change in changes} == GOOD
    assert {change.revision for change in changes} == {1}
    assert values(registry) == before
    assert list(events.events) == []


def test_what_is_so_already_is_left_alone(registry, events):
    changes = registry.change({"search/timeout/seconds": 2, "search/bulkhead/max_concurrent": 9})

    assert [change.revision for change in changes] == [1, 2]
    assert [event.parameter for event in events.events] == ["max_concurrent"]


def test_two_that_change_the_same_policies_in_another_order_never_wait_for_each_other(registry):
    forwards, backwards = list(GOOD), list(reversed(GOOD))
    start = threading.Barrier(2)

    def change(paths, number):
        start.wait()
        for turn in range(200):
            registry.change(dict.fromkeys(paths, 2 + (turn + number) % 2))

    threads = [
        threading.Thread(target=change, args=arguments, daemon=True)
        for arguments in ((forwards, 0), (backwards, 1))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert not any(thread.is_alive() for thread in threads)
    assert len(set(values(registry).values())) == 1


def test_the_linter_looks_at_values_that_do_not_hold_yet(registry):
    stack = Stack("s", Timeout(2.0) + Retry(1) + CircuitBreaker(), registry=registry)
    nested = Stack("outer", CircuitBreaker(name="around") + stack, registry=registry)
    ((live, inner),) = registry.by_policy({"s/retry/max_attempts": 3})

    found = nested.lint({live.path: live.with_values(inner)})

    assert [finding.rule for finding in found] == ["breaker-outside-retry"]
    assert nested.lint() == []
    assert live.policy.max_attempts == 1


def test_the_linter_looks_at_the_budget_as_it_would_be(registry):
    stack = Stack("s", Timeout(2.0) + Retry(3), registry=registry)
    ((live, inner),) = registry.by_policy({"s/retry_budget/cost": 0})

    found = stack.lint({live.path: live.with_values(inner)})

    assert [finding.rule for finding in found] == ["retries-without-budget"]
    assert stack.lint() == []


def test_who_subscribes_hears_of_each_stack_before_it_is_used(registry):
    heard = []
    unsubscribe = registry.subscribe(
        lambda stack: heard.append((stack.name, stack.parameters["timeout/seconds"].get()))
    )

    first = Stack("first", Timeout(2.0), registry=registry)
    registry.add(first)
    unsubscribe()
    Stack("second", Timeout(2.0), registry=registry)

    assert heard == [("first", 2.0)]


def test_who_subscribes_twice_ends_one_of_both(registry):
    heard = []
    once, _twice = registry.subscribe(heard.append), registry.subscribe(heard.append)

    once()
    first = Stack("first", Timeout(2.0), registry=registry)

    assert heard == [first]


def test_a_policy_that_cannot_adopt_its_values_has_them_and_holds_up_no_other(
    registry, pair, monkeypatch, caplog
):
    def adopt(_old):
        raise RuntimeError("no room")

    monkeypatch.setattr(pair[0].policy("bulkhead"), "adopt", adopt)

    registry.change(GOOD)

    assert values(registry) == GOOD
    assert "search/bulkhead could not fit its state" in caplog.text


def test_a_subscriber_that_raises_keeps_nobody_from_hearing_of_a_change(registry, events, caplog):
    heard = []
    parameter = registry.parameter("search/timeout/seconds")

    def broken(_value):
        raise RuntimeError("not now")

    parameter.subscribe(broken)
    parameter.subscribe(heard.append)

    registry.change(GOOD)

    assert heard == [5.0]
    assert len(events.events) == len(GOOD)
    assert "a subscriber of search/timeout/seconds failed" in caplog.text
