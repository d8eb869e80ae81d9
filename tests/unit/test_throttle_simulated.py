"""Clients that throttle themselves leave a server time for work, where others keep it refusing."""

import random
from heapq import heapify, heappop, heappush

from ninelives_grpc import Kind, Method, Outcome, Throttle
from ninelives_grpc.call import Call, Side
from ninelives_grpc.outcome import Code, succeeded

from .alone import alone

WORKERS = 4
SERVICE = 0.002
REFUSAL = 0.0002
CAPACITY = WORKERS / SERVICE
CLIENTS = 20
OVERLOADED = 4.0
METHOD = Method("shop.v1.Prices/Get", side=Side.CLIENT)
REFUSED = Outcome(Kind.IGNORED, Code.RESOURCE_EXHAUSTED, REFUSAL)


def answers(policy, seconds):
    """Return when a server answers, of which ten times its capacity is asked, and later half.

    It runs twice as many calls as it has workers and refuses the rest, which costs it a tenth of
    the work of a call.
    """
    chance = random.Random(1)
    random.seed(1)
    gates = [alone(policy()) for _ in range(CLIENTS)]
    workers, ends, found, running, now = [0.0] * WORKERS, [], [], 0, 0.0
    heapify(workers)
    for number in range(1_000_000):
        now += chance.expovariate(CAPACITY * (10.0 if now < OVERLOADED else 0.5))
        while ends and ends[0][0] <= now:
            end, _, gate, permit, outcome = heappop(ends)
            running -= outcome is not REFUSED
            gate.settle(permit, outcome, end)
        if now >= seconds:
            return found
        gate = chance.choice(gates)
        permit = gate.admit(Call(METHOD, now), now, None)
        if not permit.admitted:
            continue
        start, outcome = max(now, heappop(workers)), REFUSED
        end = start + REFUSAL
        if running < 2 * WORKERS:
            running += 1
            end = start + chance.expovariate(1.0 / SERVICE)
            outcome = succeeded(end - now)
            found.append(end)
        heappush(workers, end)
        heappush(ends, (end, number, gate, permit, outcome))
    raise AssertionError


def goodput(found, begin, end, rate):
    return sum(begin <= at < end for at in found) / (end - begin) / rate


def test_a_server_of_which_ten_times_too_much_is_asked_is_kept_busy_with_work():
    found = answers(Throttle, 7.0)

    assert goodput(found, 2.0, OVERLOADED, CAPACITY) > 0.9
    assert goodput(found, OVERLOADED + 2.0, 7.0, CAPACITY / 2) > 0.95


def test_without_a_throttle_it_is_busy_refusing():
    found = answers(lambda: Throttle(min_fraction=1.0), OVERLOADED)

    assert goodput(found, 2.0, OVERLOADED, CAPACITY) < 0.5


def test_by_the_formula_of_the_sre_book_it_is_not_back_for_long():
    found = answers(lambda: Throttle(algorithm="sre"), 7.0)

    assert goodput(found, 2.0, OVERLOADED, CAPACITY) > 0.6
    assert goodput(found, OVERLOADED + 2.0, 7.0, CAPACITY / 2) < 0.8
