"""The protocol graphql-transport-ws, for clients that do not keep to it."""

import json

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ninelives_control.transports.http.server import LARGEST_MESSAGE
from tests.web.websocket_asker import begin, receive, send, subscribed, websocket

WATCH = "subscription { events { dropped } }"


def closed(connection):
    """Return the code and the reason with which it is closed."""
    with pytest.raises(ConnectionClosed) as caught:
        list(connection)
    return caught.value.rcvd.code, caught.value.rcvd.reason


MESSAGES = {
    "no JSON": "{",
    "no object": "[]",
    "no type": "{}",
    "another type": '{"type": "unheard"}',
    "no payload": '{"type": "subscribe", "id": "1"}',
    "no query": '{"type": "subscribe", "id": "1", "payload": {}}',
    "an id that is a number": '{"type": "subscribe", "id": 1, "payload": {"query": "{ a }"}}',
    "an id that is an object": '{"type": "complete", "id": {}}',
    "variables that are a list": (
        '{"type": "subscribe", "id": "1", "payload": {"query": "{ a }", "variables": []}}'
    ),
    "a name that is a number": (
        '{"type": "subscribe", "id": "1", "payload": {"query": "{ a }", "operationName": 1}}'
    ),
    "bytes": b"{}",
    "nesting without end": '{"a":' * 50_000,
}


@pytest.mark.parametrize("why", MESSAGES)
def test_what_is_no_message_ends_the_connection_and_leaves_no_trace(why, plane, tokens, caplog):
    with websocket(plane, tokens["viewer"]) as connection:
        begin(connection)

        connection.send(MESSAGES[why])

        assert closed(connection)[0] == 4400
    assert "Traceback" not in caplog.text
    assert plane.execute("list_stacks").total == 1


def test_a_message_that_is_too_large_ends_the_connection(plane, tokens):
    with websocket(plane, tokens["viewer"]) as connection:
        begin(connection)

        connection.send(" " * (LARGEST_MESSAGE + 1))

        assert closed(connection)[0] == 1009


def test_nothing_is_run_before_the_connection_has_begun(plane, tokens):
    with websocket(plane, tokens["viewer"]) as connection:
        send(connection, type="subscribe", id="1", payload={"query": WATCH})

        assert closed(connection)[0] == 4401


def test_another_subprotocol_is_not_spoken(plane, tokens):
    with websocket(plane, tokens["viewer"], subprotocols=None) as connection:
        assert closed(connection)[0] == 4406


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/nothing"])
def test_there_are_no_websockets_elsewhere(path, plane, tokens):
    with (
        pytest.raises(InvalidStatus) as caught,
        websocket(plane, tokens["viewer"], path=path),
    ):
        raise AssertionError
    assert caught.value.response.status_code == 403


def test_pages_of_another_origin_open_no_websocket(plane, tokens, caplog):
    with (
        pytest.raises(InvalidStatus) as caught,
        websocket(plane, tokens["viewer"], origin="http://evil.example"),
    ):
        raise AssertionError
    assert caught.value.response.status_code == 403
    assert "ERROR" not in caplog.text


def test_pages_of_its_own_origin_do(plane, tokens, url):
    with websocket(plane, tokens["viewer"], origin=url) as connection:
        begin(connection)


def test_one_connection_has_a_limited_number_of_subscriptions(plane, tokens):
    with subscribed(plane, tokens["viewer"], WATCH) as connection:
        for number in range(2, 22):
            send(connection, type="subscribe", id=str(number), payload={"query": WATCH})
        told = {}
        while len(told) < 21:
            message = receive(connection)
            told[message["id"]] = message

    refused = told.pop("21")
    assert refused["type"] == "error"
    assert refused["payload"][0]["extensions"] == {"code": "unavailable"}
    assert {message["type"] for message in told.values()} == {"next"}


def test_who_completes_a_subscription_ends_the_watch(plane, tokens, ended):
    with subscribed(plane, tokens["viewer"], WATCH) as connection:
        receive(connection)

        send(connection, type="complete", id="1")

        assert ended.wait(10)
        send(connection, type="ping")
        assert receive(connection) == {"type": "pong"}


@pytest.mark.parametrize(
    "document", ["{ listStacks { totl } }", "{", "", "fragment A on Query { a }"]
)
def test_an_error_of_the_document_has_a_code(document, plane, tokens):
    with subscribed(plane, tokens["viewer"], document) as connection:
        message = receive(connection)

    assert (message["type"], message["id"]) == ("error", "1")
    assert message["payload"][0]["extensions"] == {"code": "invalid_argument"}


def test_variables_and_names_of_operations_are_taken(plane, tokens):
    query = """
    query A { a: listStacks { total } }
    query B($n: Long) { b: listStacks(limit: $n) { total } }
    """
    payload = {"query": query, "variables": {"n": 1}, "operationName": "B"}
    with websocket(plane, tokens["viewer"]) as connection:
        begin(connection)

        send(connection, type="subscribe", id="1", payload=payload)

        assert receive(connection)["payload"] == {"data": {"b": {"total": 1}}}
        assert json.loads(connection.recv()) == {"id": "1", "type": "complete"}
