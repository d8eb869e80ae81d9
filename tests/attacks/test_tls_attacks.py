"""Attackers of a control plane that encrypts and knows clients by their certificates."""

import socket
import ssl
from contextlib import closing
from datetime import timedelta

import grpc
import pytest

from ninelives_control import ControlPlane, Role, Tls
from ninelives_grpc import Registry, Retry, Stack
from tests.attacks.world import PATH, World, refusal
from tests.web.authority import Authority

SET = {"path": PATH, "value": 5}
LIBRARY = "the TLS library ends the handshake, and tells nobody but its log"


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """Another authority, which nobody believes."""
    return Authority(tmp_path_factory.mktemp("authority") / "evil")


@pytest.fixture(scope="module")
def secured(ca, folder, tokens, tmp_path_factory):
    registry = Registry()
    Stack("shop", Retry(3), registry=registry)
    place = tmp_path_factory.mktemp("secured")
    ca.server(place / "server.pem", place / "server.key")
    tls = Tls(
        certificate=place / "server.pem",
        key=place / "server.key",
        clients=ca.path,
        roles={"CN=vera": Role.VIEWER, "CN=ada": Role.ADMIN},
    )
    with ControlPlane(
        registry,
        grpc_port=0,
        http_port=0,
        tls=tls,
        tokens=folder / "tokens.json",
        audit=place / "audit.sqlite",
    ) as plane:
        yield World(plane, tokens, None)


@pytest.fixture(autouse=True)
def unchanged(secured, ca):
    """Nothing is changed by any of it, and those who may ask are answered."""
    secured.new_entries()
    yield
    assert secured.plane.registry.parameter(PATH).get() == 3
    assert ca.fetch(secured.plane, "/metrics", ca.client("ada")).status == 200


def change(ca, secured, shown=None, token=None):
    answer = ca.fetch(secured.plane, "/v1/commands/set_parameter", shown, token, SET)
    return f"{answer.status} {answer.json['code']}"


def reasons(secured):
    return [f"{entry.transport} {entry.identity} {entry.reason}" for entry in secured.new_entries()]


def test_a_certificate_of_another_authority_is_not_believed(ca, evil, secured):
    forged = evil.client("ada")

    with pytest.raises((ssl.SSLError, ConnectionError)):
        change(ca, secured, forged)
    with pytest.raises(grpc.RpcError) as caught:
        ca.ask(secured.plane, forged)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reasons(secured) == [], LIBRARY


def test_a_certificate_that_has_ended_is_not_believed(ca, secured):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        change(ca, secured, ca.client("ada", ends=timedelta(hours=-1)))

    assert reasons(secured) == [], LIBRARY


def test_bytes_that_are_not_encrypted_are_not_read(secured):
    with closing(socket.create_connection(("127.0.0.1", secured.plane.http_port), 10)) as plain:
        plain.sendall(secured.head("admin", "Content-Length: 2") + b"{}")
        try:
            told = plain.recv(100)
        except ConnectionResetError:
            told = b""

    assert b"HTTP" not in told
    assert refusal(lambda: _plain_grpc(secured)) == "UNAVAILABLE"
    assert reasons(secured) == [], LIBRARY


def _plain_grpc(secured):
    with secured.channel() as channel:
        return channel.unary_unary("/ninelives_control.v1.ControlService/GetState")(b"", timeout=5)


@pytest.mark.parametrize(
    ("names", "token", "told", "written"),
    [
        (None, None, "401 unauthenticated", "rest  unauthenticated"),
        (["eve"], None, "401 unauthenticated", "rest  unauthenticated"),
        (["application"], None, "401 unauthenticated", "rest  unauthenticated"),
        (["vera", "ada"], None, "401 unauthenticated", "rest  unauthenticated"),
        (["vera"], None, "403 permission_denied", "rest CN=vera permission_denied"),
        (["ada"], "x", "401 unauthenticated", "rest  unauthenticated"),
        (["ada"], "viewer", "403 permission_denied", "rest viewer permission_denied"),
    ],
    ids=["none", "no role", "ours", "two names", "a viewer", "a wrong token", "a lesser token"],
)
def test_a_certificate_gives_no_more_than_its_role(names, token, told, written, ca, secured):
    shown = None if names is None else ca.client(*names)

    assert change(ca, secured, shown, secured.tokens.get(token, token)) == told

    assert reasons(secured) == [written]
