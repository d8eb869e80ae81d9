"""Who waits for a place, for how long, and who is let in next."""

import asyncio
import threading

import pytest

from ninelives_grpc import AdmissionQueue, Bulkhead, ConfigError, Method, Refused, Respond, Stack
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import Code, Kind, Outcome, cancelled, failed, refused, succeeded
from ninelives_grpc.policies.admission_queue import DEFAULT_WORKERS
from ninelives_grpc.policies.gate import PERMIT, Permit, Refusal
from tests.unit.alone import alone, alone_with_events, names
from tests.unit.backend import StatusError

METHOD = Method("shop.v1.Prices/Get")
CALL = Call(METHOD, 0.0)


def call(priority="normal", tenant=""):
    return Call(METHOD, 0.0, None, (("x-ninelives-priority", priority), ("x-tenant", tenant)))


def busy(policy, *, takes=1.0, **options):
    """Return a gate that knows how long calls take, and has no place free."""
    gate = alone(policy, **options)
    learn(gate, takes)
    for _ in range(gate.limit):
        assert gate.admit(CALL, 0.0, None) is PERMIT
    return gate


def learn(gate, takes, calls=200):
    for _ in range(calls):
        gate.settle(gate.admit(CALL, 0.0, None), succeeded(takes), 0.0)


def line_up(gate, *waiting, now=0.0, deadline=None):
    """Have calls come that are to wait; returns them with their places."""
    placed = [(each, gate.admit(each, now, deadline)) for each in waiting]
    assert not any(isinstance(place, Permit | Refusal) for _, place in placed)
    return placed


def served(gate, placed, now=0.0):
    """End one call after the other, and return who of the waiting is let in, in order."""
    order = []
    for _ in placed:
        gate.settle(PERMIT, cancelled(), now)
        order += [
            number
            for number, (_, place) in enumerate(placed)
            if place.granted and number not in order
        ]
    return order


def test_as_many_run_as_there_are_places_and_the_oldest_follows():
    gate = busy(AdmissionQueue(2))
    placed = line_up(gate, CALL, CALL)

    gate.settle(PERMIT, succeeded(1.0), 0.5)

    assert [gate.claim(place, each, 0.5) for each, place in placed] == [PERMIT, placed[1][1]]
    assert gate.state(0.5)["in_flight"] == 2
    assert gate.state(0.5)["queued"] == 1


def test_a_call_that_could_not_be_in_time_is_refused_on_arrival():
    gate = busy(AdmissionQueue(1, max_queue=10))
    line_up(gate, CALL, CALL, deadline=9.0)

    late = gate.admit(CALL, 0.0, 2.5)
    in_time = gate.admit(CALL, 0.0, 4.0)

    assert isinstance(late, Refusal)
    assert late.code is Code.RESOURCE_EXHAUSTED
    assert late.retry_after == pytest.approx(1.0)
    # It needs 1 s, and keeps a tenth of its time for what is no work.
    assert in_time.until == pytest.approx(2.6, abs=0.1)


def test_a_place_is_given_at_once_however_little_time_is_left():
    gate = alone(AdmissionQueue(1))
    learn(gate, 5.0)

    assert gate.admit(CALL, 0.0, 0.5) is PERMIT


def test_a_call_with_less_time_than_a_call_takes_is_refused_while_others_are():
    gate = busy(AdmissionQueue(2, over_after=5.0), takes=1.0)
    assert isinstance(gate.admit(CALL, 0.0, 0.9), Refusal)
    gate.settle(PERMIT, succeeded(1.0), 1.0)

    hopeless = gate.admit(CALL, 1.0, 1.5)
    entered = gate.enter(1.0)
    has_time = gate.admit(CALL, 1.0, 3.0)

    assert isinstance(hopeless, Refusal)
    assert not entered
    assert has_time is PERMIT
    gate.settle(PERMIT, succeeded(1.0), 1.0)
    assert gate.admit(CALL, 9.0, 9.5) is PERMIT


def test_a_server_that_was_slow_once_finds_out_that_it_is_quick_however_many_calls_come():
    gate = busy(AdmissionQueue(4, over_after=0.5), takes=5.0)
    assert isinstance(gate.admit(CALL, 0.0, 1.0), Refusal)
    for _ in range(4):
        gate.settle(PERMIT, cancelled(), 0.0)

    served = 0
    for n in range(100):
        verdict = gate.admit(CALL, n / 10, n / 10 + 1.0)
        if verdict is PERMIT:
            served += 1
            gate.settle(PERMIT, succeeded(0.02), n / 10 + 0.02)

    assert served == 100


