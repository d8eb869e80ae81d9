import logging
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing

import pytest

from ninelives_control import AddressError, ControlPlane
from ninelives_control.transports.http.app import HttpApp
from ninelives_control.transports.http.server import LARGEST_MESSAGE
from ninelives_grpc.errors import ConfigError
from tests.control.added import blocking
from tests.web.http_asker import JSON, connected, fetch, post, received_until, stream
from tests.web.slow import LARGE_EVENTS, flood

QUERY = b'{"query": "{ listStacks { total } }"}'


def made(registry, **options):
    return ControlPlane(registry, **{"grpc_port": None, "http_port": 0, **options})


def test_it_is_healthy(plane):
    answer = fetch(plane, "GET", "/healthz")

    assert (answer.status, answer.json) == (200, {"status": "ok"})


def test_what_is_not_there_is_not_found(plane):
    for path in ("/", "/graphql/", "/v1", "/v1/commands/a/b", "/%2e%2e/etc/passwd"):
        answer = fetch(plane, "GET", path)

        assert (answer.status, answer.headers["Content-Type"]) == (404, "application/problem+json")
        assert "/graphql" in answer.json["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/graphql", "POST"),
        ("OPTIONS", "/graphql", "POST"),
        ("POST", "/metrics", "GET"),
        ("DELETE", "/healthz", "GET"),
    ],
)
def test_another_method_is_not_served(method, path, allowed, plane):
    answer = fetch(plane, method, path, headers=JSON)

    assert answer.status == 405
    assert answer.json["detail"] == f"{method} is not served at {path}"
    assert allowed in answer.headers["Allow"]


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "",
    ],
)
def test_a_form_of_a_browser_is_not_read(kind, plane, tokens):
    headers = {"Content-Type": kind, "Authorization": f"Bearer {tokens['admin']}"}

    answer = fetch(plane, "POST", "/graphql", QUERY, headers)

    assert answer.status == 415
    assert answer.json["detail"] == "send Content-Type: application/json"


def test_json_may_come_with_a_charset(plane, tokens):
    answer = post(
        plane,
        "{ listStacks { total } }",
        tokens["viewer"],
        Content_Type="application/json; charset=utf-8",
    )

    assert answer.json == {"data": {"listStacks": {"total": 1}}}


def test_a_body_that_is_too_large_is_refused(plane):
    answer = fetch(plane, "POST", "/graphql", b" " * (LARGEST_MESSAGE + 1), JSON)

    assert answer.status == 413


def test_a_body_that_grows_too_large_is_refused_as_well(plane):
    pieces = iter([b" " * LARGEST_MESSAGE, b" "])

    answer = fetch(plane, "POST", "/graphql", pieces, JSON)

    assert answer.status == 413


def test_browsers_are_told_to_do_nothing_with_what_they_get(plane):
    for path in ("/healthz", "/metrics", "/nothing"):
        headers = fetch(plane, "GET", path).headers

        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Server" not in headers


def test_a_client_that_leaves_within_its_request_leaves_no_trace(plane, caplog):
    head = b"POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with closing(connected(plane, head + b"Content-Length: 100\r\n\r\n{")):
        pass

    assert fetch(plane, "GET", "/healthz").status == 200
    plane.stop()
    assert "Traceback" not in caplog.text


def test_it_can_be_stopped_and_started_again_on_the_same_port(registry, shop):
    plane = made(registry).start()
    port = plane.http_port
    with closing(connected(plane)):
        plane.stop()

    with made(registry, http_port=port) as again:
        assert again.http_port == port
        assert fetch(again, "GET", "/healthz").status == 200


def test_a_port_in_use_is_named_with_the_remedy(registry):
    before = set(threading.enumerate())
    with (
        made(registry) as first,
        pytest.raises(AddressError, match=r"port \d+ .*give another one by http_port=") as caught,
    ):
        made(registry, http_port=first.http_port).start()

    assert caught.value.port
    assert set(threading.enumerate()) <= before


def test_a_start_that_fails_leaves_nothing(registry, monkeypatch):
    async def fail(_app):
        raise RuntimeError

    before = set(threading.enumerate())
    with monkeypatch.context() as patch:
        patch.setattr(HttpApp, "start_sessions", fail)
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(RuntimeError):
            made(registry, http_port=port).start()

    with made(registry, http_port=port):
        pass
    assert set(threading.enumerate()) <= before


def test_an_address_that_others_can_reach_needs_a_token_file(registry):
    with pytest.raises(ConfigError, match="takes a token file"):
        made(registry, host="0.0.0.0").start()


def test_it_is_served_over_ipv6(registry, shop):
    with made(registry, host="::1") as plane:
        assert fetch(plane, "GET", "/metrics", host="::1").status == 200


def test_it_is_not_served_where_it_is_not_wanted(registry):
    with made(registry, http_port=None) as plane:
        assert plane.http_port == 0


def test_it_stops_with_connections_on_which_nothing_is_said(plane, patient, caplog):
    with ExitStack() as open_ones:
        for data in (b"", b"GET /hea", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
            open_ones.enter_context(closing(connected(plane, data)))
        before = time.monotonic()

        plane.stop()

        assert time.monotonic() - before < 10
    assert "ERROR" not in caplog.text


def test_a_request_that_does_not_end_is_cut_off(plane, caplog):
    head = b"POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with closing(connected(plane, head + b"Content-Length: 100\r\n\r\n{")) as connection:
        assert fetch(plane, "GET", "/healthz").status == 200

        plane.stop()

        assert connection.recv(100) == b""
    assert "ERROR" not in caplog.text


def test_a_stream_that_nobody_reads_does_not_keep_it_from_stopping(plane, tokens, caplog):
    with closing(stream(plane, LARGE_EVENTS, tokens["viewer"])) as connection:
        received_until(connection, b'"dropped":0')
        flood(plane)

        plane.stop()
    assert "ERROR" not in caplog.text


def test_a_command_that_runs_is_waited_for(plane, tokens, entries):
    running, end, hold = blocking()
    plane.commands.add(hold)
    answers = []
    asking = threading.Thread(
        target=lambda: answers.append(post(plane, "mutation { hold { text } }", tokens["admin"]))
    )
    asking.start()
    assert running.wait(10)
    stopping = threading.Thread(target=plane.stop)
    stopping.start()

    end.set()

    asking.join()
    stopping.join()
    assert answers[0].json == {"data": {"hold": {"text": "held"}}}


FRUGAL = """
import sys
from ninelives_control import ControlPlane
from ninelives_grpc import Registry
with ControlPlane(Registry(), grpc_port=0, http_port=None):
    print([name for name in ("strawberry", "starlette", "uvicorn", "mcp") if name in sys.modules])
"""


def test_who_does_not_serve_http_does_not_import_it():
    ended = subprocess.run(
        [sys.executable, "-c", FRUGAL], capture_output=True, text=True, check=True, timeout=30
    )

    assert ended.stdout == "[]\n"


def test_the_loggers_of_the_process_are_left_alone(registry):
    access = logging.getLogger("uvicorn.access")
    handler = logging.NullHandler()
    access.addHandler(handler)
    try:
        with made(registry):
            assert handler in access.handlers
            assert access.propagate
    finally:
        access.removeHandler(handler)


def test_bytes_that_are_no_http_are_answered_so(plane):
    with closing(connected(plane, b"\x16\x03\x01\x02\x00\r\n\r\n")) as connection:
        assert connection.recv(12) == b"HTTP/1.1 400"
        connection.shutdown(socket.SHUT_WR)
