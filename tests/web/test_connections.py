"""How many connections there may be, and what becomes of clients that are too slow."""

import contextlib
import socket
import time

import grpc
import pytest

from ninelives_control import Context, ControlPlane, Effect, Limits
from ninelives_control.command import command
from ninelives_control.tls import Tls
from ninelives_control.v1.control_pb2 import ListStacksRequest
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from ninelives_grpc import Registry, Retry, Stack
from tests.control import added
from tests.waiting import until
from tests.web.authority import Authority
from tests.web.http_asker import connected, fetch, received_until

SHORT = Limits(connections=4, patience=0.4, stall=0.4, unknown_per_second=1e6, unknown_burst=1e6)
HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@command(Effect.READ)
def long(arguments: added.Note, context: Context) -> added.Noted:
    """Tell a lot."""
    return added.Noted(text="a" * 1_000_000, by="")


@pytest.fixture(scope="module")
def plane():
    registry = Registry()
    Stack("shop", Retry(3), registry=registry)
    plane = ControlPlane(registry, grpc_port=0, http_port=0, limits=SHORT)
    plane.commands.add(long)
    with plane:
        yield plane


def closed_after(connection, send=b"", every=0.05):
    """Send so much again and again until the other side closes; return the seconds and the rest."""
    began, received = time.monotonic(), b""
    connection.settimeout(every)
    while time.monotonic() - began < 10:
        with contextlib.suppress(TimeoutError, BrokenPipeError):
            if send:
                connection.sendall(send)
        try:
            chunk = connection.recv(65536)
        except TimeoutError:
            continue
        except ConnectionResetError:
            return time.monotonic() - began, received
        if not chunk:
            return time.monotonic() - began, received
        received += chunk
    raise AssertionError("it is still open")


def test_a_client_that_says_nothing_is_cut_off(plane):
    with connected(plane) as connection:
        seconds, said = closed_after(connection)

    assert 0.3 < seconds < 3
    assert said.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_sends_its_head_byte_by_byte_is_cut_off(plane):
    with connected(plane, HEAD + b"X-Slow: ") as connection:
        seconds, said = closed_after(connection, b"a")

    assert 0.3 < seconds < 3
    assert said.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_sends_its_body_byte_by_byte_is_cut_off(plane):
    head = (
        b"POST /v1/commands/list_stacks HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    )
    with connected(plane, head) as connection:
        seconds, _ = closed_after(connection, b" ")

    assert 0.3 < seconds < 3


def test_the_second_request_on_a_connection_has_its_own_time(plane):
    with connected(plane, HEAD + b"\r\n") as connection:
        received_until(connection, b'"ok"}')
        time.sleep(0.6)
        connection.sendall(HEAD + b"\r\n")
        received_until(connection, b'"ok"}')
        connection.sendall(HEAD)

        seconds, said = closed_after(connection)

    assert 0.3 < seconds < 3
    assert b"408" in said


def test_an_answer_may_take_longer_than_a_request(plane):
    with connected(plane, b"GET /v1/watch HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") as connection:
        received_until(connection, b"event: state")
        connection.settimeout(1.0)

        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_an_answer_does_not_wait_for_its_head_to_be_acknowledged(plane):
    durations = []
    with connected(plane) as connection:
        for _ in range(20):
            began = time.monotonic()
            connection.sendall(HEAD + b"\r\n")
            received_until(connection, b'"ok"}')
            durations.append(time.monotonic() - began)

    assert min(durations[5:]) < 0.03


def test_connections_beyond_the_limit_are_told_and_closed(plane):
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(connected(plane, HEAD + b"\r\n")) for _ in range(4)]
        for connection in taken:
            received_until(connection, b'"ok"}')

        answer = fetch(plane, "GET", "/healthz")

        assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
        assert answer.json["code"] == "unavailable"
        taken[0].close()
        until(lambda: fetch(plane, "GET", "/healthz").status == 200, patience=5)


def test_clients_that_take_nothing_make_room_for_others(plane):
    ask = b"GET /v1/commands/long HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 40
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", plane.http_port))
            connection.sendall(ask)
        assert fetch(plane, "GET", "/healthz").status == 503

        until(lambda: fetch(plane, "GET", "/healthz").status == 200, patience=10)


def test_a_connection_that_is_not_secured_in_time_is_closed(tmp_path):
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    Authority(tmp_path / "ca").server(certificate, key)
    tls = Tls(certificate=certificate, key=key)
    with (
        ControlPlane(Registry(), grpc_port=0, http_port=0, tls=tls, limits=SHORT) as plane,
        connected(plane) as over_http,
        socket.create_connection(("127.0.0.1", plane.grpc_port), timeout=10) as over_grpc,
    ):
        assert 0.3 < closed_after(over_http)[0] < 3
        assert closed_after(over_grpc)[0] < 5


def test_grpc_closes_a_connection_that_never_speaks_http2(plane):
    with socket.create_connection(("127.0.0.1", plane.grpc_port), timeout=10) as connection:
        seconds, _ = closed_after(connection)

    assert 0.3 < seconds < 5


def test_grpc_refuses_metadata_that_is_too_large(plane):
    with grpc.insecure_channel(f"127.0.0.1:{plane.grpc_port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            ControlServiceStub(channel).ListStacks(
                ListStacksRequest(), metadata=[("x-large", "a" * 20_000)], timeout=10
            )
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ControlServiceStub(channel).ListStacks(ListStacksRequest(), timeout=10).stacks


def test_grpc_takes_only_so_many_connections(plane):
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            channel = stack.enter_context(
                grpc.insecure_channel(
                    f"127.0.0.1:{plane.grpc_port}",
                    options=[("grpc.use_local_subchannel_pool", 1)],
                )
            )
            ControlServiceStub(channel).ListStacks(ListStacksRequest(), timeout=10)

        one_more = stack.enter_context(
            grpc.insecure_channel(
                f"127.0.0.1:{plane.grpc_port}", options=[("grpc.use_local_subchannel_pool", 1)]
            )
        )
        with pytest.raises(grpc.RpcError) as caught:
            ControlServiceStub(one_more).ListStacks(ListStacksRequest(), timeout=2)

    assert caught.value.code() in {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
