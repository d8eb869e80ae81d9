import asyncio
import contextlib
import threading

import pytest

from ninelives_control import watch as watches
from ninelives_control.errors import Code, CommandError
from ninelives_control.identity import tokens as token_file
from ninelives_control.identity.identity import APPLICATION, Credentials
from ninelives_control.router import MAX_WATCHES
from ninelives_grpc import Retry, Stack
from ninelives_grpc.testing import VirtualClock
from tests.control.desk import Desk

PATH = "shop/retry/max_attempts"


@pytest.fixture
def opened(desk):
    """Open watches that are closed in the end, with an event that is set by their `notify`."""
    with contextlib.ExitStack() as closing:

        def open_one(role="viewer", **arguments):
            woken = threading.Event()
            found = desk.dispatcher.watch(
                arguments, caller=desk.caller(role), transport="desk", notify=woken.set
            )
            closing.callback(found.close)
            return found, woken

        yield open_one


def change(desk, value, path=PATH):
    desk.ask("operator", "set_parameter", path=path, value=value)


def test_a_watch_begins_with_the_state(opened, registry):
    Stack("search", Retry(3), registry=registry)

    everything, _ = opened()
    one, _ = opened(stack="shop")

    assert [state.name for state in everything.first.state] == ["search", "shop"]
    assert [state.name for state in one.first.state] == ["shop"]
    assert (one.first.events, one.first.dropped) == ([], 0)


def test_events_come_as_they_happen(opened, desk):
    watch, woken = opened()
    assert watch.take() == []

    change(desk, 4)
    change(desk, 5)

    assert woken.is_set()
    (told,) = watch.take()
    assert [event.name for event in told.events] == ["ParameterChanged"] * 2
    assert told.events[0].number is None
    assert (told.state, told.dropped) == ([], 0)
    assert watch.take() == []


def test_events_of_other_stacks_are_not_told(opened, desk, registry):
    Stack("search", Retry(3), registry=registry)
    watch, _ = opened(stack="search")

    change(desk, 4)
    assert watch.take() == []
    change(desk, 4, "search/retry/max_attempts")

    (told,) = watch.take()
    assert [event.stack for event in told.events] == ["search"]


def test_a_slow_reader_is_told_how_much_was_lost(opened, desk):
    watch, _ = opened()
    for number in range(1050):
        desk.registry.parameter(PATH).set(number % 2 + 4)

    told = watch.take()

    assert [message.dropped for message in told] == [50] + [0] * 9
    assert sum(len(message.events) for message in told) == 1000
    change(desk, 9)
    assert watch.take()[0].dropped == 0


def test_what_is_not_wanted_takes_no_room(opened, desk, registry):
    Stack("search", Retry(3), registry=registry)
    watch, woken = opened(stack="search")
    severe, _ = opened(severity="error")
    kinds, _ = opened(kinds=["CircuitOpened"])
    for number in range(1001):
        desk.registry.parameter(PATH).set(number % 2 + 4)

    assert [each.take() for each in (watch, severe, kinds)] == [[], [], []]
    assert not woken.is_set()
    assert {figures.dropped for figures in desk.stream.figures()} == {0}


def test_what_became_of_events_is_known_for_each_subscriber(opened, desk):
    slow, _ = opened()
    fast, _ = opened()
    for number in range(1050):
        desk.registry.parameter(PATH).set(number % 2 + 4)
        fast.take()

    figures = [(each.queued, each.delivered, each.dropped) for each in desk.stream.figures()]
    assert figures == [(1000, 0, 50), (0, 1050, 0)]
    slow.close()
    assert desk.stream.dropped == 50


def code_of(desk, caller, **arguments):
    with pytest.raises(CommandError) as caught:
        desk.dispatcher.watch(arguments, caller=caller, transport="desk", notify=lambda: None)
    return caught.value.code


def test_a_watch_that_is_refused_is_audited_once(desk):
    viewer = desk.caller("viewer")

    assert code_of(desk, Credentials()) is Code.UNAUTHENTICATED
    assert code_of(desk, viewer, stack="nothing") is Code.NOT_FOUND
    assert code_of(desk, viewer, stak="shop") is Code.INVALID_ARGUMENT

    assert [(entry.command, entry.reason) for entry in desk.entries()] == [
        ("watch", "unauthenticated"),
        ("watch", "not_found"),
        ("watch", "invalid_argument"),
    ]
    assert desk.stream.subscribers == 0


