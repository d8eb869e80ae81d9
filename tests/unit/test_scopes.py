"""Whom policies keep apart."""

import pytest

from ninelives_grpc import CircuitBreaker, Method, RateLimit
from ninelives_grpc.call import Call
from ninelives_grpc.policies.gate import Permit, Refusal
from ninelives_grpc.policies.scope import key_function, scope_problem
from tests.unit.alone import alone, alone_with_events, names
from tests.unit.breaker import bad, feed


def call_of(method="s.v1.S/A", metadata=None, peer=None):
    return Call(Method(method), 0.0, None, metadata, peer=peer)


ANNA, BERT = ([("tenant", "anna")], [("tenant", "bert")])


@pytest.mark.parametrize(
    ("scope", "call", "key"),
    [
        ("method", call_of("s.v1.S/A"), "s.v1.S/A"),
        ("target", Call(Method("s.v1.S/A", target="shop:443"), 0.0), "shop:443"),
        ("target", call_of(), ""),
        ("peer", call_of(peer=lambda: "ipv4:10.0.0.1:5000"), "ipv4:10.0.0.1"),
        ("peer", call_of(peer=lambda: "ipv6:%5B::1%5D:5000"), "ipv6:%5B::1%5D"),
        ("peer", call_of(peer=lambda: "unix:"), "unix:"),
        ("peer", call_of(), ""),
        ("metadata:tenant", call_of(metadata=ANNA), "anna"),
        ("metadata:Tenant", call_of(metadata=ANNA), "anna"),
        ("metadata:tenant-bin", call_of(metadata=[("tenant-bin", b"\x01\xff")]), "01ff"),
        ("metadata:tenant", call_of(metadata=[("other", "x")]), ""),
        ("metadata:tenant", call_of(), ""),
        (lambda call: call.method.name[-1], call_of("s.v1.S/A"), "A"),
    ],
)
def test_a_scope_finds_the_key_of_a_call(scope, call, key):
    assert key_function(scope)(call) == key


def test_a_stack_wide_scope_has_no_keys():
    assert key_function("stack") is None


@pytest.mark.parametrize("scope", ["tenant", "metadata:", "", 3, None, ["method"]])
def test_any_other_scope_is_a_problem(scope):
    assert scope_problem(scope) == (
        f"scope must be stack, method, target, peer, metadata:NAME, or a function of the call,"
        f" not {scope!r}"
    )


@pytest.mark.parametrize("scope", ["stack", "method", "peer", "metadata:tenant", str])
def test_what_is_allowed_is_no_problem(scope):
    assert scope_problem(scope) == ""


def test_each_method_has_a_circuit_of_its_own():
    gate, sink = alone_with_events(CircuitBreaker(scope="method"))

    feed(gate, bad(100), call=call_of("s.v1.S/A"))

    refusal = gate.admit(call_of("s.v1.S/A"), 0.1, None)
    assert isinstance(refusal, Refusal)
    assert "circuit stack/circuit_breaker for s.v1.S/A is open" in refusal.details
    assert isinstance(gate.admit(call_of("s.v1.S/B"), 0.1, None), Permit)
    assert {event.key for event in sink.events} == {"s.v1.S/A"}


def test_the_state_of_many_circuits_is_counted():
    gate = alone(CircuitBreaker(scope="metadata:tenant"))
    feed(gate, bad(100), call=call_of(metadata=ANNA))
    feed(gate, bad(1), call=call_of(metadata=BERT))

    state = gate.state(0.1)

    assert state == {
        "mode": "auto",
        "refused": 92,
        "keys": 2,
        "closed": 1,
        "open": 1,
        "half_open": 0,
    }
    assert {key: circuit["state"] for key, circuit in gate.circuits(0.1).items()} == {
        "anna": "open",
        "bert": "closed",
    }


def test_circuits_are_reset_one_by_one_or_all_together():
    gate, sink = alone_with_events(CircuitBreaker(scope="metadata:tenant"))
    for metadata in (ANNA, BERT):
        feed(gate, bad(100), call=call_of(metadata=metadata))

    one = gate.reset(0.1, key="anna")
    after_one = gate.state(0.1)
    none = gate.reset(0.1, key="nobody")
    both = gate.reset(0.1)

    assert (one, none, both) == (1, 0, 2)
    assert (after_one["closed"], after_one["open"]) == (1, 1)
    assert gate.state(0.1)["open"] == 0
    assert names(sink).count("CircuitReset") == 3


def test_the_circuit_longest_unused_is_forgotten():
    gate = alone(CircuitBreaker(scope="method", max_keys=2))

    for name in ("s.v1.S/A", "s.v1.S/B", "s.v1.S/A", "s.v1.S/C"):
        gate.admit(call_of(name), 0.0, None)

    assert set(gate.circuits(0.0)) == {"s.v1.S/A", "s.v1.S/C"}


def test_a_call_whose_circuit_was_forgotten_still_ends_well():
    gate = alone(CircuitBreaker(scope="method", max_keys=1))
    permit = gate.admit(call_of("s.v1.S/A"), 0.0, None)
    gate.admit(call_of("s.v1.S/B"), 0.0, None)

    gate.settle(permit, bad()[0], 0.0)

    assert gate.circuits(0.0)["s.v1.S/B"]["calls"] == 0


@pytest.mark.parametrize(
    "policy", [CircuitBreaker(scope="method"), RateLimit(1, scope="method")], ids=repr
)
def test_fewer_keys_are_kept_as_soon_as_told(policy):
    gate = alone(policy)
    for n in range(10):
        gate.admit(call_of(f"s.v1.S/{n}"), 0.0, None)

    gate.change({"max_keys": 3})

    assert gate.state(0.0)["keys"] == 3


def test_each_key_has_a_rate_of_its_own():
    gate = alone(RateLimit(1.0, scope="metadata:tenant"))

    first = [gate.admit(call_of(metadata=metadata), 0.0, None) for metadata in (ANNA, BERT)]
    second = gate.admit(call_of(metadata=ANNA), 0.5, None)

    assert all(isinstance(verdict, Permit) for verdict in first)
    assert isinstance(second, Refusal)
    assert second.details.endswith("is used up for 'anna'")


def test_a_forgotten_key_starts_with_a_full_burst():
    gate = alone(RateLimit(1.0, 3.0, scope="method", max_keys=1))
    for _ in range(3):
        gate.admit(call_of("s.v1.S/A"), 0.0, None)

    gate.admit(call_of("s.v1.S/B"), 0.0, None)

    assert isinstance(gate.admit(call_of("s.v1.S/A"), 0.0, None), Permit)
