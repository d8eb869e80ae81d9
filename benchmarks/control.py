"""What a command costs over each transport, beside an empty handler on the same libraries.

    python benchmarks/control.py [--rounds 20] [--calls 20] [--callers 8]

Ours is a control plane with a token file and an audit on disk: each change is two rows, written
before and after. Bare are an empty grpc.aio handler, a starlette route on uvicorn, a strawberry
schema with one field and an MCP server with one tool, which know nobody and write nothing down;
and for lines a loop that parses and answers them. In the process, bare is the handler of the
command without what stands around it. Servers are processes of their own, and all take turns in
each round. Latency is that of one caller, throughput that of several.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import strawberry
import uvicorn
from mcp.server.lowlevel import Server
from mcp_types import CallToolResult, ListToolsResult, TextContent, Tool
from measure import bare_channel
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from strawberry.asgi import GraphQL

from ninelives_control import ControlPlane, JsonLines, Limits
from ninelives_control.identity import tokens as token_file
from ninelives_control.identity.identity import Role
from ninelives_control.v1 import control_pb2 as pb
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from ninelives_grpc import Bulkhead, Registry, Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Ask = Callable[[], object]

PATH = "shop/bulkhead/max_concurrent"
READ, CHANGE = "get_parameter", "set_parameter"
WAYS = ("process", "grpc", "execute", "rest", "graphql", "mcp", "lines")
ARGUMENTS: dict[str, dict[str, object]] = {
    READ: {"path": PATH},
    CHANGE: {"path": PATH, "value": 7},
}
_LIFTED = Limits(
    commands_per_second=1e6,
    burst=1e6,
    changes_per_second=1e6,
    changes_burst=1e6,
    concurrent=1000,
)
_DOCUMENTS = {
    READ: f'{{ getParameter(path: "{PATH}") {{ path value revision }} }}',
    CHANGE: f'mutation {{ setParameter(path: "{PATH}", value: 7) {{ path new revision }} }}',
}
_MCP = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


# --- servers -------------------------------------------------------------------------------------


def _plane(folder: str, **ports: int | None) -> ControlPlane:
    registry = Registry()
    Stack("shop", Bulkhead(7), registry=registry)
    return ControlPlane(
        registry,
        tokens=Path(folder, "tokens.json"),
        audit=Path(folder, f"audit-{time.monotonic_ns()}.sqlite"),
        limits=_LIFTED,
        grpc_port=ports["grpc"],
        http_port=ports["http"],
    )


def serve_ours(folder: str) -> None:
    """Serve a control plane until standard input ends."""
    with _plane(folder, grpc=0, http=0) as plane:
        print(plane.grpc_port, plane.http_port, flush=True)
        sys.stdin.read()


async def serve_bare() -> None:
    """Serve empty handlers until standard input ends."""
    rpc = grpc.aio.server()
    rpc.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "ninelives_control.v1.ControlService",
                {
                    "GetParameter": _handler(pb.GetParameterRequest, pb.GetParameterResponse),
                    "SetParameter": _handler(pb.SetParameterRequest, pb.SetParameterResponse),
                    "Execute": _handler(pb.ExecuteRequest, pb.ExecuteResponse),
                },
            ),
        )
    )
    port = rpc.add_insecure_port("127.0.0.1:0")
    await rpc.start()
    mcp = _bare_mcp()
    # The app must be there before its sessions are run.
    endpoint = mcp.streamable_http_app(streamable_http_path="/mcp", json_response=True)
    app = Starlette(
        routes=[
            Route("/v1/commands/{name}", _empty, methods=["POST"]),
            Route("/graphql", GraphQL(_bare_schema()), methods=["POST"]),
            Mount("/", endpoint),
        ],
        lifespan=lambda _: mcp.session_manager.run(),
    )
    config = uvicorn.Config(app, port=0, http="h11", log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0.01)
    print(port, server.servers[0].sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving
    await rpc.stop(None)


def _handler(request: Any, response: Any) -> Any:
    async def answer(_request: object, _context: object) -> Any:
        return response()

    return grpc.unary_unary_rpc_method_handler(
        answer, request.FromString, response.SerializeToString
    )


async def _empty(request: Any) -> JSONResponse:
    await request.json()
    return JSONResponse({"path": PATH, "new": 7, "revision": 1})


def _bare_schema() -> strawberry.Schema:
    @strawberry.type
    class Answer:
        path: str = PATH
        value: int = 7
        new: int = 7
        revision: int = 1

    @strawberry.type
    class Query:
        @strawberry.field
        async def get_parameter(self, path: str) -> Answer:
            return Answer()

    @strawberry.type
    class Mutation:
        @strawberry.field
        async def set_parameter(self, path: str, value: int) -> Answer:
            return Answer()

    # Names that are written as text are looked up in the module.
    globals()["Answer"] = Answer
    return strawberry.Schema(Query, Mutation)


def _bare_mcp() -> Server[Any]:
    async def tools(_context: Any, _params: Any) -> ListToolsResult:
        schema = {"type": "object"}
        return ListToolsResult(
            tools=[Tool(name=name, input_schema=schema) for name in (READ, CHANGE)]
        )

    async def call(_context: Any, _params: Any) -> CallToolResult:
        content = {"path": PATH, "new": 7, "revision": 1}
        text = TextContent(type="text", text=json.dumps(content))
        return CallToolResult(content=[text], structured_content=content)

    return Server("bare", on_list_tools=tools, on_call_tool=call)


def serve_lines(folder: str, token: str) -> None:
    """Answer lines of standard input for a control plane in this process."""
    del token
    with _plane(folder, grpc=None, http=None) as plane:
        JsonLines(plane.dispatcher).serve(sys.stdin.buffer, sys.stdout.buffer)


def serve_bare_lines() -> None:
    """Parse lines of standard input, and answer them."""
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answer = {"id": request["id"], "ok": True, "result": {"path": PATH, "revision": 1}}
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


# --- clients -------------------------------------------------------------------------------------


def over_grpc(ports: list[int], token: str, command: str) -> Ask:
    """Ask by the RPC of the command."""
    stub = ControlServiceStub(bare_channel(f"127.0.0.1:{ports[0]}"))
    metadata = (("authorization", f"Bearer {token}"),)
    if command == READ:
        read = pb.GetParameterRequest(path=PATH)
        return lambda: stub.GetParameter(read, metadata=metadata)
    change = pb.SetParameterRequest(path=PATH)
    change.value.number_value = 7
    return lambda: stub.SetParameter(change, metadata=metadata)


def over_execute(ports: list[int], token: str, command: str) -> Ask:
    """Ask by the RPC for all commands."""
    stub = ControlServiceStub(bare_channel(f"127.0.0.1:{ports[0]}"))
    metadata = (("authorization", f"Bearer {token}"),)
    request = pb.ExecuteRequest(command=command)
    request.arguments.update(ARGUMENTS[command])
    return lambda: stub.Execute(request, metadata=metadata)


def over_http(ports: list[int], token: str, path: str, body: object, **more: str) -> Ask:
    """Ask by a request, on a connection that is kept."""
    connection = http.client.HTTPConnection("127.0.0.1", ports[1], timeout=20)
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    text = json.dumps(body)

    def ask() -> None:
        try:
            connection.request("POST", path, text, headers)
            answer = connection.getresponse()
        except OSError:
            connection.close()
            connection.request("POST", path, text, headers)
            answer = connection.getresponse()
        told = answer.read()
        if answer.status != 200 or b'"errors"' in told or b'"isError":true' in told:  # noqa: PLR2004
            raise RuntimeError(told.decode())

    return ask


def over_rest(ports: list[int], token: str, command: str) -> Ask:
    """Ask over REST."""
    return over_http(ports, token, f"/v1/commands/{command}", ARGUMENTS[command])


def over_graphql(ports: list[int], token: str, command: str) -> Ask:
    """Ask over GraphQL."""
    return over_http(ports, token, "/graphql", {"query": _DOCUMENTS[command]})


def over_mcp(ports: list[int], token: str, command: str) -> Ask:
    """Ask over MCP, without a session."""
    params = {"name": command, "arguments": ARGUMENTS[command], "_meta": _MCP}
    return over_http(
        ports,
        token,
        "/mcp",
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
        accept="application/json, text/event-stream",
        mcp_protocol_version="2026-07-28",
        mcp_method="tools/call",
        mcp_name=command,
    )


REMOTE = {
    "grpc": over_grpc,
    "execute": over_execute,
    "rest": over_rest,
    "graphql": over_graphql,
    "mcp": over_mcp,
}


def by_lines(process: subprocess.Popen[bytes], token: str, command: str) -> Ask:
    """Ask by a line."""
    request = {"id": 1, "cmd": command, "args": ARGUMENTS[command], "auth": token}
    line = json.dumps(request).encode() + b"\n"
    to, back = process.stdin, process.stdout
    assert to is not None
    assert back is not None

    def ask() -> None:
        to.write(line)
        to.flush()
        if b'"ok":true' not in (told := back.readline()).replace(b" ", b""):
            raise RuntimeError(told.decode())

    return ask


# --- measuring -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.communicate()


def _ports(process: subprocess.Popen[bytes]) -> list[int]:
    assert process.stdout is not None
    return [int(port) for port in process.stdout.readline().split()]


def _latencies(ask: Ask, calls: int) -> list[float]:
    latencies = []
    for _ in range(calls):
        began = time.perf_counter()
        ask()
        latencies.append((time.perf_counter() - began) * 1e3)
    return latencies


def _throughput(asks: list[Ask], calls: int) -> float:
    def run(ask: Ask) -> None:
        for _ in range(calls):
            ask()

    threads = [threading.Thread(target=run, args=(ask,)) for ask in asks]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return calls * len(asks) / (time.perf_counter() - began)


def measure(rounds: int, calls: int, callers: int) -> None:
    """Print latency and throughput of each transport, ours and bare."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        token = token_file.create(Path(folder, "tokens.json"), "benchmark", Role.OPERATOR)
        ports = {
            "ours": _ports(stack.enter_context(_process("ours", folder))),
            "bare": _ports(stack.enter_context(_process("bare"))),
        }
        lines = {
            "ours": stack.enter_context(_process("lines", folder, token)),
            "bare": stack.enter_context(_process("bare-lines")),
        }
        plane = stack.enter_context(_plane(folder, grpc=None, http=None))
        for command in (READ, CHANGE):
            asks: dict[tuple[str, str], list[Ask]] = {}
            for kind in ("ours", "bare"):
                for way, make in REMOTE.items():
                    asks[way, kind] = [make(ports[kind], token, command) for _ in range(callers)]
                asks["lines", kind] = [by_lines(lines[kind], token, command)]
            asks["process", "ours"] = [_in_process(plane, command)] * callers
            asks["process", "bare"] = [_handler_alone(plane)] * callers
            _report(command, *_take_turns(asks, rounds, calls))


