"""What clients are told that need a token of the identity provider."""

from dataclasses import replace

import pytest

from ninelives_control import ControlPlane
from ninelives_grpc import Registry, Retry, Stack
from tests.control.issuer import URL, Issuer
from tests.web.http_asker import JSON, fetch

METADATA = "/.well-known/oauth-protected-resource/mcp"
PATH = "shop/retry/max_attempts"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    return Issuer(tmp_path_factory.mktemp("issuer") / "jwks.json")


@pytest.fixture(scope="module")
def plane(issuer):
    registry = Registry()
    Stack("shop", Retry(3), registry=registry)
    with ControlPlane(registry, grpc_port=None, http_port=0, jwt=issuer.settings) as plane:
        yield plane


@pytest.fixture
def entries(plane):
    """Return what was written down in the audit since the test began."""
    audit = plane.dispatcher._journal._audit
    last = max((entry.seq for entry in audit.entries()), default=0)
    return lambda: audit.entries(after=last)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/mcp"), ("GET", "/mcp"), ("GET", "/v1/commands"), ("GET", "/v1/watch")],
)
def test_who_is_not_known_is_told_where_to_ask(plane, issuer, method, path, entries):
    place = f'resource_metadata="http://127.0.0.1:{plane.http_port}{METADATA}"'

    without = fetch(plane, method, path, b"{}" if method == "POST" else None, JSON)
    expired = fetch(plane, method, path, None, JSON | bearer(issuer.token(exp=1)))

    assert (without.status, without.headers["WWW-Authenticate"]) == (401, f"Bearer {place}")
    told = expired.headers["WWW-Authenticate"]
    assert (expired.status, told) == (401, f'Bearer error="invalid_token", {place}')
    assert f"ask {URL} for another" in expired.json["detail"]
    assert [entry.reason for entry in entries()] == ["unauthenticated"] * 2


def test_everybody_may_read_whom_to_ask(plane):
    answer = fetch(plane, "GET", METADATA)

    assert answer.status == 200
    assert answer.json == {
        "resource": f"http://127.0.0.1:{plane.http_port}/mcp",
        "authorization_servers": [URL],
        "bearer_methods_supported": ["header"],
    }


def test_behind_a_proxy_the_resource_has_the_name_that_clients_know(registry, shop, issuer):
    settings = replace(issuer.settings, resource="https://control.example/mcp")
    with ControlPlane(registry, grpc_port=None, http_port=0, jwt=settings) as plane:
        assert fetch(plane, "GET", METADATA).json["resource"] == "https://control.example/mcp"
        told = fetch(plane, "GET", "/v1/commands").headers["WWW-Authenticate"]
        assert told == f'Bearer resource_metadata="https://control.example{METADATA}"'


def test_without_an_identity_provider_nobody_is_sent_there(registry, tokens, tokens_path):
    with ControlPlane(registry, grpc_port=None, http_port=0, tokens=tokens_path) as plane:
        assert fetch(plane, "GET", METADATA).status == 404
        assert fetch(plane, "GET", "/v1/commands").headers["WWW-Authenticate"] == "Bearer"


def test_a_token_of_the_identity_provider_is_known_over_http(plane, issuer, entries):
    body = f'{{"path": "{PATH}", "value": 5}}'.encode()
    way = "/v1/commands/set_parameter"

    assert fetch(plane, "POST", way, body, JSON | bearer(issuer.token(sub="grace"))).status == 200
    assert fetch(plane, "POST", way, body, JSON | bearer(issuer.token(role="viewer"))).status == 403
    nobody = fetch(plane, "POST", way, body, JSON | bearer(issuer.token(role="king")))

    assert (nobody.status, "'king'" in nobody.json["detail"]) == (403, True)
    assert "WWW-Authenticate" not in nobody.headers
    assert [(entry.identity, entry.role) for entry in entries()] == [
        ("grace", "operator"),
        ("ada", "viewer"),
        ("", ""),
    ]


def test_a_session_goes_on_with_another_token_of_the_same_bearer(plane, issuer):
    accept = JSON | {"Accept": "application/json, text/event-stream"}
    hello = (
        b'{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion":'
        b' "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}}'
    )
    ping = b'{"jsonrpc": "2.0", "id": 2, "method": "ping"}'
    opened = fetch(plane, "POST", "/mcp", hello, accept | bearer(issuer.token()))
    accept["Mcp-Session-Id"] = opened.headers["Mcp-Session-Id"]

    again = fetch(plane, "POST", "/mcp", ping, accept | bearer(issuer.token(role="viewer")))
    other = fetch(plane, "POST", "/mcp", ping, accept | bearer(issuer.token(sub="eve")))

    assert (again.status, other.status) == (200, 404)
