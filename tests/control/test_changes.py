"""Changes that are safe: together or not at all, tried first, for a time, once, and taken back."""

import contextlib
import json
import sqlite3
import threading

import pytest

from ninelives_control import ControlPlane
from ninelives_control.audit.log import AuditLog
from ninelives_control.changes import repeats
from ninelives_control.changes.repeats import Repeats
from ninelives_control.changes.store import ParameterStore
from ninelives_control.errors import AuditError, Code, CommandError
from ninelives_grpc import CircuitBreaker, Registry, Retry, Stack, Timeout, config
from ninelives_grpc.errors import ConfigError
from ninelives_grpc.testing import VirtualClock
from tests.control import added
from tests.control.desk import Desk, arguments_of
from tests.waiting import until

SECONDS = "shop/timeout/seconds"
ATTEMPTS = "shop/retry/max_attempts"
LIMIT = "bank/timeout/seconds"
MODE = "shop/circuit_breaker/mode"
OPEN = "shop/circuit_breaker/open_duration"
LONGEST_OPEN = "shop/circuit_breaker/max_open_duration"


@pytest.fixture
def bank(registry):
    return Stack("bank", Timeout(1.0) + Retry(2) + CircuitBreaker(), registry=registry)


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def store_path(tmp_path):
    return tmp_path / "parameters.sqlite"


@pytest.fixture
def desk(registry, shop, bank, commands, audit, tokens, tokens_path, clock, store_path):
    """A dispatcher that keeps parameters, with a token for each role."""
    store = ParameterStore(store_path)
    desk = Desk(registry, commands, audit, tokens, tokens_path, clock=clock, store=store)
    yield desk
    desk.dispatcher.end_leases()
    desk.close()
    store.close()


@pytest.fixture
def value(registry):
    return lambda path: registry.parameter(path).get()


def kept(path) -> dict:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT path, value FROM parameters").fetchall()
    connection.close()
    return {address: json.loads(text) for address, text in rows}


def apply(desk, role, values, **more):
    changes = [{"path": path, "value": value} for path, value in values.items()]
    return desk.ask(role, "apply_parameters", changes=changes, **more)


def refused(desk, role, name, **arguments) -> CommandError:
    with pytest.raises(CommandError) as caught:
        desk.ask(role, name, **arguments)
    return caught.value


def test_parameters_of_several_stacks_are_changed_together(desk, value):
    told = apply(desk, "operator", {SECONDS: 3, ATTEMPTS: 5, LIMIT: 2.5}, reason="a try")

    assert (value(SECONDS), value(ATTEMPTS), value(LIMIT)) == (3.0, 5, 2.5)
    assert [(c.path, c.old, c.new, c.revision) for c in told.changes] == [
        (SECONDS, 2.0, 3.0, 2),
        (ATTEMPTS, 3, 5, 2),
        (LIMIT, 1.0, 2.5, 2),
    ]
    (entry,) = desk.entries()
    assert entry.old == {SECONDS: 2.0, ATTEMPTS: 3, LIMIT: 1.0}
    assert entry.new == {SECONDS: 3.0, ATTEMPTS: 5, LIMIT: 2.5}
    assert entry.id == told.id


@pytest.mark.parametrize(
    ("wrong", "code", "text"),
    [
        ({LIMIT: 0}, Code.INVALID_ARGUMENT, "bank/timeout/seconds"),
        ({"bank/timeout/secnds": 1}, Code.NOT_FOUND, "did you mean seconds"),
        ({"bank/timeout": 1}, Code.INVALID_ARGUMENT, "changes.2.path"),
    ],
)
def test_one_wrong_value_and_nothing_is_changed(desk, value, store_path, wrong, code, text):
    with pytest.raises(CommandError, match=text) as caught:
        apply(desk, "operator", {SECONDS: 3, ATTEMPTS: 5, **wrong})

    assert caught.value.code is code
    assert (value(SECONDS), value(ATTEMPTS)) == (2.0, 3)
    assert kept(store_path) == {}


def test_a_parameter_twice_or_a_policy_at_two_revisions_is_refused(desk):
    twice = [{"path": SECONDS, "value": 3}, {"path": SECONDS, "value": 4}]
    torn = [
        {"path": ATTEMPTS, "value": 3, "expected_revision": 1},
        {"path": "shop/retry/jitter", "value": "none", "expected_revision": 2},
    ]

    error = refused(desk, "admin", "apply_parameters", changes=twice)
    other = refused(desk, "admin", "apply_parameters", changes=torn)
    none = refused(desk, "admin", "apply_parameters", changes=[])

    assert "is there twice" in error.message
    assert "at two revisions" in other.message
    assert {error.code, other.code, none.code} == {Code.INVALID_ARGUMENT}


