"""How much one caller may ask, and what stands in the audit of those who ask for more."""

import asyncio
import json
import time

import pytest

from ninelives_control import Code, CommandError, Context, Effect, Limits
from ninelives_control.command import command
from ninelives_control.identity.identity import APPLICATION, Credentials
from ninelives_control.threads import in_thread
from ninelives_grpc import ConfigError
from ninelives_grpc.testing import VirtualClock
from tests.control import added
from tests.control.desk import Desk

FEW = Limits(
    commands_per_second=2,
    burst=3,
    changes_per_second=1,
    changes_burst=2,
    unknown_per_second=1,
    unknown_burst=2,
)


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def desk(registry, shop, commands, audit, tokens, tokens_path, clock):
    desk = Desk(
        registry, commands, audit, tokens, tokens_path, clock=clock, limits=FEW, anonymous=True
    )
    yield desk
    desk.close()


def ask(desk, times, role="viewer", caller=None):
    """Ask so many times, and return the errors."""
    errors = []
    for _ in range(times):
        try:
            desk.dispatcher.execute(
                "list_stacks", {}, caller=caller or desk.caller(role), transport="desk"
            )
        except CommandError as error:
            errors.append(error)
    return errors


def stranger(host):
    return Credentials(token="ninelives_nobody", peer=f"{host}:4711")


def test_who_asks_too_often_is_told_how_long_to_wait_and_served_then(desk, clock):
    errors = ask(desk, 5)

    assert [error.code for error in errors] == [Code.RATE_LIMITED] * 2
    assert errors[0].message == "viewer may issue 2 commands a second; try again in 0.5 s"
    assert errors[0].retry_after == pytest.approx(0.5)

    clock.advance(0.5)
    assert [len(ask(desk, 1)), len(ask(desk, 1))] == [0, 1]


def test_one_who_asks_too_often_takes_nothing_from_others(desk):
    ask(desk, 100)

    assert ask(desk, 3, "operator") == []


def test_the_application_is_not_limited(desk):
    assert ask(desk, 100, caller=APPLICATION) == []


def test_a_lease_ends_though_its_holder_asks_too_often(desk, clock, shop):
    path = "shop/bulkhead/max_concurrent"
    desk.ask("operator", "set_parameter", path=path, value=9, lease=60.0)
    ask(desk, 10, "operator")

    desk.dispatcher.end_leases()

    assert shop.parameters["bulkhead/max_concurrent"].get() == 4


def test_changes_are_limited_by_themselves(desk, shop):
    path = "shop/bulkhead/max_concurrent"
    for value in (5, 6):
        desk.ask("operator", "set_parameter", path=path, value=value)

    with pytest.raises(CommandError, match="operator may issue 1 changes a second") as caught:
        desk.ask("operator", "set_parameter", path=path, value=7)

    assert caught.value.code is Code.RATE_LIMITED
    assert shop.parameters["bulkhead/max_concurrent"].get() == 6
    assert desk.entries()[-1].reason == "rate_limited"


def test_what_is_not_valid_counts_as_well(desk):
    for _ in range(3):
        with pytest.raises(CommandError):
            desk.ask("viewer", "no_such_command")

    assert [error.code for error in ask(desk, 1)] == [Code.RATE_LIMITED]


def test_unknown_tokens_are_counted_by_the_host_whatever_the_port(desk):
    codes = [
        error.code
        for port in range(4)
        for error in ask(desk, 1, caller=Credentials(token="ninelives_x", peer=f"10.0.0.1:{port}"))
    ]

    assert codes == [Code.UNAUTHENTICATED] * 2 + [Code.RATE_LIMITED] * 2
    assert ask(desk, 1, caller=stranger("10.0.0.2"))[0].code is Code.UNAUTHENTICATED


def test_who_is_known_passes_whatever_others_do_at_the_same_host(desk):
    ask(desk, 10, caller=stranger("10.0.0.1"))

    known = Credentials(token=desk.tokens["viewer"], peer="10.0.0.1:1")
    assert ask(desk, 3, caller=known) == []


def test_many_hosts_together_are_limited_as_well(desk):
    codes = [ask(desk, 1, caller=stranger(f"10.0.0.{number}"))[0].code for number in range(25)]

    assert codes == [Code.UNAUTHENTICATED] * 20 + [Code.RATE_LIMITED] * 5


def test_callers_without_a_token_share_a_limit_of_their_host(desk):
    here = Credentials(loopback=True, peer="127.0.0.1:1")

    assert [error.code for error in ask(desk, 3, caller=here)] == [Code.RATE_LIMITED]
    assert ask(desk, 1) == []


