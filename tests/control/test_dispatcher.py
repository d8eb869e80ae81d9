import json
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ninelives_control.audit.entries import Outcome
from ninelives_control.audit.log import AuditLog
from ninelives_control.authorization.rules import DEFAULT_RULES, Rule, Verdict
from ninelives_control.errors import Code, CommandError
from ninelives_control.identity.identity import APPLICATION, Credentials, Identity, Proof, Role
from tests.control import added
from tests.control.desk import Desk, arguments_of

PATH = "shop/retry/max_attempts"


@pytest.fixture
def with_added(commands):
    for entry in added.ALL:
        commands.add(entry)


def test_a_change_stands_in_the_audit_once_with_who_and_what(desk, shop):
    changed = desk.ask("operator", "set_parameter", path=PATH, value=5, reason="a try")

    assert (changed.old, changed.new, shop.parameters["retry/max_attempts"].get()) == (3, 5, 5)
    (entry,) = desk.entries()
    assert (entry.identity, entry.role, entry.transport) == ("operator", "operator", "desk")
    assert (entry.command, entry.status, entry.old, entry.new) == (
        "set_parameter",
        "succeeded",
        3,
        5,
    )
    assert arguments_of(entry) == {"path": PATH, "value": 5, "reason": "a try"}
    assert (entry.reason, entry.rule) == ("", "operators-change")


def test_intent_and_outcome_are_two_rows_of_one_chain(desk):
    desk.ask("operator", "set_parameter", path=PATH, value=5)

    assert desk.audit.verify().head.seq == 2


def test_the_event_of_a_change_says_by_whom_and_why(desk):
    desk.ask("operator", "set_parameter", path=PATH, value=5, reason="a try")

    (event,) = desk.events.events
    assert (event.by, event.reason, event.old, event.new) == ("operator", "a try", 3, 5)


def test_the_intent_is_written_before_the_command_runs(desk, commands):
    seen = []

    @commands.command(added.Effect.CHANGE)
    def look(arguments: added.Note, context: added.Context) -> added.Noted:
        """Look into the audit."""
        seen.extend(desk.entries())
        return added.Noted(text="", by="")

    desk.ask("operator", "look")

    assert [entry.status for entry in seen] == [Outcome.UNFINISHED]


def test_reading_is_not_audited_unless_asked_for(
    registry, shop, commands, audit, tokens, tokens_path
):
    desk = Desk(registry, commands, audit, tokens, tokens_path, audit_reads=True)

    desk.ask("viewer", "get_parameter", path=PATH)

    assert [entry.command for entry in desk.entries()] == ["get_parameter"]


def test_reading_is_not_audited_by_default_but_its_failure_is(desk):
    desk.ask("viewer", "get_parameter", path=PATH)
    assert desk.entries() == []

    with pytest.raises(CommandError):
        desk.ask("viewer", "get_parameter", path="shop/retry/nothing")

    (entry,) = desk.entries()
    assert (entry.command, entry.status, entry.reason) == ("get_parameter", "failed", "not_found")


def test_who_is_not_known_learns_nothing_of_commands_and_arguments(desk):
    for name, arguments in (("nothing", {}), ("set_parameter", {"x": 1}), ("get_state", {})):
        with pytest.raises(CommandError) as caught:
            desk.dispatcher.execute(name, arguments, caller=Credentials(), transport="desk")

        assert caught.value.code is Code.UNAUTHENTICATED
    assert [entry.identity for entry in desk.entries()] == ["", "", ""]


def test_who_may_not_learns_nothing_of_arguments(desk):
    with pytest.raises(CommandError) as caught:
        desk.ask("viewer", "set_parameter", nonsense=True)

    assert caught.value.code is Code.PERMISSION_DENIED


def test_a_refusal_names_its_rule(registry, shop, commands, audit, tokens, tokens_path):
    deny = Rule(id="hands-off", roles=(Role.OPERATOR,), verdict=Verdict.DENY, paths=("shop/**",))
    desk = Desk(registry, commands, audit, tokens, tokens_path, rules=[deny, *DEFAULT_RULES])

    with pytest.raises(CommandError, match="rule hands-off denies set_parameter") as caught:
        desk.ask("operator", "set_parameter", path=PATH, value=5)

    assert caught.value.rule == "hands-off"
    (entry,) = desk.entries()
    assert (entry.status, entry.reason, entry.rule) == ("refused", "permission_denied", "hands-off")


def test_somebody_anonymous_is_told_what_is_missing(
    registry, shop, commands, audit, tokens, tokens_path
):
    desk = Desk(registry, commands, audit, tokens, tokens_path, anonymous=True)

    assert desk.ask(None, "list_stacks").total == 1
    with pytest.raises(CommandError, match="you have shown no token"):
        desk.ask(None, "set_parameter", path=PATH, value=5)


