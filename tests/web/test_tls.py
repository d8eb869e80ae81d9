"""Encryption, and certificates of clients, over gRPC, HTTP and websockets."""

import logging
import socket
import ssl
from contextlib import contextmanager
from datetime import timedelta

import grpc
import pytest
from websockets.sync.client import connect

from ninelives_control import ControlPlane, Role, Tls
from ninelives_control.transports.http import server as http_server
from ninelives_control.v1 import control_pb2 as pb
from ninelives_grpc import Registry, Retry, Stack
from ninelives_grpc.errors import ConfigError
from tests.web.authority import Authority, lock
from tests.web.websocket_asker import PROTOCOL, begin, receive, send

PATH = "shop/retry/max_attempts"
SPIFFE = "spiffe://prod/deployer"
ROLES = {SPIFFE: Role.OPERATOR, "CN=ada": Role.ADMIN, "CN=vera": Role.VIEWER}
CHANGE = {"path": PATH, "value": 5}


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture
def certificate(ca, tmp_path):
    ca.server(tmp_path / "server.pem", tmp_path / "server.key")
    return tmp_path / "server.pem"


@pytest.fixture
def serve(registry, shop, certificate, audit_path):
    """Start a control plane that encrypts."""

    @contextmanager
    def start(tls=None, **options):
        key = certificate.with_suffix(".key")
        tls = Tls(certificate=certificate, key=key, **(tls or {}))
        settings = {"grpc_port": 0, "http_port": 0, "audit": audit_path, "tls": tls} | options
        with ControlPlane(registry, **settings) as plane:
            yield plane

    return start


@pytest.fixture(scope="module")
def mutual(ca, tmp_path_factory):
    """A control plane that knows its clients by their certificates."""
    registry = Registry()
    Stack("shop", Retry(3), registry=registry)
    certificate = tmp_path_factory.mktemp("server") / "server.pem"
    key = certificate.with_suffix(".key")
    ca.server(certificate, key)
    tls = Tls(certificate=certificate, key=key, clients=ca.path, roles=ROLES)
    with ControlPlane(registry, grpc_port=0, http_port=0, tls=tls) as plane:
        yield plane


@pytest.fixture
def written(mutual):
    """Return what was written down in the audit since the test began."""
    audit = mutual.dispatcher._journal._audit
    last = max((entry.seq for entry in audit.entries()), default=0)
    return lambda: audit.entries(after=last)


def change_over_grpc(ca, plane, shown):
    request = pb.SetParameterRequest(path=PATH)
    request.value.number_value = 5
    with ca.stub(plane, shown) as stub:
        return stub.SetParameter(request, timeout=10)


def change_over_http(ca, plane, shown):
    return ca.fetch(plane, "/v1/commands/set_parameter", shown, body=CHANGE)


def test_what_is_sent_is_encrypted_for_those_with_tokens(serve, ca, tokens, tokens_path):
    with serve(tokens=tokens_path) as plane:
        assert ca.ask(plane, token=tokens["viewer"]).total == 1
        assert ca.fetch(plane, "/v1/commands/list_stacks", token=tokens["viewer"]).status == 200
        assert ca.fetch(plane, "/v1/commands/list_stacks").status == 401
        with socket.create_connection(("127.0.0.1", plane.http_port), timeout=10) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b"HTTP" not in plain.recv(100)
        with (
            grpc.insecure_channel(f"127.0.0.1:{plane.grpc_port}") as channel,
            pytest.raises(grpc.RpcError),
        ):
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)


def test_nobody_is_warned_of_what_is_encrypted(serve, caplog, tokens, tokens_path):
    with serve(host="0.0.0.0", tokens=tokens_path):
        pass

    assert not [entry for entry in caplog.records if entry.levelno > logging.INFO]


def test_a_new_certificate_counts_without_a_restart(serve, ca, tmp_path, certificate):
    with serve() as plane:
        first = ca.served(plane)
        assert ca.ask(plane).total == 1

        later = Authority(tmp_path / "later")
        later.server(certificate, certificate.with_suffix(".key"))

        # The authority is another one, so each server must show the new certificate.
        assert later.served(plane) != first
        assert later.ask(plane).total == 1
        with pytest.raises(ssl.SSLCertVerificationError):
            ca.served(plane)
        with pytest.raises(grpc.RpcError) as caught:
            ca.ask(plane)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("broken", ["certificate", "key", "gone", "another key"])