def test_an_mcp_client_that_is_known_may_not_ask_without_end_either(desk):
    def recognize():
        return desk.dispatcher.recognize("mcp", caller=desk.caller("viewer"), transport="mcp")

    assert [recognize().name for _ in range(3)] == ["viewer"] * 3
    with pytest.raises(CommandError) as caught:
        recognize()

    assert caught.value.code is Code.RATE_LIMITED
    assert [(entry.command, entry.reason) for entry in desk.entries()] == [("mcp", "rate_limited")]
    assert ask(desk, 3) == []


def test_a_flood_is_a_row_a_second_that_says_how_many_it_stands_for(desk, clock):
    ask(desk, 53)
    clock.advance(1.0)
    ask(desk, 52)
    clock.advance(1.0)
    ask(desk, 1, "operator")
    clock.advance(5.0)
    ask(desk, 1, "operator")

    rows = desk.entries()
    assert [json.loads(row.arguments) for row in rows] == [
        {"attempts": 1},
        {"attempts": 49},
        {"attempts": 50},
    ]
    assert {(row.identity, row.command, row.status, row.reason) for row in rows} == {
        ("viewer", "list_stacks", "refused", "rate_limited")
    }


def test_what_was_counted_is_written_down_when_the_control_plane_stops(desk):
    ask(desk, 10)

    desk.dispatcher.end_floods()

    counted = [json.loads(row.arguments)["attempts"] for row in desk.entries()]
    assert counted == [1, 6]


def test_many_callers_share_rows_beyond_a_hundred(desk):
    for number in range(200):
        for _ in range(3):
            ask(desk, 1, caller=stranger(f"10.0.{number}.1"))
    desk.dispatcher.end_floods()

    limited = [row for row in desk.entries() if row.reason == "rate_limited"]
    assert sum(json.loads(row.arguments)["attempts"] for row in limited) == 600 - 20
    assert len(limited) <= 2 * 101


def test_a_flood_that_can_not_be_written_down_is_refused_all_the_same(desk, audit):
    ask(desk, 3)
    audit.close()

    assert ask(desk, 1)[0].code is Code.AUDIT_UNAVAILABLE


def test_stacks_of_the_control_plane_are_not_among_those_of_the_application(desk):
    before = list(desk.events.events)

    ask(desk, 5)

    assert [stack.name for stack in desk.registry] == ["shop"]
    assert list(desk.events.events) == before


def test_only_so_many_commands_of_one_caller_run_at_once(
    registry, shop, commands, audit, tokens, tokens_path
):
    running, end, hold = added.blocking()
    commands.add(hold)
    one = Limits(concurrent=1)
    desk = Desk(registry, commands, audit, tokens, tokens_path, limits=one)

    async def scenario():
        first = asyncio.create_task(asyncio.to_thread(desk.ask, "operator", "hold"))
        await asyncio.to_thread(running.wait)
        with pytest.raises(CommandError) as caught:
            await asyncio.to_thread(desk.ask, "operator", "list_stacks")
        other = await asyncio.to_thread(desk.ask, "viewer", "list_stacks")
        end.set()
        await first
        return caught.value, other

    error, other = asyncio.run(scenario())

    assert error.code is Code.RATE_LIMITED
    assert error.message.startswith("1 commands of operator run already")
    assert [stack.name for stack in other.stacks] == ["shop"]
    assert "rate_limited" in {entry.reason for entry in desk.entries()}
    desk.close()


def test_what_a_command_raises_comes_through_as_it_is(desk, commands):
    @command(Effect.READ)
    def refuse(arguments: added.Note, context: Context) -> added.Noted:
        """Say no."""
        raise CommandError(Code.NOT_FOUND, "not here")

    commands.add(refuse)

    with pytest.raises(CommandError) as caught:
        desk.ask("viewer", "refuse")

    assert (caught.value.code, caught.value.message) == (Code.NOT_FOUND, "not here")


def test_a_limit_holds_when_policies_are_switched_off(
    registry, shop, commands, audit, tokens, tokens_path, monkeypatch
):
    monkeypatch.setenv("NINELIVES_DISABLED", "1")
    desk = Desk(registry, commands, audit, tokens, tokens_path, limits=FEW)

    assert len(ask(desk, 4)) == 1
    desk.close()


@pytest.mark.parametrize("name", ["commands_per_second", "connections", "patience"])
def test_a_limit_of_nothing_is_refused(name):
    with pytest.raises(ConfigError, match=f"Limits.{name}: must be above 0, not 0"):
        Limits(**{name: 0})


def test_who_asks_too_often_hears_of_it_later():
    def refuse():
        raise CommandError(Code.RATE_LIMITED, "no")

    async def scenario():
        began = time.monotonic()
        with pytest.raises(CommandError):
            await in_thread(refuse)
        return time.monotonic() - began

    assert asyncio.run(scenario()) >= 0.4
