"""Sockets that only one user of this machine can reach, and who that is."""

import http.client
import json
import os
import socket
import stat
from contextlib import contextmanager

import grpc
import pytest
from websockets.sync.client import unix_connect

from ninelives_control import AddressError, ControlPlane, Role, Tls
from ninelives_control.audit.log import AuditFile
from ninelives_control.v1 import control_pb2 as pb
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from ninelives_grpc.errors import ConfigError
from tests.web.authority import Authority
from tests.web.http_asker import Answer
from tests.web.websocket_asker import PROTOCOL, begin, receive, send

PATH = "shop/retry/max_attempts"
CHANGE = {"path": PATH, "value": 5}
ME = f"uid:{os.getuid()}"


@pytest.fixture
def sockets(tmp_path):
    return {"grpc_socket": tmp_path / "grpc.sock", "http_socket": tmp_path / "http.sock"}


@pytest.fixture
def serve(registry, shop, sockets, audit_path):
    """Start a control plane on sockets only."""

    @contextmanager
    def start(**options):
        settings = {"grpc_port": None, "http_port": None, "audit": audit_path, **sockets}
        with ControlPlane(registry, **(settings | options)) as plane:
            yield plane

    return start


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("anything", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self.path))


def fetch(sockets, path, body=None, **headers):
    connection = Connection(sockets["http_socket"])
    kind = {} if body is None else {"content-type": "application/json"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(
            "GET" if body is None else "POST",
            path,
            None if body is None else json.dumps(body).encode(),
            kind | named,
        )
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def change(sockets, **headers):
    return fetch(sockets, "/v1/commands/set_parameter", CHANGE, **headers)


def ask(sockets):
    with grpc.insecure_channel(f"unix:{sockets['grpc_socket']}") as channel:
        return ControlServiceStub(channel).ListStacks(pb.ListStacksRequest(), timeout=10).total


def test_sockets_are_served_without_ports_and_only_for_their_owner(serve, sockets, caplog):
    with serve() as plane:
        assert (plane.grpc_port, plane.http_port) == (0, 0)
        assert ask(sockets) == 1
        assert fetch(sockets, "/v1/commands/list_stacks").json["total"] == 1
        for path in sockets.values():
            assert stat.S_ISSOCK(path.stat().st_mode)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert f"{path.stem} {path}" in caplog.text
        folder = sockets["http_socket"].parent
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]

    assert not any(path.exists() for path in sockets.values())


def test_sockets_are_served_besides_ports(serve, sockets):
    with (
        serve(grpc_port=0, http_port=0) as plane,
        grpc.insecure_channel(f"127.0.0.1:{plane.grpc_port}") as channel,
    ):
        request = pb.ListStacksRequest()
        assert ControlServiceStub(channel).ListStacks(request, timeout=10).total == ask(sockets)
        beside = http.client.HTTPConnection("127.0.0.1", plane.http_port, timeout=10)
        beside.request("GET", "/healthz")
        assert beside.getresponse().status == fetch(sockets, "/healthz").status == 200
        beside.close()


def test_a_user_only_reads_unless_it_has_a_role(serve, sockets, audit_path):
    with serve(audit_reads=True):
        assert fetch(sockets, "/v1/commands/list_stacks").status == 200
        refused = change(sockets)

    assert (refused.status, refused.json["code"]) == (403, "permission_denied")
    entries = AuditFile(audit_path).entries()
    assert {(entry.identity, entry.role) for entry in entries} == {(ME, "viewer")}


def test_a_user_has_the_role_that_it_was_given(serve, sockets, audit_path, shop):
    with serve(socket_users={os.getuid(): Role.OPERATOR}):
        assert change(sockets).status == 200

    assert shop.parameters["retry/max_attempts"].get() == 5
    entries = AuditFile(audit_path).entries()
    assert {(entry.identity, entry.role) for entry in entries} == {(ME, "operator")}


def test_a_role_is_for_the_user_that_was_named(serve, sockets):
    with serve(socket_users={os.getuid() + 1: Role.ADMIN}):
        assert change(sockets).status == 403