def test_while_half_of_the_places_are_free_a_call_may_always_show_what_it_takes():
    gate = busy(AdmissionQueue(2, over_after=5.0), takes=1.0)
    assert isinstance(gate.admit(CALL, 0.0, 0.9), Refusal)
    gate.settle(PERMIT, succeeded(1.0), 1.0)
    gate.settle(PERMIT, succeeded(1.0), 1.0)

    assert gate.admit(CALL, 1.0, 1.5) is PERMIT
    assert isinstance(gate.admit(CALL, 1.0, 1.5), Refusal)


def test_a_call_whose_latest_start_has_passed_is_thrown_out_and_never_started():
    gate = busy(AdmissionQueue(1, over_after=100.0), takes=0.5)
    ((first, early), (second, later)) = line_up(gate, CALL, CALL, deadline=2.0)
    woken = []
    early.wake = lambda: woken.append("early")

    gate.settle(PERMIT, succeeded(0.5), early.until)

    assert woken == ["early"]
    assert isinstance(gate.claim(early, first, early.until), Refusal)
    assert isinstance(gate.claim(later, second, early.until), Refusal)
    assert gate.state(0.0)["in_flight"] == 0


def test_without_a_deadline_a_call_waits_for_as_long_as_is_said():
    gate = busy(AdmissionQueue(1, default_wait=3.0), takes=50.0)

    ((_, place),) = line_up(gate, CALL)

    assert place.until == 3.0


def test_a_class_is_served_while_somebody_waits_in_it_before_the_next_one_is():
    gate = busy(AdmissionQueue(1, default_wait=60.0), takes=0.01)
    ranks = ["background", "normal", "critical", "normal", "high", "low"]
    placed = line_up(gate, *map(call, ranks))

    assert [ranks[number] for number in served(gate, placed)] == [
        "critical", "high", "normal", "normal", "low", "background",
    ]  # fmt: skip


def test_tenants_of_a_class_are_served_in_turns():
    policy = AdmissionQueue(1, default_wait=60.0, fair_by="metadata:x-tenant")
    gate = busy(policy, takes=0.01)
    tenants = ["noisy"] * 4 + ["a", "b", "a"]
    placed = line_up(gate, *(call(tenant=tenant) for tenant in tenants))

    order = [tenants[number] for number in served(gate, placed)]

    assert order == ["noisy", "a", "b", "noisy", "a", "noisy", "noisy"]


def test_a_tenant_does_not_wait_for_all_that_another_has_waiting():
    policy = AdmissionQueue(1, max_queue=100, fair_by="metadata:x-tenant")
    gate = busy(policy, takes=0.1)
    line_up(gate, *[call(tenant="noisy")] * 20, deadline=9.0)

    # Twenty wait for 2 s, but it comes second.
    assert not isinstance(gate.admit(call(tenant="modest"), 0.0, 0.5), Refusal)
    assert isinstance(gate.admit(call(tenant="noisy"), 0.0, 0.5), Refusal)


def test_a_line_that_grows_for_a_deadline_is_served_from_its_end_and_lets_few_in():
    gate = busy(AdmissionQueue(4, max_queue=100), takes=0.1)
    old = line_up(gate, *[CALL] * 5, deadline=1.0)
    ((_, young),) = line_up(gate, CALL, now=0.5, deadline=9.0)
    assert gate.state(0.79)["over"] is False

    # The mean of the deadlines, which is about 2.2 s by now, is over.
    verdict = gate.admit(CALL, 3.0, 10.0)
    assert all(place.ready and not place.granted for _, place in old)
    assert verdict.until > 3.0
    assert not young.ready


def test_calls_that_bring_no_deadline_do_not_change_what_a_deadline_is():
    gate = busy(AdmissionQueue(4, default_wait=60.0), takes=0.1)
    line_up(gate, *[CALL] * 3, deadline=1.0)
    line_up(gate, *[CALL] * 2)
    line_up(gate, CALL, now=0.3)

    assert [gate.state(now)["over"] for now in (0.79, 1.0)] == [False, True]


