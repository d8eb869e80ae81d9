"""Who is let through, and who is taken for a caller on this machine."""

import socket

import pytest

from ninelives_control import ControlPlane
from ninelives_control.transports.http.guard import caller_of
from ninelives_grpc import Registry, Retry, Stack
from tests.web.http_asker import JSON, fetch, post

LIST = "{ listStacks { total } }"


@pytest.fixture(scope="module")
def open_plane():
    """A control plane without tokens, which callers on this machine may read."""
    registry = Registry()
    Stack("shop", Retry(3), registry=registry)
    with ControlPlane(registry, grpc_port=None, http_port=0) as plane:
        yield plane


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "[", "localhost.example:80"]
)
def test_another_name_that_leads_here_is_not_served(host, open_plane):
    for method, path in (("GET", "/metrics"), ("GET", "/healthz"), ("POST", "/graphql")):
        answer = fetch(open_plane, method, path, headers=JSON | {"Host": host})

        assert answer.status == 421, answer.text
        assert "ask for 127.0.0.1" in answer.json["detail"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]", "127.1.2.3", "LOCALHOST:80"])
def test_all_names_of_this_machine_are_served(host, open_plane):
    assert fetch(open_plane, "GET", "/healthz", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://", "127.0.0.1", ""]
)
def test_pages_of_another_origin_are_not_served(origin, open_plane):
    answer = fetch(open_plane, "GET", "/metrics", headers={"Origin": origin})

    assert (answer.status, answer.json["detail"]) == (403, "pages of another origin are not served")


def test_pages_of_its_own_origin_are_served(open_plane):
    host = f"127.0.0.1:{open_plane.http_port}"

    assert fetch(open_plane, "GET", "/metrics", headers={"Origin": f"http://{host}"}).status == 200


@pytest.mark.parametrize(
    "header", ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP"]
)
def test_what_came_through_a_proxy_is_not_from_this_machine(header, open_plane):
    assert "errors" not in post(open_plane, LIST).json

    (error,) = post(open_plane, LIST, **{header: "127.0.0.1"}).json["errors"]

    assert error["extensions"] == {"code": "unauthenticated"}
    assert fetch(open_plane, "GET", "/metrics", headers={header: "127.0.0.1"}).status == 401


def test_an_address_that_others_can_reach_is_served_under_any_name(
    registry, shop, tokens, tokens_path
):
    with ControlPlane(
        registry, host="0.0.0.0", grpc_port=None, http_port=0, tokens=tokens_path, anonymous=True
    ) as plane:
        named = {"Host": "control.example"}

        assert fetch(plane, "GET", "/healthz", headers=named).status == 200
        assert post(plane, LIST, tokens["viewer"], **named).json == {
            "data": {"listStacks": {"total": 1}}
        }
        (error,) = post(plane, LIST, **named).json["errors"]
        assert error["extensions"] == {"code": "unauthenticated"}
        assert fetch(plane, "GET", "/metrics", headers=named).status == 401
        assert fetch(plane, "GET", "/metrics").status == 200


@pytest.mark.parametrize(
    ("client", "here"),
    [
        (("127.0.0.1", 1), True),
        (("::1", 1), True),
        (("::ffff:127.0.0.1", 1), True),
        (("10.0.0.1", 1), False),
        (None, False),
    ],
)
def test_who_is_on_this_machine_is_told_by_the_address(client, here):
    scope = {"type": "http", "client": client, "headers": [(b"host", b"localhost")]}

    assert caller_of(scope).loopback is here


def test_a_request_without_a_host_is_not_served(open_plane):
    with socket.create_connection(("127.0.0.1", open_plane.http_port), timeout=10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")

        assert connection.recv(12) == b"HTTP/1.1 421"