def test_an_agent_is_kept_within_bounds_and_told_which(desk, shop):
    assert desk.ask("agent", "set_parameter", path=PATH, value=12).new == 12

    with pytest.raises(CommandError, match=r"numbers from 0\.75 to 12, as 3 is declared") as caught:
        desk.ask("agent", "set_parameter", path=PATH, value=13)

    assert caught.value.code is Code.PERMISSION_DENIED
    assert shop.parameters["retry/max_attempts"].get() == 12


def test_bounds_do_not_wander_with_the_value(desk):
    desk.ask("operator", "set_parameter", path=PATH, value=100)

    with pytest.raises(CommandError, match="as 3 is declared"):
        desk.ask("agent", "set_parameter", path=PATH, value=50)


def test_a_parameter_that_is_not_there_is_not_found_before_its_bounds(desk):
    with pytest.raises(CommandError) as caught:
        desk.ask("agent", "set_parameter", path="shop/retry/nothing", value=5)

    assert (caught.value.code, caught.value.field) == (Code.NOT_FOUND, "path")


def test_what_nobody_foresaw_is_logged_and_not_told(desk, with_added, caplog):
    for name in ("stumble", "stumble_reading"):
        with pytest.raises(CommandError) as caught:
            desk.ask("operator", name)

        entry = desk.entries()[-1]
        assert caught.value.code is Code.INTERNAL
        assert added.SECRET not in str(caught.value)
        assert caught.value.__suppress_context__
        assert entry.id in caught.value.message
        assert (entry.status, entry.reason) == ("failed", "internal")
        assert added.SECRET in caplog.text
        assert entry.id in caplog.text


def test_a_result_of_another_kind_is_nothing_that_was_foreseen(desk, with_added, caplog):
    with pytest.raises(CommandError) as caught:
        desk.ask("operator", "mistake")

    assert caught.value.code is Code.INTERNAL
    assert "mistake returned" in caplog.text


def test_a_command_says_no_in_its_own_words(desk, with_added):
    with pytest.raises(CommandError, match="come back tomorrow") as caught:
        desk.ask("operator", "decline")

    assert caught.value.code is Code.UNAVAILABLE
    assert desk.entries()[0].reason == "unavailable"


def test_secrets_in_arguments_do_not_reach_the_audit(desk, with_added):
    desk.ask("operator", "note", password="swordfish")

    assert arguments_of(desk.entries()[0]) == {"password": "**********"}


def test_old_and_new_of_an_added_command_reach_the_audit(desk, with_added):
    desk.ask("operator", "move")

    assert (desk.entries()[0].old, desk.entries()[0].new) == (1, 2)


def test_what_is_destructive_is_for_admins(desk, with_added):
    with pytest.raises(CommandError, match="the role admin may"):
        desk.ask("operator", "erase")

    assert desk.ask("admin", "erase").text == "gone"


def test_the_application_needs_no_token_and_is_audited_too(desk):
    desk.dispatcher.execute(
        "set_parameter", {"path": PATH, "value": 5}, caller=APPLICATION, transport="local"
    )

    assert desk.entries()[0].identity == "application"


def test_the_application_may_act_for_somebody_with_less(desk):
    guest = Identity(name="guest", role=Role.VIEWER, proof=Proof.IN_PROCESS)

    with pytest.raises(CommandError):
        desk.dispatcher.execute("set_parameter", {}, caller=guest, transport="local")


def test_strange_arguments_are_audited_as_well_as_they_can_be(desk):
    loop: list = []
    loop.append(loop)
    for name, arguments in (
        ("\ud800" + "x" * 1000, {}),
        ("set_parameter", {"path": object(), "value": loop}),
        ("set_parameter", {"value": "y" * 100_000}),
        ("set_parameter", {3: 4}),
    ):
        with pytest.raises(CommandError) as caught:
            desk.dispatcher.execute(name, arguments, caller=desk.caller("admin"), transport="desk")
        assert caught.value.code in {Code.UNKNOWN_COMMAND, Code.INVALID_ARGUMENT}

    entries = desk.entries()
    assert len(entries) == 4
    assert all(json.loads(entry.arguments) is not None for entry in entries)
    assert len(entries[0].command) == 100
    assert desk.audit.verify().finding is None


@pytest.fixture
def file_desk(registry, shop, commands, tokens, tokens_path, audit_path):
    log = AuditLog(audit_path, patience=0.01)
    desk = Desk(registry, commands, log, tokens, tokens_path)
    yield desk
    log.close()