def _in_process(plane: ControlPlane, command: str) -> Ask:
    return lambda: plane.execute(command, **ARGUMENTS[command])


def _handler_alone(plane: ControlPlane) -> Ask:
    return plane.registry.stack("shop").parameters["bulkhead/max_concurrent"].get


Figures = dict[tuple[str, str], list[float]]


def _take_turns(
    asks: dict[tuple[str, str], list[Ask]], rounds: int, calls: int
) -> tuple[Figures, Figures]:
    latencies: Figures = {name: [] for name in asks}
    throughput: Figures = {name: [] for name in asks}
    names = list(asks)
    for number in range(-1, rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            for ask in asks[name]:  # connections that were closed meanwhile are opened again
                ask()
            measured = _latencies(asks[name][0], calls)
            together = _throughput(asks[name], max(1, calls // 4))
            if number >= 0:
                latencies[name] += measured
                throughput[name].append(together)
    return latencies, throughput


def _report(command: str, latencies: Figures, throughput: Figures) -> None:
    print(f"\n{command}")
    print(
        f"  {'':10}{'p50 ms':>8}{'p99 ms':>8}{'1/s':>8}{'bare p50':>10}{'p99':>8}{'1/s':>8}", end=""
    )
    print(f"{'p50 x':>8}{'p99 x':>8}{'1/s x':>8}")
    for way in WAYS:
        figures = []
        for kind in ("ours", "bare"):
            ordered = sorted(latencies[way, kind])
            figures += [
                statistics.median(ordered),
                ordered[int(0.99 * (len(ordered) - 1))],
                statistics.median(throughput[way, kind]),
            ]
        ours, bare = figures[:3], figures[3:]
        ratios = "".join(f"{a / b:8.2f}" for a, b in zip(ours, bare, strict=True))
        print(
            f"  {way:10}{ours[0]:8.2f}{ours[1]:8.2f}{ours[2]:8.0f}"
            f"{bare[0]:10.2f}{bare[1]:8.2f}{bare[2]:8.0f}{ratios}",
            flush=True,
        )


def main() -> None:
    """Measure; or serve, as one of the processes that it starts."""
    match sys.argv[1:]:
        case ["ours", folder]:
            serve_ours(folder)
        case ["bare"]:
            asyncio.run(serve_bare())
        case ["lines", folder, token]:
            serve_lines(folder, token)
        case ["bare-lines"]:
            serve_bare_lines()
        case _:
            parser = argparse.ArgumentParser(
                description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
            )
            parser.add_argument("--rounds", type=int, default=20)
            parser.add_argument("--calls", type=int, default=20)
            parser.add_argument("--callers", type=int, default=8)
            given = parser.parse_args()
            measure(given.rounds, given.calls, given.callers)


if __name__ == "__main__":
    main()