def test_all_is_off_when_one_policy_is_at_another_revision(desk, value):
    desk.ask("operator", "set_parameter", path=LIMIT, value=4)
    changes = [
        {"path": SECONDS, "value": 3},
        {"path": LIMIT, "value": 5, "expected_revision": 1},
    ]

    error = refused(desk, "operator", "apply_parameters", changes=changes)

    assert (error.code, error.revision) == (Code.CONFLICT, 2)
    assert (value(SECONDS), value(LIMIT)) == (2.0, 4.0)


def test_an_agent_may_change_several_within_its_bounds_only(desk, value):
    apply(desk, "agent", {SECONDS: 4, ATTEMPTS: 5})

    with pytest.raises(CommandError, match="agents-tune allows bank/timeout/seconds") as caught:
        apply(desk, "agent", {SECONDS: 3, LIMIT: 4.5})

    assert caught.value.code is Code.PERMISSION_DENIED
    assert value(SECONDS) == 4.0


def test_a_dry_run_says_what_the_linter_would_think(desk, value):
    told = apply(desk, "operator", {"bank/retry_budget/cost": 0}, dry_run=True)

    (finding,) = told.findings
    assert (finding.rule, finding.path, finding.is_new) == (
        "retries-without-budget",
        "bank/retry",
        True,
    )
    assert told.dry_run
    assert value("bank/retry_budget/cost") != 0


def test_what_the_linter_thought_before_is_not_new(desk):
    path = "shop/retry_budget/cost"
    desk.ask("admin", "set_parameter", path=path, value=0)

    told = desk.ask("admin", "set_parameter", path=SECONDS, value=3)

    assert [(finding.rule, finding.is_new) for finding in told.findings] == [
        ("retries-without-budget", False)
    ]


def test_the_linter_looks_at_the_stacks_around_one_too(desk, registry):
    inner = Stack("inner", Retry(1), registry=registry)
    Stack("outer", Retry(3) + inner, registry=registry)

    told = desk.ask("operator", "set_parameter", path="inner/retry/max_attempts", value=3)

    assert [(finding.rule, finding.is_new) for finding in told.findings] == [
        ("retries-multiply", True)
    ]


