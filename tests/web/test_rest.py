"""Commands over REST, as a client sees them, and what it is told that goes wrong."""

import json
import threading
import urllib.parse

import pytest
from jsonschema import Draft202012Validator

from ninelives_control.errors import Code
from ninelives_control.transports.http.guard import STATUSES
from tests.control import added
from tests.control.test_golden import TABLE
from tests.web.http_asker import JSON, connected, fetch, received_until

PATH = "shop/retry/max_attempts"


class Rest:
    """Asks, for somebody with the token of a role."""

    def __init__(self, plane, tokens):
        self.plane = plane
        self.tokens = {**tokens, "stranger": "unknown"}

    def headers(self, who, **more):
        named = {name.replace("_", "-"): value for name, value in more.items()}
        token = self.tokens.get(who)
        return named if token is None else {"Authorization": f"Bearer {token}", **named}

    def post(self, name, arguments, who="admin", **headers):
        body = arguments if isinstance(arguments, bytes) else json.dumps(arguments).encode()
        given = JSON | self.headers(who, **headers)
        return fetch(self.plane, "POST", f"/v1/commands/{name}", body, given)

    def get(self, what, who="viewer", headers=None, **query):
        asked = urllib.parse.urlencode(query, doseq=True)
        url = f"/v1/{what}" + (f"?{asked}" if asked else "")
        return fetch(self.plane, "GET", url, headers=self.headers(who) | (headers or {}))


@pytest.fixture
def rest(plane, tokens):
    return Rest(plane, tokens)


def test_a_parameter_is_changed(rest, shop, entries):
    answer = rest.post("set_parameter", {"path": PATH, "value": 5, "reason": "try"})

    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json["new"] == 5
    assert answer.headers["ETag"].startswith(f'"{answer.json["revision"]}-')
    assert shop.policy("retry").policy.max_attempts == 5
    written = entries()[-1]
    assert (written.transport, written.command) == ("rest", "set_parameter")


def test_what_only_reads_can_be_got(rest):
    got = rest.get("commands/list_parameters", match="*/retry/*", limit=2)
    posted = rest.post("list_parameters", {"match": "*/retry/*", "limit": 2}, "viewer")

    assert got.status == posted.status == 200
    assert got.json == posted.json
    assert len(got.json["parameters"]) == 2


def test_the_commands_are_listed(rest):
    assert rest.get("commands").json == rest.get("commands/list_commands").json
    assert rest.get("commands", match="list_*").json["total"] < rest.get("commands").json["total"]


def test_a_list_is_asked_for_by_a_name_given_again(rest, shop):
    shop.parameters["retry/max_attempts"].set(4, by="test")

    kinds = ["ParameterChanged", "CircuitOpened"]
    answer = rest.get("commands/list_events", kinds=kinds)

    assert [event["name"] for event in answer.json["events"]] == ["ParameterChanged"]
    assert rest.get("commands/list_events", kinds="CircuitOpened").json["events"] == []


def test_what_changes_something_is_not_got(rest):
    answer = rest.get("commands/set_parameter", "admin", path=PATH, value=5)

    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


def test_what_is_known_already_is_not_sent_again(rest, shop):
    first = rest.get("commands/get_parameter", path=PATH)
    tag = first.headers["ETag"]

    known = rest.get("commands/get_parameter", headers={"If-None-Match": tag}, path=PATH)
    shop.parameters["retry/max_attempts"].set(4, by="test")
    changed = rest.get("commands/get_parameter", headers={"If-None-Match": tag}, path=PATH)

    assert (known.status, known.body, known.headers["ETag"]) == (304, b"", tag)
    assert (changed.status, changed.json["value"]) == (200, 4)


def test_a_policy_in_another_state_is_sent_again(rest, shop):
    path = "shop/circuit_breaker"
    tag = rest.get("commands/describe_policy", path=path).headers["ETag"]

    shop.call(len, "abc")
    again = rest.get("commands/describe_policy", headers={"If-None-Match": tag}, path=path)

    assert again.status == 200
    assert again.headers["ETag"] != tag


def test_a_list_has_a_tag_as_well(rest):
    tag = rest.get("commands/list_stacks").headers["ETag"]

    assert tag.startswith('W/"')
    assert rest.get("commands/list_commands").headers["ETag"] != tag


def test_a_conflict_with_a_lease_is_no_failed_precondition(rest):
    rest.post("set_parameter", {"path": PATH, "value": 4, "lease": 600})
    tag = rest.get("commands/get_parameter", path=PATH).headers["ETag"]

    answer = rest.post("set_parameter", {"path": PATH, "value": 5, "lease": 60}, If_Match=tag)

    assert (answer.status, answer.json["field"]) == (409, "lease")


