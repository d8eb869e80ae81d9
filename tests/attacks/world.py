"""A control plane that is attacked, and what an attacker can do to it."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import socket
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.json_format import ParseDict
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from ninelives_control.audit.early import EarlyRefusals
from ninelives_control.cli.group import run
from ninelives_control.transports.grpc.errors import told as told_over_grpc
from ninelives_control.transports.http.server import HttpServer
from ninelives_control.transports.lines.lines import JsonLines
from ninelives_control.v1 import control_pb2 as pb
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from ninelives_grpc.testing import VirtualClock
from tests.waiting import until
from tests.web.http_asker import JSON, fetch
from tests.web.websocket_asker import PROTOCOL

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterator

    from ninelives_control import ControlPlane
    from ninelives_control.audit.log import Entry
    from tests.control.issuer import Issuer

PATH = "shop/retry/max_attempts"
PATIENCE = 10.0
MCP = {"Accept": "application/json, text/event-stream"} | JSON
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


class World:
    """A control plane, who is known there, and ways to it.

    Attributes:
        plane: The control plane.
        tokens: The token of each name.
        issuer: The identity provider.
        clock: What tells how long refusals that are early are counted together.
    """

    def __init__(self, plane: ControlPlane, tokens: dict[str, str], issuer: Issuer | None) -> None:
        self.plane = plane
        self.tokens = tokens
        self.issuer = issuer
        self.clock = VirtualClock()
        self.kept: dict[str, Any] = {}
        dispatcher = plane.dispatcher
        self.audit = dispatcher._journal._audit
        dispatcher._early = EarlyRefusals(self.audit, self.clock)
        self._seen = 0
        # Nothing leads to it from outside.
        self._server = next(
            (
                found._server.server_state
                for found in gc.get_objects()
                # What it is is not asked: a weak reference would say what it leads to.
                if type(found) is HttpServer
                and found._listener._listening.fileno() >= 0
                and found._listener._listening.getsockname()[1] == plane.http_port
            ),
            None,
        )

    # What there is.

    def state(self) -> object:
        """Return everything that a command could change."""
        stacks = [(stack.name, stack.describe()) for stack in self.plane.registry]
        exported = self.plane.execute("export_parameters")
        leases = self.plane.execute("list_leases")
        return stacks, exported, leases

    def new_entries(self) -> list[Entry]:
        """Return what has come to the audit since this was asked last."""
        entries = self.audit.entries(after=self._seen)
        self._seen = self.audit.head().seq if self.audit.head() else 0
        return entries

    def await_entries(self, number: int) -> None:
        """Wait for as many: what is no HTTP is written down after it was answered."""
        with contextlib.suppress(AssertionError):
            until(lambda: len(self.audit.entries(after=self._seen)) >= number, patience=2)

    def is_left(self) -> bool:
        """Tell whether nobody watches any more, and nobody is connected over HTTP."""
        connected = self._server is not None and self._server.connections
        return not (connected or self.plane.dispatcher._watches)

    def restore(self) -> None:
        """Give all parameters the values they were declared with."""
        for lease in self.plane.execute("list_leases").leases:
            self.plane.execute("end_lease", id=lease.id)
        values = {
            f"{stack.name}/{name}/{parameter}": getattr(live.declared, parameter)
            for stack in self.plane.registry
            for name, live in stack.policies.items()
            for parameter in live.specs
        }
        self.plane.registry.change(values)
        # What comes within a second is counted only.
        self.clock.advance(2)

    def works(self) -> bool:
        """Tell whether it still answers those who may ask."""
        return self.rest("get_parameter", {"path": PATH}, "viewer") == "200"

    # HTTP.

    def shown(self, who: str | None) -> dict[str, str]:
        """Return the header of somebody, by name, or with a token of their own making."""
        return {} if who is None else {"Authorization": f"Bearer {self.tokens.get(who, who)}"}

    def http(
        self,
        method: str,
        path: str,
        body: Any = None,
        who: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> str:
        """Ask, and return the status, and the code where there is one."""
        content = json.dumps(body).encode() if isinstance(body, dict | list) else body
        answer = fetch(self.plane, method, path, content, self.shown(who) | (headers or {}))
        return f"{answer.status} {_code(answer.body)}".rstrip()

    def rest(
        self, command: str, arguments: Any, who: str | None, headers: dict[str, str] | None = None
    ) -> str:
        """Send a command."""
        path = f"/v1/commands/{command}"
        return self.http("POST", path, arguments, who, JSON | (headers or {}))

    def change(self, who: str | None, value: object = 5, **more: object) -> str:
        """Try to change a parameter."""
        return self.rest("set_parameter", {"path": PATH, "value": value} | more, who)

    def graphql(self, document: Any, who: str | None = "admin", **variables: object) -> str:
        """Send a document."""
        body = (
            {"query": document, "variables": variables} if isinstance(document, str) else document
        )
        return self.http("POST", "/graphql", body, who, JSON)

    def raw(self, data: bytes, *, half: bool = False) -> str:
        """Send bytes, and return the status that comes back, if any."""
        with socket.create_connection(("127.0.0.1", self.plane.http_port), PATIENCE) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(data)
            if half:
                connection.shutdown(socket.SHUT_WR)
            try:
                answer = connection.recv(65536)
            except ConnectionResetError:
                return "closed"
            return answer[9:12].decode() or "closed"

    def head(self, who: str | None = "admin", *lines: str) -> bytes:
        """Return the beginning of a request that would change something."""
        shown = [f"{name}: {value}" for name, value in self.shown(who).items()]
        all_lines = (
            "POST /v1/commands/set_parameter HTTP/1.1",
            f"Host: 127.0.0.1:{self.plane.http_port}",
            "Content-Type: application/json",
            *shown,
            *lines,
        )
        return "".join(f"{line}\r\n" for line in all_lines).encode() + b"\r\n"

    def websocket(
        self, *messages: object, who: str | None = None, params: object = None, **headers: str
    ) -> str:
        """Open a websocket and say this on it; return by what it was refused."""
        shown = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            with connect(
                f"ws://127.0.0.1:{self.plane.http_port}/graphql",
                subprotocols=[PROTOCOL],
                additional_headers=self.shown(who) | shown,
                max_size=None,
            ) as connection:
                connection.send(json.dumps({"type": "connection_init", "payload": params or {}}))
                connection.recv(PATIENCE)
                for message in messages:
                    connection.send(message if isinstance(message, str) else json.dumps(message))
                told = json.loads(connection.recv(PATIENCE))
                payload = told["payload"]
                errors = payload if isinstance(payload, list) else payload["errors"]
                return str(errors[0]["extensions"]["code"])
        except InvalidStatus as refused:
            return str(refused.response.status_code)
        except ConnectionClosed as closed:
            return str(closed.rcvd.code if closed.rcvd else "closed")

    def mcp(
        self, message: object, who: str | None = "viewer", headers: dict[str, str] | None = None
    ) -> tuple[str, Any, http.client.HTTPMessage]:
        """Send a message; return the status, what came back, and its headers."""
        content = message if isinstance(message, bytes) else json.dumps(message).encode()
        answer = fetch(self.plane, "POST", "/mcp", content, MCP | self.shown(who) | (headers or {}))
        text = answer.text
        if "data: " in text:
            text = text.rpartition("data: ")[2]
        with contextlib.suppress(ValueError):
            return str(answer.status), json.loads(text), answer.headers
        return str(answer.status), text, answer.headers

    def method(self, method: str, params: dict[str, Any], who: str = "admin") -> str:
        """Send a request in a session of the older era; return the code of the error."""
        session = self.mcp_session(who)
        message = {"jsonrpc": "2.0", "id": 2, "method": method, "params": params}
        status, told, _ = self.mcp(message, who, session)
        self.http("DELETE", "/mcp", None, who, MCP | session)
        if "error" in told:
            return f"error {told['error']['code']}"
        result = told["result"]
        return str(result["structuredContent"]["code"]) if result.get("isError") else status

    def tool(self, name: str, arguments: dict[str, Any], who: str) -> str:
        """Call a tool."""
        return self.method("tools/call", {"name": name, "arguments": arguments}, who)

    def mcp_session(self, who: str = "viewer") -> dict[str, str]:
        """Open a session of the older era, and return the header of it."""
        status, _, headers = self.mcp(INITIALIZE, who)
        assert status == "200"
        return {"mcp-session-id": headers["mcp-session-id"]}

    # gRPC.

    @contextlib.contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        options = (("grpc.use_local_subchannel_pool", 1),)
        target = f"127.0.0.1:{self.plane.grpc_port}"
        with grpc.insecure_channel(target, options) as channel:
            yield channel

    def metadata(self, who: str | None) -> list[tuple[str, str]]:
        return [(name.lower(), value) for name, value in self.shown(who).items()]

    def rpc(self, method: str, request: Any, who: str | None = None) -> str:
        """Call a method of the control service."""
        with self.channel() as channel:
            call = getattr(ControlServiceStub(channel), method)
            return refusal(lambda: call(request, metadata=self.metadata(who), timeout=PATIENCE))

    def execute(self, command: str, arguments: dict[str, Any], who: str | None) -> str:
        """Run a command by its name over gRPC."""
        request = pb.ExecuteRequest(command=command)
        ParseDict(arguments, request.arguments)
        return self.rpc("Execute", request, who)

    def bytes_to(self, method: str, data: bytes, who: str | None = "admin") -> str:
        """Send bytes to a method."""
        with self.channel() as channel:
            call = channel.unary_unary(method)
            return refusal(lambda: call(data, metadata=self.metadata(who), timeout=PATIENCE))

    # Lines, and the command line.

    def lines(self, *lines: object) -> str:
        """Send lines; return the code of each answer."""
        sent = b"".join(
            (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n"
            for line in lines
        )
        answers = io.BytesIO()
        JsonLines(self.plane.dispatcher).serve(io.BytesIO(sent), answers)
        told = [json.loads(line) for line in answers.getvalue().splitlines()]
        return " ".join("ok" if one["ok"] else one["error"]["code"] for one in told)

    def command_line(self, *words: str, who: str) -> str:
        """Run `ninelives` and return how it ended."""
        where = ["--address", f"127.0.0.1:{self.plane.grpc_port}", "--token", self.tokens[who]]
        return f"exit {run([*words, *where])}"


def _code(body: bytes) -> str:
    """Return the code of a problem, or of the first error of GraphQL; "" if there is none."""
    try:
        told = json.loads(body)
    except ValueError:
        return ""
    if "errors" in told:
        return str(told["errors"][0]["extensions"]["code"])
    return str(told.get("code", ""))


def refusal(call: Any) -> str:
    """Return by what a call over gRPC was refused."""
    try:
        answer = call()
        if not hasattr(answer, "DESCRIPTOR") and not isinstance(answer, bytes):
            list(answer)
    except grpc.RpcError as error:
        known = told_over_grpc(error)
        return error.code().name + (f" {known.code}" if known else "")
    return "OK"
