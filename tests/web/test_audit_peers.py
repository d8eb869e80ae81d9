"""The audit knows the address of whoever asks over HTTP, in whichever way."""

import json

import pytest

from ninelives_control.transports.http.guard import caller_of
from tests.web.http_asker import JSON, fetch, post
from tests.web.websocket_asker import receive, send, websocket

PATH = "shop/retry/max_attempts"
CHANGE = f'mutation {{ setParameter(path: "{PATH}", value: 5) {{ new }} }}'


def over_rest(plane, token):
    body = json.dumps({"path": PATH, "value": 5}).encode()
    # What a caller says of its own address is not believed.
    headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "192.0.2.1"}
    answer = fetch(plane, "POST", "/v1/commands/set_parameter", body, JSON | headers)
    assert answer.status == 200


def over_graphql(plane, token):
    assert post(plane, CHANGE, token).json["data"]


def over_a_websocket(plane, token):
    with websocket(plane, token, additional_headers={}) as connection:
        shown = {"authorization": f"Bearer {token}"}
        send(connection, type="connection_init", payload=shown)
        receive(connection)
        send(connection, type="subscribe", id="1", payload={"query": CHANGE})
        assert receive(connection)["payload"]["data"]


@pytest.mark.parametrize("way", [over_rest, over_graphql, over_a_websocket])
def test_the_address_of_a_caller_is_written_down(plane, tokens, entries, way):
    way(plane, tokens["admin"])

    (entry,) = entries()
    host, _, port = entry.peer.rpartition(":")
    assert (host, port.isdecimal(), entry.proof) == ("127.0.0.1", True, "token")


@pytest.mark.parametrize(
    ("client", "peer"),
    [(("::1", 4711), "[::1]:4711"), (("192.0.2.1", 1), "192.0.2.1:1"), (None, "unix"),
     (("", 0), "unix")],
)  # fmt: skip
def test_addresses_are_written_as_in_a_url(client, peer):
    assert caller_of({"type": "http", "headers": [], "client": client}).peer == peer
