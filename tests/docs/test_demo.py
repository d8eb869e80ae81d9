"""`ninelives demo`, as a process of its own, and the lines to copy that it prints."""

import contextlib
import itertools
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from .readme import EXAMPLES

SCRIPTS = Path(sys.executable).parent
NINELIVES = SCRIPTS / "ninelives"
PATH = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture(scope="module", autouse=True)
def _interruptible():
    """Let Ctrl-C reach what is started here, also when the tests run in the background."""
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, kept)


def start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [NINELIVES, "demo", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
    )


class Demo:
    """A demo that runs, and what it said of itself."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.header = list(map(str.rstrip, itertools.islice(process.stdout, 6)))
        text = "\n".join(self.header)
        self.rpc = re.search(r"gRPC (\S+)", text)[1]
        self.web = re.search(r"GraphQL http://(\S+)/graphql", text)[1]
        self.token = re.search(r"token (\S+) \(operator\)", text)[1]

    def line(self, start: str) -> str:
        """The line to copy that starts so."""
        return next(line for line in self.header if line.startswith(start))

    def sh(self, script: str) -> dict:
        """Run a line, or an example with the addresses of this demo, and read its answer."""
        return json.loads(self.run(script))

    def run(self, script: str) -> str:
        """Run them, and return what they print."""
        script = script.replace("127.0.0.1:50090", self.rpc).replace("127.0.0.1:8090", self.web)
        ended = subprocess.run(
            ["bash", "-euc", script],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "PATH": PATH, "TOKEN": self.token},
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture(scope="module")
def demo():
    with start("--port", "0") as process:
        try:
            yield Demo(process)
            process.send_signal(signal.SIGINT)  # as Ctrl-C does
            _, complaints = process.communicate(timeout=30)
        finally:
            process.kill()
    assert complaints == ""
    assert process.returncode == 0


@pytest.mark.timeout(120)
def test_told_once_it_shows_all_it_promises():
    with start("--once", "--port", "0") as demo:
        try:
            told, complaints = demo.communicate(timeout=100)
        finally:
            demo.kill()

    assert demo.returncode == 0, told
    assert complaints == ""
    opened, retried, tuned = told.splitlines()[-3:]
    assert re.match(r"shown +the circuit of reviews opened [1-9]\d* times and closed [1-9]", opened)
    assert re.match(r"shown +the shop's clients retried [1-9]\d* times in \d+ calls", retried)
    assert re.match(r"shown +shop-server/rate_limit/rate went from 1000 to 20 and back", tuned)


def test_on_a_terminal_it_is_a_live_table():
    ours, theirs = pty.openpty()
    with (
        os.fdopen(ours, "rb", buffering=0) as terminal,
        subprocess.Popen(
            [NINELIVES, "demo", "--port", "0"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        ) as demo,
    ):
        os.close(theirs)
        try:
            shown = b""
            while b"shop-server" not in shown or b"p99" not in shown:
                shown += terminal.read(10_000)
            demo.send_signal(signal.SIGINT)
            with contextlib.suppress(OSError):  # Linux says so when the other side is closed
                while terminal.read(10_000):
                    pass
            assert demo.wait(30) == 0
        finally:
            demo.kill()


def test_line_for_buf_curl_sets_a_parameter(demo):
    changed = demo.sh(demo.line("buf curl"))

    assert (changed["path"], changed["new"]) == ("shop-server/rate_limit/rate", 30)


def test_command_of_the_readme_sets_a_parameter(demo):
    changed = demo.sh((EXAMPLES / "tune.sh").read_text())

    assert (changed["path"], changed["new"]) == ("shop/retry/max_attempts", 2)


def test_what_is_tried_and_lent_by_the_command_line_is_put_back(demo):
    read = 'ninelives call get_parameter shop/retry/max_attempts -o json --token "$TOKEN"'
    read += " --address 127.0.0.1:50090"
    before = demo.sh(read)

    printed = demo.run((EXAMPLES / "change_and_undo.sh").read_text())

    after = demo.sh(read)
    assert "calm down" in printed
    assert after["value"] == before["value"] != 5
    # Lent, and put back; a try is no change.
    assert after["revision"] == before["revision"] + 2


@needs_curl
def test_line_for_graphql_reads_the_state(demo):
    answer = demo.sh(demo.line("curl"))

    assert {"name": "shop"} in answer["data"]["getState"]["stacks"]


@needs_curl
def test_query_of_the_readme_reads_the_state(demo):
    answer = demo.sh((EXAMPLES / "state.sh").read_text())

    shop = next(s for s in answer["data"]["stacks"] if s["name"] == "shop")
    assert "shop/circuit_breaker" in {policy["path"] for policy in shop["policies"]}


def _ask(command: list[str], token: str | None) -> list[str]:
    """Start an MCP server as its host does, and ask it for its tools."""
    program = shutil.which(command[0], path=PATH)
    assert program is not None
    env = None if token is None else {"NINELIVES_TOKEN": token}
    parameters = StdioServerParameters(command=program, args=command[1:], env=env)

    async def ask() -> list[str]:
        async with Client(stdio_client(parameters)) as client:
            return [tool.name for tool in (await client.list_tools()).tools]

    return anyio.run(ask)


def test_line_for_mcp_serves_tools(demo):
    assert "set_parameter" in _ask(demo.line("ninelives mcp").split(), None)


def test_configuration_of_the_readme_serves_tools(demo):
    host = json.loads((EXAMPLES / "mcp.json").read_text())["mcpServers"]["ninelives"]
    command = [host["command"], *host["args"]]
    assert list(host["env"]) == ["NINELIVES_TOKEN"]

    tools = _ask([word.replace("127.0.0.1:50090", demo.rpc) for word in command], demo.token)

    assert "set_parameter" in tools


@pytest.mark.parametrize("option", ["--grpc-port", "--http-port"])
def test_port_in_use_says_which(option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = start("--once", *_ports(option, port))
        told, complaint = demo.communicate(timeout=30)

    assert demo.returncode == 6
    assert told == ""
    assert f"127.0.0.1 port {port}" in complaint
    assert len(complaint.splitlines()) == 1


def _ports(option: str, port: int) -> list[str]:
    other = {"--grpc-port": "--http-port", "--http-port": "--grpc-port"}[option]
    return [option, str(port), other, "0"]
