import logging

import pytest

from ninelives_grpc import Bulkhead, Registry, Stack, Timeout, UnknownNameError, default_registry
from ninelives_grpc.testing import MemorySink
from tests.unit.alone import names


def stack(name, registry, limit=8):
    return Stack(name, Timeout(2.0) + Bulkhead(limit), registry=registry)


def test_stacks_are_found_by_name(registry):
    search, payments = stack("search", registry), stack("payments", registry)

    assert registry.stack("search") is search
    assert list(registry) == [payments, search]
    assert len(registry) == 2
    assert "search" in registry
    assert "serch" not in registry


def test_policies_and_parameters_are_found_by_path(registry):
    payments = stack("payments", registry)

    assert registry.policy("payments/bulkhead") is payments.policy("bulkhead")
    assert registry.parameter("payments/bulkhead/max_concurrent").get() == 8


@pytest.mark.parametrize(
    ("find", "hint"),
    [
        (lambda registry: registry.stack("payment"), "no stack named 'payment'; did you mean pay"),
        (lambda registry: registry.policy("payments/bulkhed"), "did you mean bulkhead?"),
        (lambda registry: registry.policy("payments"), "there are: bulkhead, timeout"),
        (lambda registry: registry.parameter("payments/bulkhead/x"), "there are: max_concurrent"),
        (lambda registry: registry.parameter("nobody/bulkhead/x"), "no stack named 'nobody'"),
    ],
)
def test_an_unknown_name_comes_with_a_hint(registry, find, hint):
    stack("payments", registry)

    with pytest.raises(UnknownNameError) as caught:
        find(registry)

    assert hint in str(caught.value)


def test_a_second_stack_of_a_name_takes_the_place_of_the_first_and_that_is_logged(registry, caplog):
    stack("payments", registry)

    with caplog.at_level(logging.WARNING):
        second = stack("payments", registry)

    assert registry.stack("payments") is second
    assert "a second stack named 'payments' takes the place of the first" in caplog.text


def test_the_same_stack_twice_is_there_once(registry, caplog):
    sink = MemorySink(routine=True)
    registry.attach(sink)
    payments = stack("payments", registry)

    registry.add(payments)

    assert payments.sinks == (sink,)
    assert caplog.text == ""


def test_a_removed_stack_goes_on_working(registry):
    payments = stack("payments", registry)

    registry.remove("payments")
    registry.remove("payments")

    assert "payments" not in registry
    assert payments.call(lambda: "answer") == "answer"


def test_a_sink_hears_all_stacks_also_those_that_are_still_to_come(registry):
    sink = MemorySink()
    early = stack("early", registry)
    registry.attach(sink)
    late = stack("late", registry)

    for built in (early, late):
        built.parameters["timeout/seconds"].set(3.0)
    registry.detach(sink)
    early.parameters["timeout/seconds"].set(4.0)
    later = stack("later", registry)

    assert [event.stack for event in sink.events] == ["early", "late"]
    assert names(sink) == ["ParameterChanged"] * 2
    assert later.sinks == ()


def test_stacks_go_to_the_default_registry_unless_told_otherwise():
    built = Stack("only in the default registry", Timeout(1.0))

    try:
        assert default_registry.stack(built.name) is built
        assert built.name not in Registry()
    finally:
        default_registry.remove(built.name)
