"""Sessions of older clients, looked at as HTTP."""

import httpx2
import pytest

from ninelives_control import ControlPlane
from ninelives_control.identity import tokens as token_file
from ninelives_control.transports.mcp import endpoint as mcp_http

from .clients import LEGACY, PATIENCE

ACCEPT = {"accept": "application/json, text/event-stream"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": LEGACY,
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}


@pytest.fixture
def http(url):
    with httpx2.Client(base_url=url, headers=ACCEPT, timeout=PATIENCE, verify=False) as client:
        yield client


@pytest.fixture
def show(tokens):
    return lambda role: {"authorization": f"Bearer {tokens[role]}"}


def opened(http, headers):
    """Open a session and return the headers to go on with."""
    answer = http.post("/mcp", json=INITIALIZE, headers=headers)
    assert answer.status_code == 200
    session = {"mcp-session-id": answer.headers["mcp-session-id"]}
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    http.post("/mcp", json=ready, headers={**headers, **session}).raise_for_status()
    return session


def test_a_session_belongs_to_the_token_that_opened_it(http, show, tokens, tokens_path):
    session = opened(http, show("viewer"))
    other = {"authorization": f"Bearer {token_file.create(tokens_path, 'other', 'viewer')}"}

    for who in (other, show("admin")):
        assert http.post("/mcp", json=LIST, headers={**session, **who}).status_code == 404
        assert http.delete("/mcp", headers={**session, **who}).status_code == 404
    assert http.post("/mcp", json=LIST, headers={**session, **show("viewer")}).status_code == 200


def test_a_session_without_a_token_is_for_those_without(registry, shop, tokens, tokens_path, show):
    with (
        ControlPlane(
            registry, grpc_port=None, http_port=0, tokens=tokens_path, anonymous=True
        ) as plane,
        httpx2.Client(
            base_url=f"http://127.0.0.1:{plane.http_port}", headers=ACCEPT, verify=False
        ) as http,
    ):
        session = opened(http, {})

        assert "list_stacks" in http.post("/mcp", json=LIST, headers=session).text
        refused = http.post("/mcp", json=LIST, headers={**session, **show("admin")})
        assert refused.status_code == 404


@pytest.mark.parametrize("request_", [INITIALIZE, LIST], ids=lambda each: each["method"])
def test_who_is_not_known_is_told_so_by_http_and_written_down_once(http, show, entries, request_):
    session = opened(http, show("viewer"))
    for who, said in (({}, "show a token"), ({"authorization": "Bearer x"}, "is unknown")):
        last = len(entries())

        answer = http.post("/mcp", json=request_, headers={**session, **who})

        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert (answer.json()["code"], said in answer.json()["detail"]) == ("unauthenticated", True)
        (entry,) = entries()[last:]
        assert (entry.transport, entry.command, entry.identity) == ("mcp", "mcp", "")
        assert (entry.status, entry.reason) == ("refused", "unauthenticated")


def test_a_token_that_was_removed_is_unknown_in_its_session_too(http, show, tokens_path):
    session = {**opened(http, show("viewer")), **show("viewer")}
    assert "list_stacks" in http.post("/mcp", json=LIST, headers=session).text

    token_file.remove(tokens_path, "viewer")

    answer = http.post("/mcp", json=LIST, headers=session)
    assert (answer.status_code, "the token is unknown" in answer.text) == (401, True)


def test_a_session_ends_when_its_client_says_so(http, show):
    session = {**opened(http, show("viewer")), **show("viewer")}

    assert http.delete("/mcp", headers=session).status_code == 200
    assert http.post("/mcp", json=LIST, headers=session).status_code == 404


def test_nobody_looks_into_what_is_too_large(http, show, plane):
    arguments = {"path": "x" * 2**20, "value": 1}
    call = {**LIST, "method": "tools/call", "params": {"name": "x", "arguments": arguments}}

    answer = http.post("/mcp", json=call, headers=show("admin"))

    assert answer.status_code == 413
    (entry,) = plane.dispatcher._journal._audit.entries()
    assert (entry.transport, entry.identity, entry.status) == ("http", "", "refused")
    assert "POST /mcp" in entry.arguments
    assert "xxx" not in entry.arguments


def test_other_methods_of_http_are_not_served(http, show):
    answer = http.put("/mcp", json=LIST, headers=show("admin"))

    assert answer.status_code == 405


class TestBounds:
    """With bounds that a test can reach."""

    @pytest.fixture
    def plane(self, monkeypatch, request):
        for name, value in request.param.items():
            monkeypatch.setattr(mcp_http, name, value)
        return request.getfixturevalue("plane")

    @pytest.mark.parametrize("plane", [{"_MOST_SESSIONS": 2}], indirect=True)
    def test_there_are_only_so_many_sessions(self, http, show, plane):
        first, _ = (opened(http, show("viewer")) for _ in range(2))
        first |= show("viewer")

        assert http.post("/mcp", json=INITIALIZE, headers=show("viewer")).status_code == 503

        assert http.post("/mcp", json=LIST, headers=first).status_code == 200
        http.delete("/mcp", headers=first)
        opened(http, show("viewer"))

    @pytest.mark.parametrize("plane", [{"_IDLE": 0.001}], indirect=True)
    def test_a_session_ends_that_nobody_uses(self, http, show, plane):
        answer = http.post("/mcp", json=INITIALIZE, headers=show("viewer"))
        session = {"mcp-session-id": answer.headers["mcp-session-id"], **show("viewer")}

        for _ in range(1000):
            if http.post("/mcp", json=LIST, headers=session).status_code == 404:
                return
        pytest.fail("the session did not end")