def test_a_few_calls_that_bring_hours_do_not_make_a_deadline_of_hours():
    gate = busy(AdmissionQueue(4, max_queue=1000), takes=0.001)
    line_up(gate, *[CALL] * 95, deadline=1.0)
    line_up(gate, *[CALL] * 5, deadline=36_000.0)
    line_up(gate, CALL, now=0.6, deadline=1.6)

    assert [gate.state(now)["over"] for now in (0.9, 1.5)] == [False, True]


def test_where_no_call_brings_a_deadline_it_is_the_wait_without_one():
    gate = busy(AdmissionQueue(4, default_wait=2.0), takes=0.1)
    line_up(gate, *[CALL] * 3)

    assert [gate.state(now)["over"] for now in (1.9, 2.0)] == [False, True]


def test_a_deadline_that_has_passed_long_ago_counts_as_none_left():
    gate = busy(AdmissionQueue(1), takes=0.1)

    assert isinstance(gate.admit(CALL, 0.0, -3600.0), Refusal)
    line_up(gate, *[CALL] * 2, deadline=1.0)

    assert gate.state(0.1)["over"] is False


def test_after_a_burst_the_oldest_is_served_also_when_it_takes_longer_than_a_deadline():
    gate = busy(AdmissionQueue(1, over_after=0.5), takes=0.1)
    placed = line_up(gate, *[CALL] * 6, deadline=1.0)

    for end in (0.1, 0.2, 0.3, 0.4, 0.5):
        gate.settle(PERMIT, succeeded(0.1), end)

    assert [place.granted for _, place in placed] == [True] * 5 + [False]
    assert gate.state(0.5)["over"] is False


def over_line():
    """Return a gate with a line that has not been empty for half a second, and grows."""
    gate = busy(AdmissionQueue(4, over_after=0.5, max_queue=100), takes=0.1)
    placed = line_up(gate, *[CALL] * 5, deadline=9.0)
    for _ in range(4):
        gate.settle(PERMIT, succeeded(0.1), 0.4)
    placed += line_up(gate, *[CALL] * 7, now=0.4, deadline=9.0)
    assert gate.state(0.5)["over"] is True
    return gate, placed


def test_the_newest_is_served_first_when_more_come_than_can_be_served():
    gate, placed = over_line()

    gate.settle(PERMIT, succeeded(0.1), 0.5)

    assert [place.granted for _, place in placed] == [True] * 4 + [False] * 7 + [True]


def test_then_only_so_many_may_wait_as_are_served_within_a_moment():
    gate, _ = over_line()

    # Eight wait, for 200 ms; half a service time is 50 ms.
    assert isinstance(gate.admit(CALL, 0.5, 9.0), Refusal)
    for _ in range(7):
        gate.settle(PERMIT, succeeded(0.1), 0.5)
    let_in = gate.admit(CALL, 0.5, 9.0)
    assert let_in.until == pytest.approx(0.55)


def test_on_arrival_it_is_clear_that_there_is_no_chance_in_such_a_line():
    gate, placed = over_line()

    sure = gate.would_refuse(CALL, 0.5)
    matters_more = gate.would_refuse(call("high"), 0.5)
    for _ in placed:
        gate.settle(PERMIT, succeeded(0.1), 0.5)

    assert (sure, matters_more) == (True, False)
    assert not gate.keyed


@pytest.mark.parametrize("scope", ["peer", lambda _: "somebody"])
def test_on_arrival_nothing_is_clear_where_it_is_not_known_whose_call_it_is(scope):
    gate = busy(AdmissionQueue(1, over_after=0.5, fair_by=scope), takes=1.0)
    each = Call(METHOD, 0.0, None, (), None, None, lambda: "ipv4:10.0.0.1:80")
    line_up(gate, each, each, deadline=99.0)

    assert gate.state(1.0)["over"] is True
    assert gate.would_refuse(Call(METHOD, 1.0), 1.0) is False


def test_a_line_that_was_empty_is_served_from_its_begin_again():
    gate, placed = over_line()
    for _ in range(20):
        gate.settle(PERMIT, succeeded(0.1), 0.5)

    assert gate.state(0.5)["over"] is False
    assert all(place.granted for _, place in placed)