def test_a_broken_file_keeps_the_certificate_and_is_logged_once(
    serve, ca, certificate, caplog, broken, tmp_path
):
    key = certificate.with_suffix(".key")
    with serve() as plane:
        first = ca.served(plane)

        if broken == "certificate":
            certificate.write_text("-----BEGIN CERTIFICATE-----\nAAAA")
        elif broken == "key":
            key.write_text("")
        elif broken == "gone":
            key.unlink()
        else:
            ca.server(tmp_path / "unused.pem", key)

        for _ in range(2):
            assert ca.served(plane) == first
            assert ca.ask(plane).total == 1
        (logged,) = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
        assert "said before stays in force: Tls." in logged

        ca.server(certificate, key)
        assert ca.served(plane) != first
        assert ca.ask(plane).total == 1


@pytest.mark.parametrize(
    ("names", "known"),
    [
        ({"uris": [SPIFFE]}, (SPIFFE, "operator")),
        ({"commons": ["ada"]}, ("CN=ada", "admin")),
        ({"commons": ["ada"], "uris": [SPIFFE]}, (SPIFFE, "operator")),
        ({"commons": ["ada"], "uris": ["spiffe://prod/other"]}, ("CN=ada", "admin")),
        ({"commons": ["ada"], "uris": [SPIFFE, "spiffe://prod/x"]}, ("CN=ada", "admin")),
    ],
)
def test_a_client_is_known_by_the_name_in_its_certificate(mutual, ca, names, known, written):
    shown = ca.client(*names.get("commons", ()), uris=names.get("uris", ()))

    assert change_over_grpc(ca, mutual, shown).new.number_value == 5
    assert change_over_http(ca, mutual, shown).status == 200

    entries = written()
    assert {(entry.identity, entry.role) for entry in entries} == {known}
    assert {entry.transport for entry in entries} == {"grpc", "rest"}


@pytest.mark.parametrize(
    "names",
    [
        {"commons": ["eve"]},
        {"commons": ["ada", "ada"]},
        {"uris": [SPIFFE, "spiffe://prod/x"]},
        {"uris": ["https://prod/deployer"]},
        {},
    ],
)
def test_a_certificate_without_a_name_that_has_a_role_is_refused(mutual, ca, names, written):
    shown = ca.client(*names.get("commons", ()), uris=names.get("uris", ()))

    with pytest.raises(grpc.RpcError) as caught:
        change_over_grpc(ca, mutual, shown)
    answer = change_over_http(ca, mutual, shown)

    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "has no role; the control plane gives it one by Tls.roles" in caught.value.details()
    assert (answer.status, answer.json["detail"]) == (401, caught.value.details())
    assert [entry.status for entry in written()] == ["refused"] * 2


def test_the_role_of_a_certificate_says_what_it_may_do(mutual, ca):
    shown = ca.client("vera")

    assert ca.ask(mutual, shown).total == 1
    with pytest.raises(grpc.RpcError, match="may not use set_parameter"):
        change_over_grpc(ca, mutual, shown)
    assert change_over_http(ca, mutual, shown).status == 403


def refused(ca, plane, shown=None):
    with pytest.raises(grpc.RpcError) as caught:
        ca.ask(plane, shown)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    # With TLS 1.3 a client hears of it when it reads.
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ca.fetch(plane, "/healthz", shown)


def test_nobody_gets_in_without_a_certificate_or_with_one_that_is_not_believed(
    mutual, ca, tmp_path
):
    foreign = Authority(tmp_path / "foreign")

    refused(ca, mutual)
    refused(ca, mutual, foreign.client("ada", uris=[SPIFFE]))
    refused(ca, mutual, ca.client("ada", ends=-timedelta(days=1)))


def test_a_ca_can_be_exchanged_without_a_restart(serve, ca, tmp_path):
    clients = tmp_path / "clients.pem"
    clients.write_bytes(ca.path.read_bytes())
    other = Authority(tmp_path / "other")
    old, new = ca.client("ada"), other.client("ada")
    with serve({"clients": clients, "roles": ROLES}) as plane:
        assert ca.ask(plane, old).total == 1
        assert ca.fetch(plane, "/healthz", old).status == 200
        refused(ca, plane, new)

        clients.write_bytes(other.path.read_bytes())

        assert ca.ask(plane, new).total == 1
        assert ca.fetch(plane, "/healthz", new).status == 200
        refused(ca, plane, old)


def test_a_token_does_in_place_of_a_certificate_over_http_and_besides_it_over_grpc(
    serve, ca, tokens, tokens_path
):
    shown = ca.client("vera")
    with serve({"clients": ca.path, "roles": ROLES}, tokens=tokens_path) as plane:
        listing = "/v1/commands/list_stacks"
        assert ca.fetch(plane, listing, token=tokens["viewer"]).status == 200
        assert ca.fetch(plane, listing, shown).status == 200
        assert ca.fetch(plane, listing).status == 401
        # What is shown on purpose counts, even if it is wrong.
        assert ca.fetch(plane, listing, shown, token="wrong").status == 401
        assert ca.ask(plane, shown, token=tokens["admin"]).total == 1
        with pytest.raises(grpc.RpcError, match="failed to connect"):
            ca.ask(plane, token=tokens["admin"])


