"""Who comes first where calls contend for the places of a bulkhead."""

import pytest

from ninelives_grpc import Bulkhead, ConfigError, Method, Priority
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import cancelled, succeeded
from ninelives_grpc.policies.gate import PERMIT, Permit, Refusal, Wait
from ninelives_grpc.windows.ranks import RecentRanks
from ninelives_grpc.windows.usage import Usage
from tests.unit.alone import alone

METHOD = Method("shop.v1.Cart/Get")


def call(priority="normal", level=50, tenant=None):
    metadata = [("x-ninelives-priority", priority)]
    metadata += [("x-ninelives-level", str(level))] if level is not None else []
    return Call(METHOD, 0.0, None, metadata + ([("x-tenant", tenant)] if tenant else []))


def busy(max_queue, **settings):
    """A bulkhead whose only place is taken."""
    gate = alone(
        Bulkhead(1, max_queue=max_queue, max_wait=9.0, order="priority", **settings),
    )
    return gate, gate.admit(call("critical", 0), 0.0, None)


def test_a_call_that_matters_more_takes_the_last_place_of_the_queue():
    gate, permit = busy(2)
    important = gate.admit(call("high"), 0.0, None)
    woken = []
    minor = gate.admit(call("background"), 0.0, None)
    minor.wake = lambda: woken.append(minor)

    newcomer = gate.admit(call("critical"), 0.0, None)

    assert isinstance(newcomer, Wait)
    assert woken == [minor]
    assert isinstance(gate.claim(minor, call("background"), 0.0), Refusal)
    assert gate.state(0.0)["queued"] == 2
    gate.settle(permit, succeeded(0.0), 0.0)
    assert gate.claim(newcomer, call("critical"), 0.0) is PERMIT
    assert gate.claim(important, call("high"), 0.0) is important
    assert gate.in_flight == 1


def test_a_place_that_was_taken_away_is_not_given_back():
    gate, permit = busy(1)
    minor = gate.admit(call("background"), 0.0, None)
    newcomer = gate.admit(call("high"), 0.0, None)

    gate.abandon(minor, 0.0)

    assert gate.in_flight == 1
    gate.settle(permit, cancelled(), 0.0)
    gate.settle(gate.claim(newcomer, call("high"), 0.0), cancelled(), 0.0)
    assert (gate.in_flight, gate.state(0.0)["queued"]) == (0, 0)


@pytest.mark.parametrize("newcomer", [call("high"), call("low"), call("high", 51)])
def test_a_full_queue_refuses_what_does_not_matter_more(newcomer):
    gate, _ = busy(1)
    gate.admit(call("high"), 0.0, None)

    assert isinstance(gate.admit(newcomer, 0.0, None), Refusal)
    assert gate.state(0.0)["refused"] == 1


def test_calls_that_come_after_most_are_refused_before_the_queue_is_full():
    gate, _ = busy(10)
    for _ in range(9):
        assert isinstance(gate.admit(call("high"), 0.0, None), Wait)

    assert isinstance(gate.admit(call("low"), 0.0, None), Refusal)
    assert isinstance(gate.admit(call("high"), 0.0, None), Wait)


def test_nobody_is_refused_while_the_queue_is_half_empty():
    gate, _ = busy(10)
    for _ in range(4):
        gate.admit(call("high"), 0.0, None)

    assert isinstance(gate.admit(call("background", 99), 0.0, None), Wait)


def test_calls_of_one_rank_are_never_refused_for_it():
    gate, _ = busy(10)

    assert all(isinstance(gate.admit(call(), 0.0, None), Wait) for _ in range(10))
    assert isinstance(gate.admit(call(), 0.0, None), Refusal)


def test_whoever_has_used_most_waits_longest():
    gate = alone(
        Bulkhead(1, max_queue=4, max_wait=9.0, order="priority", fair_by="metadata:x-tenant")
    )
    for tenant, seconds in (("greedy", 5.0), ("modest", 1.0), ("small", 0.1)):
        permit = gate.admit(call(level=None, tenant=tenant), 0.0, None)
        gate.settle(permit, succeeded(seconds), 0.0)
    taken = gate.admit(call(level=None, tenant="other"), 0.0, None)
    calls = [call(level=None, tenant=tenant) for tenant in ("greedy", "modest", "small")]

    places = [gate.admit(each, 0.0, None) for each in calls]

    assert [each.rank for each in calls] == [
        (Priority.NORMAL, 99),
        (Priority.NORMAL, 24),
        (Priority.NORMAL, 2),
    ]
    gate.settle(taken, succeeded(0.0), 0.0)
    served = [gate.claim(place, each, 0.0) for place, each in zip(places, calls, strict=True)]
    assert [isinstance(verdict, Permit) for verdict in served] == [False, False, True]


def test_a_call_keeps_the_level_that_it_has_brought():
    gate = alone(Bulkhead(1, order="priority", fair_by="metadata:x-tenant"))
    gate.settle(gate.admit(call(tenant="greedy"), 0.0, None), succeeded(5.0), 0.0)
    brought = call(level=7, tenant="greedy")

    gate.admit(brought, 0.0, None)

    assert brought.rank == (Priority.NORMAL, 7)


def test_who_shares_must_be_known():
    with pytest.raises(ConfigError, match=r"fair_by must be stack, method, target, peer"):
        Bulkhead(1, fair_by="tenant")


def test_use_is_compared_with_the_mean():
    usage = Usage(60.0)
    assert usage.relative("a") == 0.0

    usage.add("a", 9.0, 0.0)
    usage.add("b", 3.0, 0.0)

    assert usage.relative("a") == pytest.approx(1.5)
    assert usage.relative("b") == pytest.approx(0.5)
    assert usage.relative("c") == 0.0


@pytest.mark.parametrize("later", [60.0, 1e6])
def test_use_fades(later):
    usage = Usage(60.0)
    usage.add("a", 8.0, 0.0)

    usage.add("b", 4.0, later)

    assert usage.relative("a") == pytest.approx(1.0 if later == 60.0 else 0.0)
    assert usage.relative("b") == pytest.approx(1.0 if later == 60.0 else 2.0)


def test_a_half_life_can_be_changed_and_what_was_used_until_then_stays():
    usage = Usage(60.0)
    usage.add("a", 8.0, 0.0)
    usage.forget_half_in(1.0, 60.0)

    usage.add("b", 4.0, 60.0)
    assert usage.relative("a") == pytest.approx(1.0)

    usage.add("b", 0.0, 80.0)
    usage.add("b", 4.0, 80.0)
    assert usage.relative("a") == pytest.approx(0.0, abs=1e-5)


def test_only_so_many_keys_are_kept():
    usage = Usage(60.0, size=2)
    for key in ("a", "b", "a", "c"):
        usage.add(key, 1.0, 0.0)

    assert usage.relative("b") == 0.0
    assert usage.relative("a") == pytest.approx(2 * 2 / 3)


def test_a_rank_is_compared_with_the_latest_ones():
    ranks = RecentRanks(500, size=4)
    assert ranks.share_before(499) == 0.0

    for number in (499, 0, 10, 10, 20):
        ranks.add(number)

    assert ranks.share_before(0) == 0.0
    assert ranks.share_before(10) == 0.25
    assert ranks.share_before(11) == 0.75
    assert ranks.share_before(499) == 1.0