def test_a_full_queue_gives_the_place_of_the_least_important_to_one_that_matters_more():
    gate, sink = alone_with_events(AdmissionQueue(1, max_queue=2, default_wait=60.0))
    gate.admit(CALL, 0.0, None)
    ((low, lost), (_, kept)) = line_up(gate, call("low"), call("normal"))

    ((_, place),) = line_up(gate, call("high"))

    assert isinstance(gate.claim(lost, low, 0.0), Refusal)
    assert not kept.ready
    assert not place.ready
    assert isinstance(gate.admit(call("background"), 0.0, None), Refusal)
    assert [event.reason for event in sink.events if event.refuses] == ["displaced", "queue_full"]


def test_a_full_queue_gives_the_place_of_who_has_more_waiting_to_one_who_has_less():
    policy = AdmissionQueue(1, max_queue=3, default_wait=60.0, fair_by="metadata:x-tenant")
    gate = busy(policy, takes=0.01)
    placed = line_up(gate, *[call(tenant="noisy")] * 3)

    line_up(gate, call(tenant="modest"))

    assert [place.ready for _, place in placed] == [False, False, True]
    assert isinstance(gate.admit(call(tenant="noisy"), 0.0, None), Refusal)


def test_whoever_has_most_waiting_now_gives_way_also_when_another_had_more():
    policy = AdmissionQueue(1, max_queue=5, default_wait=60.0, fair_by="metadata:x-tenant")
    gate = busy(policy, takes=0.01)
    placed = line_up(gate, *(call(tenant=tenant) for tenant in "aaabb"))
    for _, place in placed[:2]:
        gate.abandon(place, 0.0)
    line_up(gate, call(tenant="c"), call(tenant="d"))

    line_up(gate, call(tenant="e"))

    assert [place.ready for _, place in placed[2:]] == [False, False, True]


def test_nobody_waits_where_nobody_may():
    gate = busy(AdmissionQueue(1, max_queue=0))

    assert isinstance(gate.admit(CALL, 0.0, None), Refusal)


def test_who_leaves_passes_on_what_was_granted():
    gate = busy(AdmissionQueue(1))
    ((_, first), (second, place)) = line_up(gate, CALL, CALL)
    gate.settle(PERMIT, succeeded(1.0), 0.0)
    assert first.granted

    gate.abandon(first, 0.0)

    assert gate.claim(place, second, 0.0) is PERMIT
    assert gate.in_flight == 1


def test_who_leaves_the_line_is_not_served():
    gate = busy(AdmissionQueue(1))
    ((_, first), (second, place)) = line_up(gate, CALL, CALL)

    gate.abandon(first, 0.0)
    gate.settle(PERMIT, succeeded(1.0), 0.0)

    assert gate.claim(place, second, 0.0) is PERMIT
    assert gate.state(0.0)["queued"] == 0


def test_growing_lets_waiters_in_and_shrinking_lets_the_excess_drain():
    gate = busy(AdmissionQueue(1))
    placed = line_up(gate, CALL, CALL)

    gate.parameter("width").set(3)
    assert all(place.granted for _, place in placed)
    gate.parameter("width").set(1)
    ((_, waits),) = line_up(gate, CALL)
    gate.settle(PERMIT, succeeded(1.0), 0.0)
    gate.settle(PERMIT, succeeded(1.0), 0.0)

    assert not waits.ready
    gate.settle(PERMIT, succeeded(1.0), 0.0)
    assert waits.granted


def test_the_width_is_that_of_the_workers_unless_it_is_less():
    gate = alone(AdmissionQueue())
    limits = [gate.limit]
    gate.add_workers(4)
    limits.append(gate.limit)
    gate.parameter("width").set(9)
    limits.append(gate.limit)
    gate.parameter("width").set(2)
    limits.append(gate.limit)

    assert limits == [DEFAULT_WORKERS, 4, 4, 2]


@pytest.mark.parametrize(
    "outcome",
    [cancelled(9.0), refused(Refusal("other", "full"))],
    ids=["cancelled", "refused further in"],
)
def test_what_was_not_served_to_its_end_says_nothing_of_what_calls_take(outcome):
    gate = alone(AdmissionQueue())
    learn(gate, 1.0)

    gate.settle(gate.admit(CALL, 0.0, None), outcome, 0.0)

    assert gate.state(0.0)["service_time"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "outcome",
    [failed(StatusError(), 2.0), Outcome(Kind.IGNORED, Code.RESOURCE_EXHAUSTED, 2.0)],
    ids=["failed", "overload"],
)
def test_what_failed_has_taken_its_time(outcome):
    gate = alone(AdmissionQueue(weight=0.5))
    learn(gate, 1.0)

    gate.settle(gate.admit(CALL, 0.0, None), outcome, 0.0)

    assert gate.state(0.0)["service_time"] == pytest.approx(1.5)


