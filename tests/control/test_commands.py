"""What the built-in commands answer."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from ninelives_control.commands.events import event_of
from ninelives_control.errors import Code, CommandError
from ninelives_control.identity.identity import Role
from ninelives_grpc import (
    Bulkhead,
    CircuitBreaker,
    Refused,
    Registry,
    Retry,
    RetryBudget,
    Stack,
    Timeout,
)
from ninelives_grpc.events import CircuitOpened
from ninelives_grpc.policies.circuit_breaker import Mode
from ninelives_grpc.testing import VirtualClock
from tests.control.desk import Desk


def broken():
    raise ConnectionError("down")


def fail(stack, times=10):
    for _ in range(times):
        with pytest.raises((ConnectionError, Refused)):
            stack.call(broken)


def values(entries):
    return {entry.name: entry.value for entry in entries}


@pytest.fixture
def search(registry):
    return Stack("search", Timeout(1.0) + Bulkhead(8), registry=registry)


def test_stacks_are_listed_with_their_composition(desk, search):
    answer = desk.ask("viewer", "list_stacks")

    assert [stack.name for stack in answer.stacks] == ["search", "shop"]
    assert answer.stacks[0].expression == "Timeout(1.0) + Bulkhead(8)"
    assert (answer.stacks[0].policies, answer.stacks[0].parameters) == (2, 10)
    assert answer.total == 2


@pytest.mark.parametrize(
    ("name", "found"),
    [("list_stacks", "stacks"), ("list_policies", "policies"), ("list_parameters", "parameters"),
     ("list_commands", "commands"), ("get_state", "stacks")],
)  # fmt: skip
def test_lists_come_in_pages(desk, search, name, found):
    whole = desk.ask("viewer", name)
    first = desk.ask("viewer", name, limit=1)
    second = desk.ask("viewer", name, limit=1, offset=1)

    names = [getattr(entry, "path", None) or entry.name for entry in getattr(whole, found)]
    assert names == list(dict.fromkeys(names))
    shown = getattr(first, found) + getattr(second, found)
    assert [getattr(entry, "path", None) or entry.name for entry in shown] == names[:2]
    assert first.total == second.total == whole.total == len(names)


def test_lists_are_filtered_by_pattern(desk, search):
    stacks = desk.ask("viewer", "list_stacks", match="se*").stacks
    policies = desk.ask("viewer", "list_policies", match="*/bulkhead").policies
    parameters = desk.ask("viewer", "list_parameters", match="**/max_queue").parameters
    commands = desk.ask("viewer", "list_commands", match="reset_*").commands

    assert [stack.name for stack in stacks] == ["search"]
    assert [policy.path for policy in policies] == ["search/bulkhead", "shop/bulkhead"]
    assert [entry.path for entry in parameters] == [
        "search/bulkhead/max_queue",
        "shop/bulkhead/max_queue",
    ]
    assert [entry.name for entry in commands] == ["reset_circuit_breaker"]


def test_policies_of_a_stack_come_outermost_first(desk, search):
    policies = desk.ask("viewer", "list_policies", stack="shop").policies

    assert [policy.path for policy in policies] == [
        "shop/timeout",
        "shop/retry",
        "shop/retry_budget",
        "shop/circuit_breaker",
        "shop/bulkhead",
    ]
    assert policies[0].summary == "Give a call at most `seconds`."
    assert (policies[3].kind, policies[3].revision, policies[3].parameters) == (
        "CircuitBreaker",
        1,
        17,
    )


def test_a_policy_is_described_with_parameters_and_state(desk, shop):
    fail(shop, 3)

    described = desk.ask("viewer", "describe_policy", path="shop/bulkhead")

    assert (described.kind, described.declaration) == ("Bulkhead", "Bulkhead(4)")
    assert described.parameters[0].path == "shop/bulkhead/max_concurrent"
    assert values(described.state)["limit"] == 4
    assert values(described.state)["acquired"] >= 3


def test_parameters_are_listed_by_stack_and_policy(desk, search):
    paths = {
        arguments: [
            entry.path
            for entry in desk.ask("viewer", "list_parameters", **dict(arguments)).parameters
        ]
        for arguments in (
            (("stack", "search"), ("policy", "timeout")),
            (("policy", "timeout"),),
            (("policy", "nothing"),),
        )
    }

    first, second, third = paths.values()
    assert all(path.startswith("search/timeout/") for path in first)
    assert len(second) == 2 * len(first)
    assert third == []


def test_a_parameter_is_told_with_all_that_is_allowed(desk):
    number = desk.ask("viewer", "get_parameter", path="shop/retry/max_attempts")
    choice = desk.ask("viewer", "get_parameter", path="shop/circuit_breaker/mode")
    off = desk.ask("viewer", "get_parameter", path="shop/circuit_breaker/slow_call_duration")

    assert (number.value, number.minimum, number.maximum) == (3, 1, 100)
    assert (number.type, number.unit, number.optional) == ("int", "attempts", False)
    assert (choice.value, choice.type, choice.minimum) == ("auto", "choice", None)
    assert choice.choices == ["auto", "open", "closed", "disabled", "metrics_only"]
    assert (off.value, off.optional) == (None, True)


@pytest.mark.parametrize(
    ("path", "value", "kept"),
    [
        ("shop/retry/max_attempts", 5, 5),
        ("shop/retry/max_attempts", 5.0, 5),
        ("shop/timeout/seconds", 3, 3.0),
        ("shop/timeout/refuse_hopeless", False, False),
        ("shop/retry/jitter", "none", "none"),
        ("shop/circuit_breaker/slow_call_duration", 0.5, 0.5),
        ("shop/circuit_breaker/slow_call_duration", None, None),
    ],
)
def test_a_parameter_is_set_in_its_own_type(desk, path, value, kept):
    before = desk.ask("viewer", "get_parameter", path=path).value

    change = desk.ask("operator", "set_parameter", path=path, value=value)

    told = desk.ask("viewer", "get_parameter", path=path)
    revision = 1 if before == kept else 2
    assert (change.new, type(change.new)) == (kept, type(kept))
    assert (told.value, told.revision, change.revision) == (kept, revision, revision)
    assert told.declared == change.old


def test_a_dry_run_changes_nothing(desk, shop):
    change = desk.ask(
        "operator", "set_parameter", path="shop/retry/max_attempts", value=5, dry_run=True
    )

    assert (change.old, change.new, change.revision, change.dry_run) == (3, 5, 1, True)
    assert shop.parameters["retry/max_attempts"].get() == 3
    assert desk.events.events == []


def test_the_expected_revision_guards_a_change(desk):
    path = "shop/retry/max_attempts"
    first = desk.ask("operator", "set_parameter", path=path, value=5, expected_revision=1)

    again = desk.ask(
        "operator", "set_parameter", path=path, value=6, expected_revision=first.revision
    )

    assert again.revision == 3


def test_setting_a_parameter_keeps_the_window_and_the_state_of_the_circuit(registry, desk):
    stack = Stack(
        "keeping",
        CircuitBreaker(minimum_calls=4, open_duration=60.0, max_open_duration=60.0),
        registry=registry,
    )
    for _ in range(3):
        stack.call(lambda: 1)
    fail(stack, 1)
    breaker = "keeping/circuit_breaker"
    before = values(desk.ask("viewer", "describe_policy", path=breaker).state)

    desk.ask("operator", "set_parameter", path=f"{breaker}/window_size", value=50)

    after = values(desk.ask("viewer", "describe_policy", path=breaker).state)
    assert (before["calls"], before["failures"]) == (4, 1)
    assert after == before

    fail(stack, 40)
    desk.ask("operator", "set_parameter", path=f"{breaker}/failure_rate_threshold", value=0.9)

    assert values(desk.ask("viewer", "describe_policy", path=breaker).state)["state"] == "open"
    with pytest.raises(Refused):
        stack.call(lambda: 1)


def test_the_state_tells_traffic_in_all_and_by_method(desk, registry):
    clock = VirtualClock(1000.0)
    stack = Stack("busy", Retry(1), registry=registry, clock=clock)

    def quick():
        clock.advance(0.1)

    for _ in range(3):
        stack.call(quick)
    fail(stack, 1)

    (state,) = desk.ask("viewer", "get_state", stack="busy").stacks

    traffic = state.traffic
    assert (traffic.calls, traffic.successes, traffic.failures) == (4, 3, 1)
    assert traffic.success_rate == 0.75
    assert traffic.seconds == pytest.approx(0.3)
    assert traffic.calls_per_second == pytest.approx(4 / 0.3)
    assert traffic.p95 == pytest.approx(0.1, rel=0.02)
    assert [(entry.traffic.calls, entry.traffic.failures) for entry in state.methods] == [
        (3, 0),
        (1, 1),
    ]
    assert state.methods[0].method.endswith("quick")


def test_a_window_covers_the_time_asked_for(desk, registry):
    clock = VirtualClock(1000.0)
    stack = Stack("old", Retry(1), registry=registry, clock=clock)
    stack.call(lambda: 1)
    clock.advance(200.0)

    minute, five = (
        desk.ask("viewer", "get_state", stack="old", window=window) for window in (60, 300)
    )

    assert (minute.stacks[0].traffic.calls, minute.window) == (0, 60)
    assert (five.stacks[0].traffic.calls, five.window) == (1, 300)
    assert (minute.stacks[0].traffic.success_rate, minute.stacks[0].traffic.p99) == (1.0, None)


def test_only_the_busiest_methods_are_told(desk, shop):
    functions = [lambda: 1, lambda: 2, lambda: 3]
    for number, function in enumerate(functions):
        function.__qualname__ = f"method_{number}"
        for _ in range(number + 1):
            shop.call(function)

    answer = desk.ask("viewer", "get_state", stack="shop", methods=2)

    assert [entry.traffic.calls for entry in answer.stacks[0].methods] == [3, 2]


def test_the_state_of_policies_is_told_with_their_addresses(desk):
    (state,) = desk.ask("viewer", "get_state").stacks

    breaker = next(policy for policy in state.policies if policy.kind == "CircuitBreaker")
    assert breaker.path == "shop/circuit_breaker"
    assert values(breaker.values)["state"] == "closed"


@pytest.mark.parametrize(
    ("mode", "passes"),
    [("open", False), ("closed", True), ("disabled", True), ("metrics_only", True)],
)
def test_a_breaker_is_forced_and_left_to_itself_again(desk, shop, mode, passes):
    path = "shop/circuit_breaker"

    forced = desk.ask("operator", "force_circuit_breaker", path=path, mode=mode, reason="drill")

    assert (forced.old, forced.new, forced.revision) == (Mode.AUTO, Mode(mode), 2)
    if passes:
        assert shop.call(lambda: 1) == 1
    else:
        with pytest.raises(Refused):
            shop.call(lambda: 1)
    back = desk.ask("operator", "force_circuit_breaker", path=path, mode="auto")
    assert (back.old, back.new) == (Mode(mode), Mode.AUTO)
    assert shop.call(lambda: 1) == 1
    first, second = desk.entries()
    assert (first.old, first.new, second.new) == ("auto", mode, "auto")


def test_an_open_circuit_is_reset(desk, shop):
    fail(shop, 40)
    with pytest.raises(Refused):
        shop.call(lambda: 1)

    reset = desk.ask("agent", "reset_circuit_breaker", path="shop/circuit_breaker")

    assert (reset.circuits, reset.old, reset.new) == (1, "open", "closed")
    assert shop.call(lambda: 1) == 1
    assert (desk.entries()[0].old, desk.entries()[0].new) == ("open", "closed")


def test_one_circuit_of_several_is_reset(desk, registry):
    stack = Stack("keyed", CircuitBreaker(scope="method", minimum_calls=2), registry=registry)

    def other():
        raise ConnectionError

    fail(stack, 20)
    for _ in range(20):
        with pytest.raises((ConnectionError, Refused)):
            stack.call(other)
    gate = stack.policy("circuit_breaker")
    keys = list(gate.circuits(stack.clock.now()))

    one = desk.ask("operator", "reset_circuit_breaker", path="keyed/circuit_breaker", key=keys[0])

    states = [circuit["state"] for circuit in gate.circuits(stack.clock.now()).values()]
    assert (one.circuits, one.old, states) == (1, "open", ["closed", "open"])
    both = desk.ask("operator", "reset_circuit_breaker", path="keyed/circuit_breaker")
    assert (both.circuits, both.old) == (2, "closed, open")


def test_events_are_listed_with_numbers_and_time(desk, shop):
    before = datetime.now(UTC)
    fail(shop, 40)

    answer = desk.ask("viewer", "list_events", kinds=["CircuitOpened"])

    (event,) = answer.events
    assert (event.stack, event.policy, event.name) == ("shop", "circuit_breaker", "CircuitOpened")
    assert values(event.details)["failure_rate"] > 0.5
    time = datetime.fromisoformat(event.time)
    assert before - timedelta(seconds=1) < time < datetime.now(UTC) + timedelta(seconds=1)
    assert event.time.endswith("Z")
    assert (event.severity, event.reason) == ("error", "failure_rate")
    assert event.why.startswith("8 of the last 8 calls failed, ")


def test_a_reader_of_events_goes_on_where_it_stopped(desk, shop):
    fail(shop, 30)
    whole = desk.ask("viewer", "list_events", limit=1000)

    gathered, cursor, more = [], "", True
    while more:
        page = desk.ask("viewer", "list_events", cursor=cursor, limit=7)
        gathered += page.events
        cursor, more = page.cursor, page.more

    assert [event.number for event in gathered] == [event.number for event in whole.events]
    assert len(gathered) > 20
    fail(shop, 1)
    later = desk.ask("viewer", "list_events", cursor=cursor).events
    assert later
    assert {event.number for event in later}.isdisjoint(event.number for event in gathered)


def test_events_that_do_not_fit_are_passed_by(desk, shop, search):
    fail(shop, 10)
    desk.ask("operator", "set_parameter", path="search/timeout/seconds", value=3)

    mine = desk.ask("viewer", "list_events", stack="search")
    none = desk.ask("viewer", "list_events", stack="search", cursor=mine.cursor)
    policy = desk.ask("viewer", "list_events", policy="timeout")

    assert [event.name for event in mine.events] == ["ParameterChanged"]
    assert (none.events, none.cursor, none.more) == ([], mine.cursor, False)
    assert [event.stack for event in policy.events] == ["search"]
    none_yet = desk.ask("viewer", "list_events", stack="shop", kinds=["HedgeWon"])
    assert (none_yet.events, none_yet.cursor) == ([], mine.cursor)


def test_events_are_picked_by_kind_severity_method_and_time(desk, shop):
    fail(shop, 10)
    shop.parameters["circuit_breaker/minimum_calls"].set(9)

    def names(**asked):
        return {event.name for event in desk.ask("viewer", "list_events", **asked).events}

    everything = names()
    assert {"CircuitOpened", "RequestFailed", "ParameterChanged"} <= everything
    assert names(severity="error") == {"CircuitOpened"}
    assert "ParameterChanged" not in names(severity="warning") > {"CircuitOpened"}
    assert names(kinds=["CircuitOpened", "ParameterChanged"]) == {
        "CircuitOpened",
        "ParameterChanged",
    }
    (method,) = {event.method for event in desk.events.events if event.name == "RequestFailed"}
    assert names(method=method, kinds=["RequestFailed"]) == {"RequestFailed"}
    assert names(method="shop.v1.Shop/None") == set()
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert (names(until=soon), names(since=soon)) == (everything, set())


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        ({"kinds": ["CircuitOpend"]}, Code.NOT_FOUND, "CircuitOpened"),
        ({"severity": "loud"}, Code.INVALID_ARGUMENT, "severity must be"),
        ({"since": "yesterday"}, Code.INVALID_ARGUMENT, "such as 2026-11-27T14:02:11Z"),
        ({"since": "2026-11-27T14:02:11"}, Code.INVALID_ARGUMENT, "such as 2026-11-27T14:02:11Z"),
        ({"cursor": "17"}, Code.INVALID_ARGUMENT, "one that list_events has returned"),
        ({"cursor": "0badcafe-x"}, Code.INVALID_ARGUMENT, "one that list_events has returned"),
        ({"cursor": "0badcafe-17"}, Code.CONFLICT, "another life of the control plane"),
    ],
)
def test_a_filter_or_cursor_that_makes_no_sense_is_said_to_be_so(desk, asked, code, said):
    with pytest.raises(CommandError, match=said) as caught:
        desk.ask("viewer", "list_events", **asked)

    assert caught.value.code is code
    assert caught.value.field == next(iter(asked)) or asked.keys() == {"kinds"}


def test_metrics_tell_how_calls_went_and_why_circuits_are_open(desk, shop):
    shop.call(lambda: 1)
    fail(shop, 30)

    answer = desk.ask("viewer", "get_metrics", stack="shop")

    (found,) = answer.stacks
    assert (answer.total, answer.window, answer.dropped) == (1, 60, 0)
    assert found.traffic.calls == shop.recorder.traffic(60.0, shop.clock.now()).calls
    assert found.traffic.successes == 1
    assert found.traffic.attempts >= found.traffic.calls - found.traffic.refusals
    policies = {policy.path: policy for policy in found.policies}
    breaker = policies["shop/circuit_breaker"]
    assert values(breaker.refusals)["open"] > 0
    assert values(breaker.events)["CircuitOpened"] == 1
    (circuit,) = breaker.circuits
    assert (circuit.state, circuit.open > 0.0) == ("open", True)
    assert "calls failed" in circuit.why
    assert sum(series.traffic.calls for series in found.series) == found.traffic.calls
    assert desk.ask("viewer", "get_metrics", stack="shop", series=0).stacks[0].series == []
    (only,) = desk.ask("viewer", "get_metrics", policy="circuit_breaker", stack="shop").stacks
    assert [policy.path for policy in only.policies] == ["shop/circuit_breaker"]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"window": 61}, Code.INVALID_ARGUMENT),
        ({"stack": "shp"}, Code.NOT_FOUND),
        ({"policy": "braker"}, Code.NOT_FOUND),
        ({"method": "none"}, Code.NOT_FOUND),
        ({"target": "none"}, Code.NOT_FOUND),
        ({"label": "x"}, Code.INVALID_ARGUMENT),
    ],
)
def test_metrics_of_what_there_is_none_of_are_refused(desk, shop, asked, code):
    shop.call(lambda: 1)

    with pytest.raises(CommandError) as caught:
        desk.ask("viewer", "get_metrics", **asked)

    assert (caught.value.code, caught.value.field) == (code, next(iter(asked)))


def test_an_event_with_a_long_cause_can_be_told():
    opened = CircuitOpened(
        stack="s",
        at=0.0,
        key="",
        duration=float("inf"),
        calls=1,
        failures=1,
        slow=0,
        failure_rate=1.0,
        code="UNKNOWN",
        cause="x" * 5000,
    )

    details = values(event_of(opened).details)

    assert details["duration"] == "inf"
    assert len(details["cause"]) == 1000


def test_commands_are_listed_with_schemas_and_whether_they_are_allowed(desk):
    by_role = {
        role: {entry.name: entry.allowed for entry in desk.ask(role, "list_commands").commands}
        for role in Role
    }
    (entry,) = desk.ask("viewer", "list_commands", match="set_parameter").commands

    assert by_role[Role.VIEWER]["get_state"]
    assert not by_role[Role.VIEWER]["set_parameter"]
    assert by_role[Role.AGENT]["set_parameter"]
    assert not by_role[Role.AGENT]["force_circuit_breaker"]
    assert all(by_role[Role.ADMIN].values())
    schema = json.loads(entry.arguments_schema)
    assert set(schema["required"]) == {"path", "value"}
    assert schema["properties"]["dry_run"]["description"]
    assert json.loads(entry.result_schema)["title"] == "ParameterChange"


def test_a_budget_shared_by_two_stacks_is_reached_through_both(registry, desk):
    budget = RetryBudget()
    Stack("one", Retry(3, budget=budget), registry=registry)
    Stack("two", Retry(3, budget=budget), registry=registry)

    for stack in ("one", "two"):
        paths = [p.path for p in desk.ask("viewer", "list_policies", stack=stack).policies]
        assert paths == [f"{stack}/retry", f"{stack}/retry_budget"]
    desk.ask("operator", "set_parameter", path="two/retry_budget/ratio", value=0.2)

    assert desk.ask("viewer", "get_parameter", path="one/retry_budget/ratio").value == 0.2


def test_an_empty_registry_has_nothing_to_list(commands, audit, tokens, tokens_path):
    desk = Desk(Registry(), commands, audit, tokens, tokens_path)

    assert desk.ask("viewer", "list_stacks").stacks == []
    with pytest.raises(CommandError, match="there is no stack at all"):
        desk.ask("viewer", "list_policies", stack="shop")