def test_with_tokens_a_user_needs_one_or_a_role(serve, sockets, tokens, tokens_path):
    with serve(tokens=tokens_path):
        assert fetch(sockets, "/v1/commands/list_stacks").status == 401
        assert change(sockets, authorization=f"Bearer {tokens['operator']}").status == 200
        with pytest.raises(grpc.RpcError, match="show a token"):
            ask(sockets)
    with serve(tokens=tokens_path, socket_users={os.getuid(): Role.VIEWER}):
        assert fetch(sockets, "/v1/commands/list_stacks").status == 200
        assert fetch(sockets, "/v1/commands/list_stacks", authorization="Bearer x").status == 401


def test_whom_a_proxy_asks_for_is_not_taken_for_its_user(serve, sockets):
    with serve(socket_users={os.getuid(): Role.ADMIN}):
        assert change(sockets, x_forwarded_for="192.0.2.1").status == 401
        assert change(sockets).status == 200


def test_a_user_is_known_on_a_websocket(serve, sockets, audit_path):
    document = f'mutation {{ setParameter(path: "{PATH}", value: 5) {{ revision }} }}'
    with (
        serve(socket_users={os.getuid(): Role.OPERATOR}),
        unix_connect(
            str(sockets["http_socket"]), "ws://localhost/graphql", subprotocols=[PROTOCOL]
        ) as connection,
    ):
        begin(connection)
        send(connection, type="subscribe", id="1", payload={"query": document})
        assert receive(connection)["type"] == "next"

    assert {entry.identity for entry in AuditFile(audit_path).entries()} == {ME}


def test_a_page_in_a_browser_is_not_served_here_either(serve, sockets):
    with serve():
        assert fetch(sockets, "/v1/commands", origin="http://evil.example").status == 403


@pytest.mark.parametrize("argument", ["grpc_socket", "http_socket"])
def test_a_socket_that_nobody_listens_at_is_replaced(serve, sockets, argument):
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(sockets[argument]))
    stale.close()

    with serve():
        assert ask(sockets) == fetch(sockets, "/v1/commands/list_stacks").json["total"] == 1


@pytest.mark.parametrize("argument", ["grpc_socket", "http_socket"])
def test_a_socket_in_use_is_named_and_left_alone(serve, sockets, argument, shop):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(sockets[argument]))
        other.listen()

        with pytest.raises(AddressError, match=rf"it is in use\).* by {argument}=") as caught:
            serve().__enter__()

        assert str(sockets[argument]) in str(caught.value)
        assert sockets[argument].exists()
    assert shop.emitter.sink is None


@pytest.mark.parametrize("argument", ["grpc_socket", "http_socket"])
def test_where_no_socket_can_be_is_said(serve, sockets, argument, tmp_path):
    file = tmp_path / "file"
    file.write_text("precious")
    for path, reason in (
        (file, "it is there, and is no socket"),
        (tmp_path / "nowhere" / "s", "No such file or directory"),
        (tmp_path / ("x" * 100), "the path is too long"),
    ):
        with pytest.raises(AddressError, match=reason):
            serve(**{argument: path}).__enter__()
    assert file.read_text() == "precious"


def test_two_control_planes_do_not_share_a_socket(serve):
    with serve(), pytest.raises(AddressError, match="it is in use"):
        serve().__enter__()


def test_who_asks_by_grpc_has_no_certificate_at_a_socket(registry, shop, sockets, tmp_path):
    ca = Authority(tmp_path / "ca")
    ca.server(tmp_path / "server.pem", tmp_path / "server.key")
    tls = Tls(
        certificate=tmp_path / "server.pem",
        key=tmp_path / "server.key",
        clients=ca.path,
        roles={"CN=ada": Role.ADMIN},
    )
    asked = {"grpc_port": 0, "http_port": None, "grpc_socket": sockets["grpc_socket"], "tls": tls}
    with ControlPlane(registry, **asked) as plane:
        assert ca.ask(plane, ca.client("ada")).total == 1
        with pytest.raises(grpc.RpcError, match="show a client certificate"):
            ask(sockets)
    with ControlPlane(registry, **asked, anonymous=True):
        assert ask(sockets) == 1


def test_roles_of_users_need_a_socket(registry):
    with pytest.raises(ConfigError, match=r"ControlPlane\.socket_users"):
        ControlPlane(registry, grpc_port=None, socket_users={0: Role.ADMIN}).start()