def test_whoever_would_ask_for_nobody_is_told_so():
    with pytest.raises(ConfigError, match="fair_by must be stack, method, target, peer"):
        AdmissionQueue(fair_by="tenant")
    with pytest.raises(ConfigError, match="width"):
        AdmissionQueue(0)


def test_a_function_waits_for_its_turn_in_a_thread(registry):
    stack = Stack("s", AdmissionQueue(1, default_wait=60.0), registry=registry)
    begun, go_on = threading.Event(), threading.Event()
    first = threading.Thread(target=stack.call, args=(lambda: (begun.set(), go_on.wait(10)),))
    first.start()
    begun.wait(10)
    second = threading.Thread(target=stack.call, args=(lambda: None,))
    second.start()
    gate = stack.policy("admission_queue")
    while not gate.state(0.0)["queued"]:
        threading.Event().wait(0.001)

    go_on.set()

    first.join(10)
    second.join(10)
    assert gate.state(0.0)["acquired"] == 2
    assert gate.in_flight == 0


def test_a_coroutine_that_is_cancelled_while_it_waits_leaves_nothing(registry):
    stack = Stack("s", AdmissionQueue(1, default_wait=60.0), registry=registry)
    gate = stack.policy("admission_queue")

    async def scene():
        go_on = asyncio.Event()
        first = asyncio.create_task(stack.acall(go_on.wait))
        waiting = [asyncio.create_task(stack.acall(go_on.wait)) for _ in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert gate.state(0.0)["queued"] == 3
        waiting[1].cancel()
        await asyncio.wait([waiting[1]])
        go_on.set()
        await asyncio.gather(first, waiting[0], waiting[2])

    asyncio.run(scene())

    state = gate.state(0.0)
    assert (state["in_flight"], state["queued"], state["acquired"]) == (0, 0, 3)


def test_a_refusal_is_answered_by_the_other_side_of_a_fallback(registry):
    queue = AdmissionQueue(1, max_queue=0) | Respond("instead")
    stack = Stack("s", queue, registry=registry)

    assert stack.call(lambda: stack.call(lambda: "nothing")) == "instead"


def test_a_refusal_says_who_and_when_to_come_back(registry):
    stack = Stack("s", AdmissionQueue(1, max_queue=0) + Bulkhead(9), registry=registry)
    stack.call(lambda: None)

    with pytest.raises(Refused, match="admission queue s/admission_queue: the queue is full") as no:
        stack.call(lambda: stack.call(lambda: None))

    assert no.value.policy == "admission_queue"
    assert no.value.retry_after is not None


def test_before_the_first_call_has_ended_nobody_is_told_to_come_back_at_once():
    gate = alone(AdmissionQueue(1, max_queue=0))
    gate.admit(CALL, 0.0, None)

    assert gate.admit(CALL, 0.0, None).retry_after is None


def test_nobody_is_told_to_come_back_to_a_server_that_shuts_down():
    gate = alone(AdmissionQueue(1))
    learn(gate, 1.0)

    assert gate.shut(CALL, 0.0).retry_after is None


def test_a_key_that_is_none_fails_its_call_and_who_is_late_is_told_all_the_same():
    keys = ["good", ["bad"]]
    gate = busy(AdmissionQueue(1, fair_by=lambda _: keys.pop(0)), takes=0.1)
    place = gate.admit(Call(METHOD, 0.0), 0.0, 1.0)
    woken = []
    place.wake = lambda: woken.append("late")

    with pytest.raises(TypeError):
        gate.admit(Call(METHOD, 9.0), 9.0, 10.0)

    assert woken == ["late"]


def test_events_tell_who_waits_and_who_is_let_in():
    gate, sink = alone_with_events(AdmissionQueue(1))
    gate.admit(CALL, 0.0, None)
    ((_, place),) = line_up(gate, CALL)
    gate.settle(PERMIT, succeeded(1.0), 0.5)
    gate.claim(place, CALL, 0.5)

    assert names(sink) == ["AdmissionAcquired", "AdmissionQueued", "AdmissionAcquired"]