class TestLeases:
    def test_the_old_value_returns_in_time_and_the_audit_says_so(self, desk, clock, value):
        told = desk.ask("agent", "set_parameter", path=SECONDS, value=4, lease=60, reason="slow")

        assert value(SECONDS) == 4.0
        assert told.until is not None
        clock.advance(59)
        assert value(SECONDS) == 4.0
        clock.advance(2)
        until(lambda: value(SECONDS) == 2.0)
        until(lambda: desk.entries()[-1].status == "succeeded")
        last = desk.entries()[-1]
        assert (last.identity, last.role, last.transport, last.command, last.rule) == (
            "agent",
            "agent",
            "lease",
            "end_lease",
            "lease",
        )
        assert (last.old, last.new) == ({SECONDS: 4.0}, {SECONDS: 2.0})
        assert arguments_of(last) == {"id": told.id, "reason": "the lease is over"}
        assert desk.ask("viewer", "list_leases").leases == []

    def test_leases_are_listed_and_can_be_ended_early(self, desk, clock, value):
        told = apply(desk, "agent", {SECONDS: 4, ATTEMPTS: 5}, lease=60, reason="slow")

        (lease,) = desk.ask("viewer", "list_leases", match="shop/**").leases
        ended = desk.ask("agent", "end_lease", id=told.id)

        assert (lease.id, lease.holder, lease.reason, lease.until) == (
            told.id,
            "agent",
            "slow",
            told.until,
        )
        assert [(loan.path, loan.value, loan.back) for loan in lease.loans] == [
            (SECONDS, 4.0, 2.0),
            (ATTEMPTS, 5, 3),
        ]
        assert (value(SECONDS), value(ATTEMPTS)) == (2.0, 3)
        assert [change.new for change in ended.changes] == [2.0, 3]
        before = len(desk.entries())
        clock.advance(100)
        assert len(desk.entries()) == before
        assert refused(desk, "agent", "end_lease", id=told.id).code is Code.NOT_FOUND

    def test_a_value_that_is_set_again_stays(self, desk, clock, value):
        told = apply(desk, "agent", {SECONDS: 4, ATTEMPTS: 5}, lease=60)

        desk.ask("operator", "set_parameter", path=SECONDS, value=4)  # as it is: to keep it
        (lease,) = desk.ask("viewer", "list_leases").leases
        clock.advance(61)
        until(lambda: value(ATTEMPTS) == 3)

        assert [loan.path for loan in lease.loans] == [ATTEMPTS]
        assert lease.id == told.id
        assert value(SECONDS) == 4.0

    def test_a_lease_on_top_of_another_returns_to_what_was_before_both(self, desk, clock, value):
        desk.ask("agent", "set_parameter", path=SECONDS, value=4, lease=60)
        desk.ask("agent", "set_parameter", path=SECONDS, value=6, lease=600)

        clock.advance(61)
        assert value(SECONDS) == 6.0
        clock.advance(600)
        until(lambda: value(SECONDS) == 2.0)

    def test_what_the_application_has_changed_meanwhile_is_left_alone(
        self, desk, clock, registry, value
    ):
        apply(desk, "agent", {SECONDS: 4, ATTEMPTS: 5}, lease=60)

        registry.parameter(SECONDS).set(7.0)
        clock.advance(61)
        until(lambda: value(ATTEMPTS) == 3)

        assert value(SECONDS) == 7.0

    def test_a_dry_run_lends_nothing(self, desk):
        told = desk.ask("agent", "set_parameter", path=SECONDS, value=4, lease=60, dry_run=True)

        assert told.until is not None
        assert desk.ask("viewer", "list_leases").leases == []

    def test_everything_lent_returns_when_the_control_plane_stops(self, desk, value):
        apply(desk, "agent", {SECONDS: 4, ATTEMPTS: 5}, lease=60)

        desk.dispatcher.end_leases()

        assert (value(SECONDS), value(ATTEMPTS)) == (2.0, 3)
        assert arguments_of(desk.entries()[-1])["reason"] == "the control plane stops"

    def test_a_lease_that_cannot_be_written_down_ends_as_soon_as_it_can(
        self, desk, clock, value, monkeypatch
    ):
        desk.ask("agent", "set_parameter", path=SECONDS, value=4, lease=60)
        tried = threading.Event()

        def broken(*_arguments, **_more):
            tried.set()
            raise AuditError("disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(AuditLog, "append", broken)
            clock.advance(61)
            assert tried.wait(10)
            desk.dispatcher.changes.leases._worker.submit(lambda: None).result(10)
        assert value(SECONDS) == 4.0
        clock.advance(1.5)
        until(lambda: value(SECONDS) == 2.0)

    def test_a_lease_that_cannot_end_is_tried_ever_more_rarely(self, desk, clock, value, caplog):
        told = desk.ask("operator", "set_parameter", path=LONGEST_OPEN, value=600, lease=60)
        desk.ask("operator", "set_parameter", path=OPEN, value=400)  # more than what is to return

        for seconds in (60, 1, 2, 4):
            clock.advance(seconds)
            desk.dispatcher.changes.leases._worker.submit(lambda: None).result(10)
            clock.advance(0.5)
        assert [entry.status for entry in desk.entries()[2:]] == ["failed"] * 4
        assert value(LONGEST_OPEN) == 600
        assert f"{told.id} lends on for 8 s" in caplog.text

        desk.ask("operator", "set_parameter", path=OPEN, value=1)
        clock.advance(8)
        until(lambda: value(LONGEST_OPEN) == 5.0)

    def test_a_short_lease_on_top_does_not_end_one_that_may_not_be_ended(self, desk, clock, value):
        desk.ask("admin", "set_parameter", path=SECONDS, value=100)
        lent = desk.ask("admin", "set_parameter", path=SECONDS, value=3, lease=60)

        short = refused(desk, "agent", "set_parameter", path=SECONDS, value=4, lease=1)
        ended = refused(desk, "agent", "end_lease", id=lent.id)
        desk.ask("agent", "set_parameter", path=SECONDS, value=4, lease=60)
        shorter = refused(desk, "agent", "set_parameter", path=SECONDS, value=5, lease=59)

        assert (short.code, short.field, shorter.code) == (Code.CONFLICT, "lease", Code.CONFLICT)
        assert f"{lent.id} has lent it until {lent.until}" in short.message
        assert ended.code is Code.PERMISSION_DENIED
        clock.advance(59)
        assert value(SECONDS) == 4.0

    def test_what_the_application_has_set_on_top_is_what_returns(
        self, desk, clock, registry, value
    ):
        desk.ask("agent", "set_parameter", path=SECONDS, value=4, lease=60)
        registry.parameter(SECONDS).set(7.0)

        desk.ask("agent", "set_parameter", path=SECONDS, value=5, lease=60)
        clock.advance(61)

        until(lambda: value(SECONDS) == 7.0)

    def test_what_is_so_already_is_not_lent(self, desk):
        told = desk.ask("agent", "set_parameter", path=SECONDS, value=2, lease=60)

        assert told.until is None
        assert desk.ask("viewer", "list_leases").leases == []

    def test_a_lease_of_what_is_gone_ends_once(self, desk, clock, registry):
        registry.parameter("shop/timeout/idle").set(1.0)
        desk.ask("operator", "set_parameter", path="shop/timeout/idle", value=None, lease=60)

        registry.remove("shop")
        clock.advance(61)
        until(lambda: not desk.ask("viewer", "list_leases").leases)

        assert [entry.command for entry in desk.entries()] == ["set_parameter", "end_lease"]

    def test_nothing_returns_to_a_stack_that_takes_the_place_of_another(
        self, desk, registry, value, clock
    ):
        registry.subscribe(desk.dispatcher.changes.take_in)
        desk.ask("agent", "set_parameter", path=SECONDS, value=4, lease=60)

        Stack("shop", Timeout(4.0), registry=registry)
        clock.advance(61)

        assert desk.ask("viewer", "list_leases").leases == []
        assert value(SECONDS) == 4.0

    def test_a_subscriber_that_raises_makes_no_lease_last_for_ever(
        self, desk, clock, registry, value
    ):
        def broken(_value):
            raise RuntimeError("not now")

        registry.parameter(SECONDS).subscribe(broken)

        desk.ask("agent", "set_parameter", path=SECONDS, value=4, lease=60)
        clock.advance(61)

        until(lambda: value(SECONDS) == 2.0)

    def test_a_control_plane_that_stops_lends_nothing_any_more(self, desk, value):
        desk.dispatcher.end_leases()

        error = refused(desk, "agent", "set_parameter", path=SECONDS, value=4, lease=60)
        desk.ask("agent", "set_parameter", path=SECONDS, value=3)

        assert error.code is Code.UNAVAILABLE
        assert value(SECONDS) == 3.0

    def test_what_is_lent_while_a_control_plane_stops_returns_too(self, desk, value):
        def lend():
            for number in range(200):
                try:
                    desk.ask("admin", "set_parameter", path=SECONDS, value=3 + number, lease=60)
                except CommandError:
                    return

        lending = threading.Thread(target=lend)
        lending.start()
        until(lambda: value(SECONDS) != 2.0)
        desk.dispatcher.end_leases()
        lending.join(10)

        assert value(SECONDS) == 2.0

    @pytest.mark.parametrize("seconds", [0, -1, 0.05, 700_000, "soon", float("inf")])
    def test_a_lease_has_bounds(self, desk, value, seconds):
        error = refused(desk, "agent", "set_parameter", path=SECONDS, value=4, lease=seconds)

        assert (error.code, error.field) == (Code.INVALID_ARGUMENT, "lease")
        assert value(SECONDS) == 2.0


class TestUndo:
    def test_a_change_is_taken_back(self, desk, value):
        told = apply(desk, "operator", {SECONDS: 3, ATTEMPTS: 5, LIMIT: 2.5})

        undone = desk.ask("operator", "undo_change", id=told.id, reason="no good")
        again = desk.ask("operator", "undo_change", id=undone.id)

        assert {c.path: c.new for c in undone.changes} == {SECONDS: 2.0, ATTEMPTS: 3, LIMIT: 1.0}
        assert (value(SECONDS), value(ATTEMPTS), value(LIMIT)) == (3.0, 5, 2.5)
        assert len(again.changes) == 3

    def test_a_forced_breaker_is_let_go(self, desk, value):
        desk.ask("operator", "force_circuit_breaker", path="shop/circuit_breaker", mode="open")

        desk.ask("operator", "undo_change", id=desk.entries()[0].id)

        assert value(MODE) == "auto"

    def test_what_has_changed_since_is_a_conflict(self, desk, value):
        told = desk.ask("operator", "set_parameter", path=SECONDS, value=3)
        desk.ask("operator", "set_parameter", path=SECONDS, value=5)

        error = refused(desk, "operator", "undo_change", id=told.id)

        assert (error.code, error.revision) == (Code.CONFLICT, 3)
        assert "shop/timeout/seconds is 5.0 by now, and not 3.0" in error.message
        assert value(SECONDS) == 5.0

    def test_an_undo_can_be_tried_first(self, desk, value):
        told = desk.ask("operator", "set_parameter", path=SECONDS, value=3)

        tried = desk.ask("operator", "undo_change", id=told.id, dry_run=True)

        assert [(change.old, change.new) for change in tried.changes] == [(3.0, 2.0)]
        assert value(SECONDS) == 3.0

    def test_only_what_has_changed_parameters_can_be_undone(self, desk):
        tried = desk.ask("operator", "set_parameter", path=SECONDS, value=3, dry_run=True)
        desk.ask("operator", "reset_circuit_breaker", path="shop/circuit_breaker")
        refused(desk, "viewer", "set_parameter", path=SECONDS, value=3)
        _, reset, denied = desk.entries()

        for key in (tried.id, reset.id, denied.id):
            error = refused(desk, "admin", "undo_change", id=key)
            assert (error.code, error.field) == (Code.INVALID_ARGUMENT, "id")
        assert refused(desk, "admin", "undo_change", id="x").code is Code.NOT_FOUND

    def test_what_it_has_left_as_it_was_may_have_changed_since(self, desk, value):
        told = apply(desk, "operator", {SECONDS: 2, ATTEMPTS: 5})
        desk.ask("operator", "set_parameter", path=SECONDS, value=7)

        undone = desk.ask("operator", "undo_change", id=told.id)

        assert [change.path for change in undone.changes] == [ATTEMPTS]
        assert (value(SECONDS), value(ATTEMPTS)) == (7.0, 3)

    def test_an_undone_lease_leaves_nothing_that_was_only_lent(self, desk, value, store_path):
        desk.ask("agent", "set_parameter", path=SECONDS, value=4, lease=60)
        second = desk.ask("agent", "set_parameter", path=SECONDS, value=6, lease=60)

        desk.ask("agent", "undo_change", id=second.id)

        assert value(SECONDS) == 2.0
        assert kept(store_path) == {}
        assert desk.ask("viewer", "list_leases").leases == []

    def test_of_two_that_undo_a_change_at_once_one_succeeds(self, desk):
        told = desk.ask("operator", "set_parameter", path=SECONDS, value=3)
        start, outcomes = threading.Barrier(2), []

        def undo():
            start.wait()
            try:
                outcomes.append(len(desk.ask("operator", "undo_change", id=told.id).changes))
            except CommandError as error:
                outcomes.append(error.code)

        threads = [threading.Thread(target=undo) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)

        assert sorted(map(str, outcomes)) == ["1", "conflict"]

    def test_an_agent_can_not_undo_its_way_out_of_its_bounds(self, desk, value):
        desk.ask("admin", "set_parameter", path=SECONDS, value=100)
        told = desk.ask("admin", "set_parameter", path=SECONDS, value=3)

        error = refused(desk, "agent", "undo_change", id=told.id)

        assert (error.code, error.rule) == (Code.PERMISSION_DENIED, "agents-tune")
        assert value(SECONDS) == 3.0


class TestExport:
    def test_what_was_exported_can_be_applied_again(self, desk, value):
        apply(desk, "operator", {SECONDS: 3, MODE: "open", LIMIT: 2.5})
        exported = desk.ask("viewer", "export_parameters")
        apply(desk, "operator", {SECONDS: 9, MODE: "auto", LIMIT: 9})

        changes = exported.model_dump(mode="json")["changes"]
        told = desk.ask("admin", "apply_parameters", changes=changes)

        assert (value(SECONDS), value(MODE), value(LIMIT)) == (3.0, "open", 2.5)
        assert len(told.changes) == sum(len(s.parameters) for s in desk.registry)

    def test_only_what_differs_can_be_exported_and_nothing_that_is_lent(self, desk):
        desk.ask("operator", "set_parameter", path=SECONDS, value=3)
        desk.ask("operator", "set_parameter", path=ATTEMPTS, value=5, lease=60)

        told = desk.ask("viewer", "export_parameters", only_changed=True)
        narrow = desk.ask("viewer", "export_parameters", match="bank/timeout/*")

        assert [(change.path, change.value) for change in told.changes] == [(SECONDS, 3.0)]
        assert LIMIT in [change.path for change in narrow.changes]
        assert all(change.path.startswith("bank/timeout/") for change in narrow.changes)

    def test_there_is_an_end_to_what_one_export_holds(self, desk, registry):
        for number in range(60):
            Stack(f"s{number}", Timeout(1.0) + Retry(2) + CircuitBreaker(), registry=registry)

        error = refused(desk, "viewer", "export_parameters")

        assert (error.code, error.field) == (Code.INVALID_ARGUMENT, "match")


class TestKeys:
    def test_a_repetition_is_told_the_first_result_and_does_nothing(self, desk, value):
        wanted = {"path": SECONDS, "value": 3, "idempotency_key": "k1"}
        first = desk.ask("operator", "set_parameter", **wanted)
        desk.ask("operator", "set_parameter", path=SECONDS, value=5)

        again = desk.ask("operator", "set_parameter", **wanted)

        assert again == first
        assert value(SECONDS) == 5.0
        assert [entry.status for entry in desk.entries()] == ["succeeded", "succeeded", "repeated"]

    def test_a_key_belongs_to_who_used_it_and_to_one_wish(self, desk, value):
        wanted = {"path": SECONDS, "value": 3, "idempotency_key": "k1"}
        desk.ask("operator", "set_parameter", **wanted)
        desk.ask("admin", "set_parameter", **wanted | {"value": 4})

        error = refused(desk, "operator", "set_parameter", **wanted | {"value": 6})

        assert (error.code, error.field) == (Code.INVALID_ARGUMENT, "idempotency_key")
        assert value(SECONDS) == 4.0
        assert desk.entries()[-1].status == "refused"

    def test_what_could_not_be_done_again_is_told_again(self, desk):
        lent = desk.ask("agent", "set_parameter", path=SECONDS, value=4, lease=60)
        wanted = {"id": lent.id, "idempotency_key": "k1"}

        ended = desk.ask("agent", "end_lease", **wanted)

        assert desk.ask("agent", "end_lease", **wanted) == ended
        assert refused(desk, "agent", "end_lease", id=lent.id).code is Code.NOT_FOUND
        assert refused(desk, "viewer", "end_lease", **wanted).code is Code.PERMISSION_DENIED

    def test_what_has_failed_may_be_tried_again(self, desk, value):
        wanted = {"path": SECONDS, "value": 3, "expected_revision": 2, "idempotency_key": "k1"}

        assert refused(desk, "operator", "set_parameter", **wanted).code is Code.CONFLICT
        desk.ask("operator", "set_parameter", path=SECONDS, value=5)
        desk.ask("operator", "set_parameter", **wanted)

        assert value(SECONDS) == 3.0

    def test_what_has_run_does_not_run_again_though_it_could_not_be_written_down(
        self, desk, value, monkeypatch
    ):
        wanted = {"path": SECONDS, "value": 3, "idempotency_key": "k1"}
        append = AuditLog.append

        def broken(self, attempt, status, **more):
            if status == "succeeded":
                raise AuditError("disk is full")
            append(self, attempt, status, **more)

        with monkeypatch.context() as patched:
            patched.setattr(AuditLog, "append", broken)
            error = refused(desk, "operator", "set_parameter", **wanted)
        desk.ask("operator", "set_parameter", path=SECONDS, value=5)
        again = desk.ask("operator", "set_parameter", **wanted)

        assert error.code is Code.AUDIT_UNAVAILABLE
        assert (again.old, again.new) == (2.0, 3.0)
        assert value(SECONDS) == 5.0

    def test_what_differs_in_secrets_only_is_not_the_same(self, desk, commands):
        commands.add(added.note)
        wanted = {"text": "now", "idempotency_key": "k"}
        first = desk.ask("operator", "note", **wanted, password="one")

        error = refused(desk, "operator", "note", **wanted, password="two")

        assert error.code is Code.INVALID_ARGUMENT
        assert desk.ask("operator", "note", **wanted, password="one") == first

    def test_results_are_remembered_in_bounded_memory(self, monkeypatch):
        monkeypatch.setattr(repeats, "MAX_SIZE", 80)
        known, nothing = Repeats(), added.Note()
        running = ("somebody", "admin", "running")
        known.begin(running, "command", nothing)
        for number in range(9):
            known.begin(("somebody", "admin", str(number)), "command", nothing)
            known.end(("somebody", "admin", str(number)), added.Noted(text="x" * 20, by=""))

        told = [known.begin(("somebody", "admin", str(n)), "command", nothing) for n in (8, 7, 6)]
        assert [result is not None for result in told] == [True, True, False]
        with pytest.raises(CommandError, match="still runs"):
            known.begin(running, "command", nothing)

    def test_a_repetition_that_comes_too_soon_is_asked_to_come_again(self, desk, commands):
        running, end, hold = added.blocking()
        commands.add(hold)
        first = threading.Thread(
            target=desk.ask, args=("operator", "hold"), kwargs={"idempotency_key": "k"}
        )
        first.start()
        assert running.wait(10)

        error = refused(desk, "operator", "hold", idempotency_key="k")
        end.set()
        first.join(10)

        assert (error.code, error.field) == (Code.CONFLICT, "idempotency_key")
        assert desk.ask("operator", "hold", idempotency_key="k").text == "held"


class TestKept:
    def test_what_commands_have_set_is_kept_and_what_they_have_lent_is_not(self, desk, store_path):
        apply(desk, "operator", {SECONDS: 3, ATTEMPTS: 5})
        desk.ask("operator", "force_circuit_breaker", path="shop/circuit_breaker", mode="open")
        desk.ask("operator", "set_parameter", path=LIMIT, value=2, lease=60)

        assert kept(store_path) == {SECONDS: 3.0, ATTEMPTS: 5, MODE: "open"}

    def test_loops_of_a_configuration_get_what_was_kept_of_them(self, desk, registry):
        kept_values = {"later/size/increase": 7.0, "later/bulkhead/max_concurrent": 30}
        desk.dispatcher.changes._store.keep(kept_values, forget=(), command="1")
        size = {"law": "aimd", "parameter": "bulkhead/max_concurrent"}
        later = {
            "expression": "bulkhead",
            "bulkhead": {"max_concurrent": 10},
            "loops": {"size": size},
        }

        with contextlib.ExitStack() as ends:
            ends.callback(registry.subscribe(desk.dispatcher.changes.take_in))
            config.parse({"stacks": {"later": later}}, registry=registry)
        registry.stop_loops()

        assert registry.parameter("later/size/increase").get() == 7.0
        assert registry.parameter("later/bulkhead/max_concurrent").get() == 30

    def test_what_is_declared_again_is_forgotten(self, desk, store_path):
        told = apply(desk, "operator", {SECONDS: 3, ATTEMPTS: 5})

        desk.ask("operator", "undo_change", id=told.id)

        assert kept(store_path) == {}

    def test_stacks_get_what_was_kept_also_those_to_come(self, desk, registry, store_path, value):
        store = desk.dispatcher.changes._store
        store.keep({SECONDS: 3.0, "later/timeout/seconds": 9.0}, forget=(), command="1")
        desk.dispatcher.changes.take_in(registry.stack("shop"))
        unsubscribe = registry.subscribe(desk.dispatcher.changes.take_in)

        later = Stack("later", Timeout(1.0), registry=registry)
        unsubscribe()

        assert value(SECONDS) == 3.0
        assert later.parameters["timeout/seconds"].get() == 9.0

    def test_what_fits_no_more_is_left_out_and_said(self, desk, registry, value, caplog):
        store = desk.dispatcher.changes._store
        store.keep({SECONDS: -3, "shop/retry/gone": 1, ATTEMPTS: 5}, forget=(), command="1")

        desk.dispatcher.changes.take_in(registry.stack("shop"))

        assert (value(SECONDS), value(ATTEMPTS)) == (2.0, 5)
        assert "what was kept of shop/timeout/seconds is left out" in caplog.text
        assert "what was kept of shop/retry/gone is left out" in caplog.text

    def test_values_that_are_allowed_only_together_are_given_back_together(
        self, desk, registry, value
    ):
        values = {OPEN: 100.0, LONGEST_OPEN: 600.0, "shop/circuit_breaker/window_size": -1}
        desk.dispatcher.changes._store.keep(values, forget=(), command="1")

        desk.dispatcher.changes.take_in(registry.stack("shop"))

        assert (value(OPEN), value(LONGEST_OPEN)) == (100.0, 600.0)

    def test_values_that_do_not_go_together_any_more_are_all_left_out(
        self, desk, registry, value, caplog
    ):
        values = {OPEN: 100.0, "shop/circuit_breaker/window_size": 50, SECONDS: 3.0}
        desk.dispatcher.changes._store.keep(values, forget=(), command="1")

        desk.dispatcher.changes.take_in(registry.stack("shop"))

        assert (value(OPEN), value(SECONDS)) == (0.5, 3.0)
        assert f"what was kept of {OPEN} is left out" in caplog.text
        assert "what was kept of shop/circuit_breaker/window_size is left out" in caplog.text

    def test_a_command_that_is_quicker_than_what_was_kept_wins(
        self, desk, registry, value, store_path, monkeypatch
    ):
        store = desk.dispatcher.changes._store
        store.keep({SECONDS: 3.0}, forget=(), command="1")
        looked_up = store.values

        def interrupted(stack):
            found = looked_up(stack)
            if value(SECONDS) == 2.0:
                desk.ask("operator", "set_parameter", path=SECONDS, value=9)
            return found

        monkeypatch.setattr(store, "values", interrupted)
        desk.dispatcher.changes.take_in(registry.stack("shop"))

        assert value(SECONDS) == 9.0
        assert kept(store_path) == {SECONDS: 9.0}

    def test_what_cannot_be_kept_is_not_changed(self, desk, store_path, value, caplog):
        other = sqlite3.connect(store_path)
        other.execute("DROP TABLE parameters")
        other.close()

        error = refused(desk, "operator", "set_parameter", path=SECONDS, value=3)

        assert error.code is Code.UNAVAILABLE
        assert "nothing was changed" in error.message
        assert value(SECONDS) == 2.0
        assert "no such table" in caplog.text

    def test_a_control_plane_that_starts_again_goes_on_with_it(self, registry, tmp_path):
        path = tmp_path / "kept.sqlite"

        def plane(registry):
            return ControlPlane(registry, grpc_port=None, http_port=None, parameters=path)

        Stack("shop", Timeout(2.0), registry=registry)
        with plane(registry) as first:
            first.execute("set_parameter", path=SECONDS, value=3)
            first.execute("set_parameter", path="shop/timeout/idle", value=1, lease=60)
        assert registry.parameter("shop/timeout/idle").get() is None

        afresh = Registry()
        Stack("shop", Timeout(2.0), registry=afresh)
        with plane(afresh) as second:
            assert afresh.parameter(SECONDS).get() == 3.0
            assert second.execute("get_parameter", path=SECONDS).declared == 2.0
            Stack("later", Timeout(2.0), registry=afresh)
            second.execute("set_parameter", path="later/timeout/seconds", value=9)
        with plane(again := Registry()):
            later = Stack("later", Timeout(2.0), registry=again)
            assert later.parameters["timeout/seconds"].get() == 9.0

    def test_what_would_be_kept_in_a_file_that_is_gone_is_not_changed(
        self, desk, store_path, value, caplog
    ):
        store_path.rename(store_path.with_suffix(".old"))

        error = refused(desk, "operator", "set_parameter", path=SECONDS, value=3)

        assert error.code is Code.UNAVAILABLE
        assert value(SECONDS) == 2.0
        assert "No such file" in caplog.text
        ParameterStore(store_path).close()
        refused(desk, "operator", "set_parameter", path=SECONDS, value=3)
        assert "removed or replaced" in caplog.text

    def test_a_value_that_is_no_json_leaves_the_stack_as_declared(
        self, desk, registry, store_path, value, caplog
    ):
        desk.dispatcher.changes._store.keep({SECONDS: 3.0}, forget=(), command="1")
        with sqlite3.connect(store_path) as other:
            other.execute("UPDATE parameters SET value = 'three'")
        other.close()

        desk.dispatcher.changes.take_in(registry.stack("shop"))

        assert value(SECONDS) == 2.0
        assert "shop starts as declared" in caplog.text

    def test_another_database_is_refused(self, tmp_path):
        path = tmp_path / "audit.sqlite"
        AuditLog(path).close()

        with pytest.raises(ConfigError, match="another database"):
            ParameterStore(path)
        with pytest.raises(ConfigError, match="cannot be kept there"):
            ParameterStore(tmp_path / "none" / "parameters.sqlite")

    def test_the_file_is_for_its_owner_only(self, desk, store_path):
        assert store_path.stat().st_mode & 0o777 == 0o600
