"""Client and bridge as processes of their own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mcp_types import INVALID_PARAMS

from ninelives_control import ControlPlane
from ninelives_control.cli.group import run

from .clients import LEGACY, MODERN, NINELIVES, over_stdio, told
from .test_bridge import until_reached
from .test_sessions import INITIALIZE, LIST

PATH = "shop/retry/max_attempts"
CALLS = [
    ["list_stacks", {}],
    ["set_parameter", {"path": PATH, "value": 5}],
    ["set_parameter", {"path": PATH, "value": 500}],
    ["set_parameter", {"path": PATH, "value": 6, "expected_revision": 9}],
    ["set_parameter", {"path": "shop/rety/max_attempts", "value": 6}],
    ["force_circuit_breaker", {"path": "shop/circuit_breaker", "mode": "open"}],
    ["set_paramter", {}],
]


@pytest.mark.parametrize("way", ["http", "stdio"])
def test_the_official_client_drives_it_as_a_process(way, plane, url, address, tokens, entries):
    target = {"http": f"{url}/mcp", "stdio": address}[way]

    process = subprocess.run(
        [sys.executable, Path(__file__).with_name("client.py"), target, tokens["agent"]],
        input=json.dumps(CALLS),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (process.returncode, process.stderr) == (0, "")
    modern, legacy = json.loads(process.stdout)
    assert (modern["version"], legacy["version"]) == (MODERN, LEGACY)
    assert_told(modern, old=3, revision=2)
    assert_told(legacy, old=5, revision=2)  # it is so already
    assert [entry.command for entry in entries()] == [name for name, _ in CALLS[1:]] * 2
    assert {entry.identity for entry in entries()} == {"agent"}
    assert {entry.transport for entry in entries()} == {{"http": "mcp", "stdio": "grpc"}[way]}


def assert_told(talk, old, revision):
    assert {"get_state", "set_parameter"} <= set(talk["tools"])
    stacks, change, *errors, unknown = talk["answers"]
    assert (stacks["total"], change["old"], change["new"]) == (1, old, 5)
    assert change["revision"] == revision
    assert [error["code"] for error in errors] == [
        "permission_denied",
        "conflict",
        "not_found",
        "permission_denied",
    ]
    assert all(error["is_error"] for error in errors)
    assert errors[1]["revision"] == revision
    assert unknown == {"error": INVALID_PARAMS, "data": {"code": "unknown_command"}}


@pytest.fixture
def bridge(address, tokens):
    """Start the bridge as a host does, and open a session."""
    started = []

    def start(*args, token="viewer"):
        process = subprocess.Popen(
            [NINELIVES, "mcp", "--address", address, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "NINELIVES_TOKEN": tokens.get(token, token)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def say(process, *messages):
    for message in messages:
        process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()


def test_the_end_of_its_input_ends_the_bridge(bridge):
    process = bridge()
    say(process, INITIALIZE, {"jsonrpc": "2.0", "method": "notifications/initialized"}, LIST)
    told = [json.loads(process.stdout.readline()) for _ in range(2)]

    rest, errors = process.communicate(timeout=10)

    assert [message["id"] for message in told] == [1, 2]
    assert (process.returncode, rest, errors) == (0, b"", b"")


def test_an_interrupt_ends_the_bridge(bridge):
    process = bridge()
    say(process, INITIALIZE)
    process.stdout.readline()

    process.send_signal(signal.SIGINT)

    assert process.wait(10) == -signal.SIGINT
    assert process.stderr.read() == b""


def test_a_line_that_is_no_message_is_survived(bridge):
    process = bridge()
    process.stdin.write(b"hello\n\xff\n[]\n")
    say(process, INITIALIZE)

    told = json.loads(process.stdout.readline())
    while told.get("id") != 1:
        assert "error" in told
        told = json.loads(process.stdout.readline())

    assert told["result"]["serverInfo"]["name"] == "ninelives"


async def test_a_bridge_that_comes_first_says_so_once_and_finds_the_program(
    plane, registry, tokens, tokens_path, tmp_path
):
    port = plane.grpc_port
    plane.stop()
    with (tmp_path / "stderr").open("w+") as errors:
        async with over_stdio(
            f"127.0.0.1:{port}", None, more=["--token-file", str(tmp_path / "t")], errors=errors
        ) as client:
            early = [told(await client.call_tool("list_stacks")) for _ in range(2)]
            with ControlPlane(registry, grpc_port=port, http_port=None, tokens=tokens_path):
                found = await until_reached(client, "list_stacks", {})
            with ControlPlane(registry, grpc_port=port, http_port=None, tokens=tokens_path):
                again = await until_reached(client, "list_stacks", {})
        said = (tmp_path / "stderr").read_text()

    assert {error["code"] for error in early} == {"unavailable"}
    assert (found["total"], again["total"]) == (1, 1)
    assert said == (
        f"no control plane can be reached at 127.0.0.1:{port}; start it, or give --address\n"
    )


@pytest.fixture(autouse=True)
def token_file(tmp_path, tokens):
    path = tmp_path / "t"
    path.write_text(f"{tokens['viewer']}\n")
    return path


@pytest.fixture
def host(monkeypatch, tmp_path):
    """What a host gives to a process, for one that ends at once."""
    (tmp_path / "input").write_text("")
    kept = signal.getsignal(signal.SIGINT)
    with (tmp_path / "input").open() as given, (tmp_path / "output").open("w") as taken:
        monkeypatch.setattr(sys, "stdin", given)
        monkeypatch.setattr(sys, "stdout", taken)
        yield
    signal.signal(signal.SIGINT, kept)


def test_a_token_may_come_from_a_file_or_not_at_all(host, address, token_file):
    assert run(["mcp", "--address", address, "--token-file", str(token_file)]) == 0
    assert run(["mcp", "--address", address]) == 0


@pytest.mark.parametrize("token", ["two\nlines", "Übung"])
def test_a_token_that_can_not_be_one_is_refused_at_once(host, address, capsys, token):
    code = run(["mcp", "--address", address, "--token", token])

    assert code == 2
    assert "the token has characters that no token has" in capsys.readouterr().err