def test_a_change_is_made_only_to_what_was_seen(rest, shop):
    tag = rest.get("commands/get_parameter", path=PATH).headers["ETag"]
    change = {"path": PATH, "value": 7}

    first = rest.post("set_parameter", change, If_Match=tag)
    second = rest.post("set_parameter", change | {"value": 8}, If_Match=tag)

    assert (first.status, second.status) == (200, 412)
    assert second.json["code"] == "conflict"
    assert second.json["revision"] == first.json["revision"]
    assert shop.policy("retry").policy.max_attempts == 7


@pytest.mark.parametrize(
    ("command", "arguments", "match", "said"),
    [
        ("set_parameter", {"path": PATH, "value": 7}, "*", "one entity tag"),
        ("set_parameter", {"path": PATH, "value": 7}, '"1", "2"', "one entity tag"),
        ("set_parameter", {"path": PATH, "value": 7, "expected_revision": 9}, '"1"', "differ"),
        ("list_stacks", {}, '"1"', "takes no If-Match"),
    ],
)
def test_a_tag_that_can_not_be_meant_is_refused(command, arguments, match, said, rest, shop):
    answer = rest.post(command, arguments, If_Match=match)

    assert (answer.status, answer.json["code"]) == (400, "invalid_argument")
    assert said in answer.json["detail"]
    assert shop.policy("retry").policy.max_attempts == 3


@pytest.mark.parametrize("bad", TABLE, ids=[bad.why for bad in TABLE])
def test_every_error_has_its_status_and_sentence(bad, plane, rest, shop, entries):
    for entry in added.ALL:
        plane.commands.add(entry)
    before = [live.policy for live in shop.policies.values()]

    answer = rest.post(bad.command, bad.arguments, bad.who)

    assert answer.status == STATUSES[bad.code]
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["code"] == bad.code
    assert answer.json["detail"]
    assert answer.json.get("field", "") == bad.field
    assert ("WWW-Authenticate" in answer.headers) == (bad.code is Code.UNAUTHENTICATED)
    assert [live.policy for live in shop.policies.values()] == before
    assert added.SECRET not in answer.text
    assert entries()[-1].transport == "rest"


@pytest.mark.parametrize(
    "body", [b"[]", b"5", b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000, b'"x"', b"null"]
)
def test_a_body_that_is_no_object_is_refused_and_written_down(body, rest, entries):
    answer = rest.post("list_stacks", body)

    assert (answer.status, answer.json["code"]) == (400, "invalid_argument")
    assert "JSON object" in answer.json["detail"]
    assert (entries()[-1].command, entries()[-1].transport) == ("list_stacks", "rest")


def test_nothing_said_is_no_argument(rest):
    assert rest.post("list_stacks", b"").json == rest.post("list_stacks", {}).json


def test_a_command_that_is_added_is_served_at_once(plane, rest):
    plane.commands.add(added.note)

    assert rest.post(added.note.name, {"text": "x"}).status == 200
    document = rest.get("openapi.json").json
    assert f"/v1/commands/{added.note.name}" in document["paths"]


def test_the_description_has_schemas_that_are_some(rest):
    document = rest.get("openapi.json").json

    assert document["openapi"] == "3.1.0"
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_the_description_is_for_those_who_may_ask(rest):
    assert rest.get("openapi.json", "nobody").status == 401


def test_events_are_sent_as_they_come(plane, tokens, shop, ended):
    head = (
        "GET /v1/watch?kinds=ParameterChanged&stack=shop HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {tokens['viewer']}\r\n\r\n"
    )
    with connected(plane, head.encode()) as connection:
        opening = received_until(connection, b"\n\n\r\n")
        shop.parameters["retry/max_attempts"].set(4, by="test", reason="look")
        change = received_until(connection, b"ParameterChanged")

    assert b"text/event-stream" in opening
    assert b"event: state\ndata: {" in opening
    assert b"event: events\ndata: {" in change
    assert ended.wait(10)


@pytest.mark.parametrize(
    ("query", "who", "status"),
    [({}, "nobody", 401), ({"stack": "shp"}, "viewer", 404), ({"nonsense": "1"}, "viewer", 400)],
)
def test_a_watch_that_can_not_be_is_a_problem(query, who, status, rest):
    answer = rest.get("watch", who, **query)

    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_stream_ends_with_the_reason_when_the_control_plane_stops(plane, tokens):
    head = (
        "GET /v1/watch HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {tokens['viewer']}\r\n\r\n"
    )
    with connected(plane, head.encode()) as connection:
        received_until(connection, b"event: state")
        stopping = threading.Thread(target=plane.stop)
        stopping.start()
        last = received_until(connection, b"event: error")
        while b"unavailable" not in last:
            last += connection.recv(65536)
        stopping.join(10)

    assert not stopping.is_alive()


def test_nobody_reads_what_may_be_secret_from_a_store(rest):
    assert rest.get("commands/list_stacks").headers["Cache-Control"] == "no-cache"