def test_a_session_does_not_outlive_its_ca(serve, ca, tmp_path):
    clients = tmp_path / "clients.pem"
    clients.write_bytes(ca.path.read_bytes())
    context = ca.context(ca.client("ada"))
    with serve({"clients": clients, "roles": ROLES}, grpc_port=None) as plane:
        session = answered(plane, context)

        clients.write_bytes(Authority(tmp_path / "other").path.read_bytes())

        with pytest.raises((ssl.SSLError, ConnectionError)):
            answered(plane, context, session)


def answered(plane, context, session=None):
    """Ask over a connection that goes on with a session, and return its own."""
    with (
        socket.create_connection(("127.0.0.1", plane.http_port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as connection,
    ):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        if not connection.recv(1000).startswith(b"HTTP/1.1 200"):
            raise ConnectionError
        return connection.session


@contextmanager
def websocket(ca, plane, shown=None):
    with connect(
        f"wss://127.0.0.1:{plane.http_port}/graphql",
        subprotocols=[PROTOCOL],
        ssl=ca.context(shown),
    ) as connection:
        begin(connection)
        yield connection


def test_a_client_is_known_by_its_certificate_on_a_websocket(mutual, ca, written):
    document = f'mutation {{ setParameter(path: "{PATH}", value: 5) {{ revision }} }}'
    for name, told in (("ada", "data"), ("vera", "errors")):
        with websocket(ca, mutual, ca.client(name)) as connection:
            send(connection, type="subscribe", id="1", payload={"query": document})
            answer = receive(connection)

        assert told in str(answer)

    entries = written()
    assert [(entry.identity, entry.status) for entry in entries] == [
        ("CN=ada", "succeeded"),
        ("CN=vera", "refused"),
    ]


def test_mcp_knows_clients_by_their_certificates(mutual, ca):
    listing = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}

    assert ca.fetch(mutual, "/mcp", ca.client("eve"), body=listing).status == 401
    assert ca.fetch(mutual, "/mcp", ca.client("ada"), body=listing).status != 401


def test_certificates_are_enough_to_be_reached_by_others(serve, ca):
    with serve({"clients": ca.path, "roles": ROLES}, host="0.0.0.0") as plane:
        assert ca.ask(plane, ca.client("ada")).total == 1
    with pytest.raises(ConfigError, match="takes a token file"), serve(host="0.0.0.0"):
        pass


def test_it_stops_while_a_client_has_not_said_yet_how_to_encrypt(serve, monkeypatch):
    monkeypatch.setattr(http_server, "_GRACE", 0.1)
    with serve() as plane:
        port = plane.http_port
        silent = socket.create_connection(("127.0.0.1", port), timeout=10)

    with silent:
        assert silent.recv(1) == b""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"certificate": "nowhere.pem"}, "Tls.certificate: nowhere.pem cannot be read"),
        ({"key": "nowhere.pem"}, "Tls.key: nowhere.pem cannot be read"),
        ({"key": "ca.pem"}, "must be a certificate and its key in PEM, without a password"),
        ({"key": "locked.key"}, "must be a certificate and its key in PEM, without a password"),
        ({"clients": "nowhere.pem"}, "Tls.clients: nowhere.pem cannot be read"),
        ({"clients": "server.key"}, "Tls.clients: server.key must have CA certificates in PEM"),
        ({"clients": "ca.pem", "roles": {}}, "Tls.roles: must say what clients may do"),
        ({"clients": None}, "Tls.clients: is missing"),
        ({"roles": {"ada": Role.ADMIN}}, "Tls.roles: 'ada' is no name of a certificate"),
        ({"roles": {"CN=": Role.ADMIN}}, "Tls.roles: 'CN=' is no name of a certificate"),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    registry, shop, ca, certificate, tmp_path, monkeypatch, wrong, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.pem").write_bytes(ca.path.read_bytes())
    lock(certificate.with_suffix(".key"), tmp_path / "locked.key")
    good = {"certificate": "server.pem", "key": "server.key", "clients": "ca.pem"}
    paths = {
        name: type(tmp_path)(value) if isinstance(value, str) else value
        for name, value in (good | wrong).items()
    }

    with pytest.raises(ConfigError) as caught:
        ControlPlane(
            registry, grpc_port=0, http_port=None, tls=Tls(**({"roles": ROLES} | paths))
        ).start()

    assert said in str(caught.value)
    assert shop.emitter.sink is None
