"""What the audit tells of commands, and to whom: entries, changes, filters, peers, no secrets."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import Field, SecretStr

from ninelives_control.audit.canonical import canonical, canonical_arguments
from ninelives_control.audit.chain import Status
from ninelives_control.audit.log import Attempt, AuditLog, EntryFilter, Outcome, changes_of
from ninelives_control.audit.redaction import MASK
from ninelives_control.command import Context, Effect, command
from ninelives_control.errors import CommandError
from ninelives_control.identity.identity import Credentials
from ninelives_control.model import Arguments
from ninelives_control.v1 import control_pb2 as pb
from ninelives_grpc.errors import UnknownNameError
from tests.control import added

PATH = "shop/retry/max_attempts"
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"
START = datetime(2026, 11, 1, tzinfo=UTC)


def change(audit, number, arguments, old, new):
    attempt = Attempt(id=f"id-{number}", transport="t", command="c", arguments=canonical(arguments))
    audit.append(attempt, Status.INTENDED)
    audit.append(attempt, Status.SUCCEEDED, old=canonical(old), new=canonical(new))
    return [(each.path, each.old, each.new) for each in changes_of(audit.entry(f"id-{number}"))]


def test_a_plain_value_is_a_change_of_the_path_that_was_named(audit):
    assert change(audit, 1, {"path": PATH}, 3, 5) == [(PATH, 3, 5)]
    assert change(audit, 2, {"path": PATH}, None, 5) == [(PATH, None, 5)]
    assert change(audit, 3, {"path": 7}, "a", "b") == [("", "a", "b")]
    assert change(audit, 4, {}, 1, 2) == [("", 1, 2)]


def test_an_object_is_a_change_for_each_address(audit):
    old, new = {"a/b/c": 3, "a/b/d": None}, {"a/b/d": 2.5, "a/b/e": "x"}

    found = change(audit, 1, {}, old, new)

    assert found == [("a/b/c", 3, None), ("a/b/d", None, 2.5), ("a/b/e", None, "x")]


def test_values_too_long_to_be_kept_are_not_told_in_part(audit):
    old = {f"a/b/{number}": "x" * 100 for number in range(1000)}

    assert change(audit, 1, {}, old, {"a/b/0": 1}) == []


def test_what_was_only_tried_has_changed_nothing(audit):
    assert change(audit, 1, {"path": PATH, "dry_run": True}, 3, 5) == []
    assert change(audit, 2, {"path": PATH}, None, None) == []
    assert len(change(audit, 3, {"path": PATH, "dry_run": False}, 3, 5)) == 1


def test_one_entry_is_found_by_its_id(audit):
    change(audit, 1, {}, 1, 2)

    assert audit.entry("id-1").status is Outcome.SUCCEEDED
    with pytest.raises(UnknownNameError, match="no command in the audit named 'id-9'"):
        audit.entry("id-9")


@pytest.fixture
def dated(audit_path):
    """An audit of five days, of several people."""
    moments = (START + timedelta(days=number // 2) for number in range(100))
    log = AuditLog(audit_path, now=lambda: next(moments))
    for number in range(5):
        about = {"identity": "ada" if number % 2 else "bob", "transport": "grpc"}
        path = f"shop/{'retry' if number < 2 else 'timeout'}/x"
        attempt = Attempt(
            id=f"id-{number}",
            command="set_parameter" if number else "get_state",
            arguments=canonical({"path": path} if number else {"stack": "shop"}),
            **about,
        )
        log.append(attempt, Status.INTENDED)
        if number != 4:
            log.append(attempt, Status.SUCCEEDED if number != 3 else Status.FAILED)
    yield log
    log.close()


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"identity": "ada"}, [1, 3]),
        ({"identity": "Ada"}, []),
        ({"command": "set_parameter", "identity": "bob"}, [2, 4]),
        ({"status": Outcome.FAILED}, [3]),
        ({"status": Outcome.UNFINISHED}, [4]),
        ({"transport": "rest"}, []),
        ({"path": "shop/*/x"}, [1, 2, 3, 4]),
        ({"path": "*/timeout/**"}, [2, 3, 4]),
        ({"path": "shop"}, [0]),
        ({"since": START + timedelta(days=1)}, [1, 2, 3, 4]),
        ({"until": START + timedelta(days=1)}, [0]),
        ({"since": datetime.fromisoformat("2026-11-03T01:00:00+01:00")}, [2, 3, 4]),
        ({"since": START + timedelta(days=1), "path": "**/retry/*"}, [1]),
    ],
)  # fmt: skip
def test_filters_let_through_what_fits_all_of_them(dated, wanted, numbers):
    found = dated.entries(wanted=EntryFilter(**wanted))

    assert [entry.id for entry in found] == [f"id-{number}" for number in numbers]


def test_pages_go_on_where_the_one_before_ended(dated, monkeypatch):
    monkeypatch.setattr("ninelives_control.audit.log._MOST_LOOKED_AT", 2)
    wanted, after, ids = EntryFilter(path="*/timeout/x"), 0, []
    while True:
        page = dated.page(after=after, limit=1, wanted=wanted)
        ids.extend(entry.id for entry in page.entries)
        after = page.next
        if not page.more:
            break

    assert ids == ["id-2", "id-3", "id-4"]
    assert [entry.id for entry in dated.entries(wanted=wanted)] == ids


def test_the_command_tells_who_changed_what(desk):
    desk.ask("operator", "set_parameter", path=PATH, value=5, reason="a try")
    with pytest.raises(CommandError):
        desk.ask("viewer", "set_parameter", path=PATH, value=6)

    first, second = desk.ask("operator", "get_audit").entries

    assert (first.identity, first.role, first.proof) == ("operator", "operator", "token")
    assert (first.status, first.rule) == ("succeeded", "operators-change")
    assert [entry.model_dump() for entry in first.changes] == [{"path": PATH, "old": 3, "new": 5}]
    assert json.loads(first.arguments)["reason"] == "a try"
    assert (second.status, second.reason, second.changes) == ("refused", "permission_denied", [])


def test_the_command_takes_filters_and_goes_on(desk):
    for value in (4, 5, 6):
        desk.ask("admin", "set_parameter", path=PATH, value=value)

    first = desk.ask("admin", "get_audit", path="shop/**", limit=2)
    rest = desk.ask("admin", "get_audit", path="shop/**", after=first.next)
    none = desk.ask("admin", "get_audit", until="2026-01-01T00:00:00Z")

    told = [entry.changes[0].new for entry in (*first.entries, *rest.entries)]
    assert (told, first.more, rest.more) == ([4, 5, 6], True, False)
    assert (none.entries, none.more) == ([], False)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({"since": "yesterday"}, "since"), ({"status": "good"}, "status"), ({"after": -1}, "after"),
     ({"limit": 0}, "limit"), ({"limit": 1001}, "limit"), ({"after": 2**60}, "after")],
)  # fmt: skip
def test_a_filter_that_cannot_be_meant_is_refused(desk, arguments, field):
    with pytest.raises(CommandError) as caught:
        desk.ask("admin", "get_audit", **arguments)

    assert (caught.value.code, caught.value.field) == ("invalid_argument", field)


@pytest.mark.parametrize("role", ["viewer", "agent"])
def test_the_audit_is_not_for_everybody(desk, role):
    with pytest.raises(CommandError) as caught:
        desk.ask(role, "get_audit")

    assert (caught.value.code, caught.value.rule) == (
        "permission_denied",
        "audit-is-for-operators",
    )


def test_values_that_are_not_plain_are_told_as_json(desk, audit):
    change(audit, 1, {}, {"a": [1, 2]}, {"a": {"b": 3}})

    (entry,) = desk.ask("admin", "get_audit").entries

    assert [(told.old, told.new) for told in entry.changes] == [("[1,2]", '{"b":3}')]


def test_an_audit_that_cannot_be_read_says_so(desk, audit):
    audit._connection.execute("DROP TABLE audit")

    with pytest.raises(CommandError) as caught:
        desk.ask("admin", "get_audit")

    assert caught.value.code == "audit_unavailable"


def test_peer_and_proof_are_written_down(desk):
    caller = Credentials(token=desk.tokens["admin"], loopback=True, peer="192.0.2.7:4711")
    stranger = Credentials(peer="192.0.2.8:1")
    arguments = {"path": PATH, "value": 5}

    desk.dispatcher.execute("set_parameter", arguments, caller=caller, transport="desk")
    with pytest.raises(CommandError):
        desk.dispatcher.execute("set_parameter", arguments, caller=stranger, transport="desk")

    known, unknown = desk.entries()
    assert (known.peer, known.proof) == ("192.0.2.7:4711", "token")
    assert (unknown.peer, unknown.proof, unknown.identity) == ("192.0.2.8:1", "", "")
    assert desk.audit.verify().finding is None


def test_a_caller_over_grpc_has_an_address(plane, stub, show):
    request = pb.SetParameterRequest(path=PATH)
    request.value.number_value = 5

    stub.SetParameter(request, metadata=show("admin"))
    plane.execute("set_parameter", path=PATH, value=4)

    (remote, local) = plane.execute("get_audit").entries
    host, _, port = remote.peer.rpartition(":")
    assert (host, port.isdecimal()) == ("127.0.0.1", True)
    assert (local.peer, local.proof) == ("", "in_process")


@pytest.mark.parametrize(
    "arguments",
    [
        {"token": JWT},
        {"accessToken": "swordfish"},
        {"ACCESS_TOKEN": "swordfish"},
        {"password": "swordfish"},
        {"password": {"inner": ["swordfish"]}},
        {"db-password": 4711},
        {"client_secret": "swordfish"},
        {"api_key": "swordfish"},
        {"apiKey": "swordfish"},
        {"headers": {"Authorization": "Bearer swordfish"}},
        {"headers": [{"name": "authorization", "value": "swordfish"}]},
        {"headers": [{"key": "cookie", "value": "swordfish"}]},
        {"note": "try bearer swordfish-swordfish, it works"},
        {"note": f"it was {JWT}"},
        {"note": "ninelives_swordfish"},
        {"note": "-----BEGIN PRIVATE KEY-----\nswordfish\n-----END PRIVATE KEY-----"},
        {"ninelives_swordfish": 1},
        {"deep": [[{"x": {"secret": "swordfish"}}]]},
    ],
)  # fmt: skip
def test_secrets_are_masked_whatever_becomes_of_the_command(desk, arguments):
    for name in ("no_such_command", "set_parameter", "list_stacks"):
        for role in ("admin", None):
            with pytest.raises(CommandError):
                desk.ask(role, name, **arguments)

    for entry in desk.entries():
        assert MASK in entry.arguments
        assert "swordfish" not in entry.arguments
        assert "4711" not in entry.arguments
        assert JWT not in entry.arguments


class Login(Arguments):
    """What to log in with."""

    user: str = Field(description="Who.")
    token: str = Field(description="What is shown.")
    pin: SecretStr = Field(description="For nobody to see.")


@command(Effect.CHANGE)
def log_in(arguments: Login, context: Context) -> added.Noted:
    """Take valid arguments with secrets in them."""
    return added.Noted(text="", by=arguments.token)


def test_secrets_in_valid_arguments_are_masked_too(desk, commands):
    commands.add(log_in)

    desk.ask("admin", "log_in", user="ada", token="swordfish", pin="4711")

    (entry,) = desk.entries()
    assert json.loads(entry.arguments) == {"user": "ada", "token": MASK, "pin": MASK}


def test_a_secret_in_the_name_of_a_command_is_masked(desk):
    with pytest.raises(CommandError):
        desk.ask("admin", f"Bearer {JWT}")

    assert desk.entries()[0].command == MASK


def test_what_is_no_secret_stays():
    arguments = {
        "path": "shop/retry_budget/tokens",
        "key": "customer-7",
        "idempotency_key": "abc",
        "expected_revision": 3,
        "reason": "the token of basic customers, who bear with us",
        "password": None,
        "changes": [{"path": PATH, "value": 5}],
        "shop/retry_budget/tokens": 10,
    }

    assert json.loads(canonical_arguments(arguments)) == arguments