def test_what_cannot_be_written_down_does_not_run(file_desk, shop, audit_path, caplog):
    other = sqlite3.connect(audit_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    for role in ("operator", "viewer"):
        with pytest.raises(CommandError, match="the command did not run") as caught:
            file_desk.ask(role, "set_parameter", path=PATH, value=5)
        assert caught.value.code is Code.AUDIT_UNAVAILABLE

    other.execute("ROLLBACK")
    other.close()
    assert shop.parameters["retry/max_attempts"].get() == 3
    assert file_desk.entries() == []
    assert "database is locked" in caplog.text


def test_an_outcome_that_cannot_be_written_down_is_told(file_desk, commands, audit_path):
    other = sqlite3.connect(audit_path, isolation_level=None)

    @commands.command(added.Effect.CHANGE)
    def lock(arguments: added.Note, context: added.Context) -> added.Noted:
        """Keep the audit from being written."""
        other.execute("BEGIN IMMEDIATE")
        return added.Noted(text="", by="")

    with pytest.raises(CommandError, match="but the command has run") as caught:
        file_desk.ask("operator", "lock")

    other.execute("ROLLBACK")
    other.close()
    assert caught.value.code is Code.AUDIT_UNAVAILABLE
    (entry,) = file_desk.entries()
    assert file_desk.audit.verify().unfinished == (entry.id,)


def test_commands_run_at_once_in_several_threads(desk, commands):
    running, end, hold = added.blocking()
    commands.add(hold)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(desk.ask, "operator", "hold")
        assert running.wait(10)

        assert desk.ask("operator", "set_parameter", path=PATH, value=5).new == 5

        end.set()
        assert held.result().text == "held"
    assert desk.audit.verify().finding is None
    assert desk.audit.verify().unfinished == ()


def test_of_two_that_expect_the_same_revision_one_wins(desk):
    start = threading.Barrier(2)

    def change(value: int) -> str:
        start.wait()
        try:
            desk.ask("operator", "set_parameter", path=PATH, value=value, expected_revision=1)
        except CommandError as error:
            return f"{error.code} with {error.revision}"
        return "changed"

    with ThreadPoolExecutor(2) as pool:
        results = sorted(pool.map(change, (4, 5)))

    assert results == ["changed", "conflict with 2"]


class Times:
    """Times that pass when they are told to."""

    def __init__(self):
        self.seconds = 0.0

    def now(self):
        return self.seconds


@pytest.fixture
def bound(registry, shop, commands, audit, tokens, tokens_path):
    """A desk at which agents change little, seldom, and with a reason."""
    few = Rule(id="few", roles=(Role.AGENT,), step=2.0, changes_per_hour=2, reason_required=True)
    times = Times()
    desk = Desk(registry, commands, audit, tokens, tokens_path, rules=[few], now=times.now)
    desk.times = times
    yield desk
    desk.close()


def refused(desk, **arguments):
    with pytest.raises(CommandError) as caught:
        desk.ask("agent", "set_parameter", path=PATH, **arguments)
    assert (caught.value.code, caught.value.rule) == (Code.PERMISSION_DENIED, "few")
    return caught.value.message


def test_steps_are_measured_from_the_value_that_runs(bound, shop):
    shop.parameters["retry/max_attempts"].set(10)

    assert "from 5 to 20, as it is 10 now" in refused(bound, value=21, reason="more")
    bound.ask("agent", "set_parameter", path=PATH, value=20, reason="more")


def test_a_reason_is_looked_for_in_the_arguments(bound):
    assert "say why in the argument reason" in refused(bound, value=4)


def test_changes_are_counted_when_they_are_made_and_dry_runs_are_not(bound):
    for _ in range(3):
        bound.ask("agent", "set_parameter", path=PATH, value=4, reason="x", dry_run=True)
    for value in (4, 5):
        bound.ask("agent", "set_parameter", path=PATH, value=value, reason="x")

    assert "2 changes an hour" in refused(bound, value=4, reason="x")
    assert "2 changes an hour" in refused(bound, value=4, reason="x", dry_run=True)
    bound.ask("agent", "get_parameter", path=PATH)
    bound.times.seconds = 3600.0
    bound.ask("agent", "set_parameter", path=PATH, value=4, reason="x")


def test_of_changes_at_once_no_more_are_made_than_allowed(bound, shop):
    def change(_):
        try:
            bound.ask("agent", "set_parameter", path=PATH, value=4, reason="x")
        except CommandError as error:
            return error.code
        return None

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(change, range(20)))

    assert ends.count(None) == 2
    assert set(ends) == {None, Code.PERMISSION_DENIED}
    assert [entry.status for entry in bound.entries()].count("succeeded") == 2
    assert bound.audit.verify().unfinished == ()