def test_a_watch_is_audited_where_reading_is(registry, shop, commands, audit, tokens, tokens_path):
    desk = Desk(registry, commands, audit, tokens, tokens_path, audit_reads=True)

    desk.dispatcher.watch(
        {}, caller=desk.caller("viewer"), transport="desk", notify=lambda: None
    ).close()

    assert [(entry.command, entry.status) for entry in desk.entries()] == [("watch", "succeeded")]


def test_there_is_a_limit_to_watches(desk, opened):
    for _ in range(MAX_WATCHES):
        opened()

    assert code_of(desk, desk.caller("viewer")) is Code.UNAVAILABLE
    assert desk.stream.subscribers == MAX_WATCHES
    assert desk.entries()[0].reason == "unavailable"


def test_a_token_that_is_removed_ends_what_it_watches(desk, opened, tokens_path):
    watch, _ = opened("viewer")
    other, _ = opened("operator")

    token_file.remove(tokens_path, "viewer")
    change(desk, 4)

    with pytest.raises(CommandError) as caught:
        watch.take()
    assert caught.value.code is Code.UNAUTHENTICATED
    assert len(other.take()) == 1


def test_a_closed_watch_gets_nothing_and_may_be_closed_again(desk, opened):
    watch, woken = opened()

    watch.close()
    watch.close()
    change(desk, 4)

    assert not woken.is_set()
    assert desk.stream.subscribers == 0


def test_watches_are_told_when_the_control_plane_stops(desk, opened):
    earlier = opened()

    desk.dispatcher.end_watches()

    for watch, woken in (earlier, opened()):
        assert woken.is_set()
        with pytest.raises(CommandError, match="the control plane stops") as caught:
            watch.take()
        assert caught.value.code is Code.UNAVAILABLE


def test_watch_is_no_command_of_the_table(desk):
    with pytest.raises(CommandError) as caught:
        desk.ask("admin", "watch")

    assert caught.value.code is Code.UNKNOWN_COMMAND


async def steps(desk):
    told = watches.follow(desk.dispatcher, {}, caller=APPLICATION, transport="desk")
    first = await anext(told)
    following = asyncio.ensure_future(anext(told))
    await asyncio.to_thread(change, desk, 4)
    second = await following
    await told.aclose()
    return first, second


def test_a_loop_follows_events_from_other_threads(desk):
    first, second = asyncio.run(steps(desk))

    assert [state.name for state in first.state] == ["shop"]
    assert [event.name for event in second.events] == ["ParameterChanged"]
    assert desk.stream.subscribers == 0


def test_a_follower_that_is_refused_is_told(desk):
    async def follow() -> None:
        async for _ in watches.follow(
            desk.dispatcher, {"stack": "nothing"}, caller=APPLICATION, transport="desk"
        ):
            raise AssertionError

    with pytest.raises(CommandError, match="no stack named 'nothing'"):
        asyncio.run(follow())


def test_a_follower_that_is_cancelled_while_it_begins_leaves_nothing(desk, registry):
    began, go_on = threading.Event(), threading.Event()
    clock = VirtualClock()
    Stack("slow", Retry(3), registry=registry, clock=clock)

    def now():
        began.set()
        go_on.wait(10)
        return 1000.0

    clock.now = now

    async def cancel() -> None:
        told = watches.follow(desk.dispatcher, {}, caller=APPLICATION, transport="desk")
        beginning = asyncio.ensure_future(anext(told))
        await asyncio.to_thread(began.wait, 10)
        beginning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await beginning
        go_on.set()

    asyncio.run(cancel())

    assert desk.stream.subscribers == 0


def test_events_after_the_loop_has_ended_are_nobodys_business(desk):
    async def begin():
        told = watches.follow(desk.dispatcher, {}, caller=APPLICATION, transport="desk")
        await anext(told)
        subscription = desk.stream._subscriptions[0]
        await told.aclose()
        return subscription

    subscription = asyncio.run(begin())

    subscription._notify()
