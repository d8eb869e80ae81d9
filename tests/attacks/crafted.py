"""Attackers who send what nobody would send."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

from google.protobuf.internal.encoder import _VarintBytes
from google.protobuf.struct_pb2 import Value

from ninelives_control.v1 import control_pb2 as pb
from tests.attacks.attack import Attack
from tests.attacks.world import MCP, PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attacks.world import World

BAD = "400 invalid_argument"
SET = ("rest set_parameter invalid_argument",)
HTTP = ("http http invalid_argument",)
DENIED = ("http http permission_denied",)
BODY = {"path": PATH, "value": 5}
DEEP = 100_000


def path(value: str) -> Callable[[World], str]:
    return lambda world: world.change("admin", path=value)


def value(text: str) -> Callable[[World], str]:
    """Send a value as it stands in JSON."""
    body = f'{{"path": "{PATH}", "value": {text}}}'.encode()
    return lambda world: world.rest("set_parameter", body, "admin")


def sent(body: bytes, **headers: str) -> Callable[[World], str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda world: world.rest("set_parameter", body, "admin", named)


def headed(*lines: str, body: bytes = b"") -> Callable[[World], str]:
    return lambda world: world.raw(world.head("admin", *lines) + body)


def asked(document: Any, **variables: object) -> Callable[[World], str]:
    return lambda world: world.graphql(document, **variables)


def _smuggled(world: World) -> str:
    """Hide a change behind a request, from whoever believes its length."""
    body = json.dumps(BODY).encode()
    hidden = b"0\r\n\r\n" + world.head("admin", f"Content-Length: {len(body)}") + body
    lengths = (f"Content-Length: {len(hidden)}", "Transfer-Encoding: chunked")
    return world.raw(world.head("viewer", *lengths) + hidden)


def _nested(times: int) -> bytes:
    """Return a request whose value is a list of a list of a list."""
    value = Value(bool_value=True).SerializeToString()
    for _ in range(times):
        # By hand: protobuf would not write what it does not read.
        for tag in (b"\x0a", b"\x32"):
            value = tag + _VarintBytes(len(value)) + value
    return b"\x12" + _VarintBytes(len(value)) + value


def _unpaired(world: World) -> str:
    return world.rest("set_parameter", b'{"path": "shop/\\ud800/x", "value": 1}', "admin")


def _browser(headers: dict[str, str]) -> Callable[[World], str]:
    """Do what a page in a browser on this machine can do."""
    return lambda world: world.rest("set_parameter", BODY, "admin", headers)


COMMANDS = (
    Attack(name="path: up and away", do=path("shop/../bank/max_attempts"), told=BAD, audit=SET),
    Attack(
        name="path: a policy that is called ..",
        do=path("shop/../max_attempts"),
        told="404 not_found",
        audit=("rest set_parameter not_found",),
    ),
    Attack(name="path: one part too many", do=path(f"{PATH}/x"), told=BAD, audit=SET),
    Attack(name="path: nothing between", do=path("shop//max_attempts"), told=BAD, audit=SET),
    Attack(
        name="path: NUL in the end",
        do=path(f"{PATH}\0"),
        told="404 not_found",
        audit=("rest set_parameter not_found",),
    ),
    Attack(
        name="path: letters that look alike",
        do=path("sh\u043ep/retry/max_attempts"),
        told="404 not_found",
        audit=("rest set_parameter not_found",),
    ),
    Attack(
        name="path: other capitals",
        do=path("SHOP/retry/max_attempts"),
        told="404 not_found",
        audit=("rest set_parameter not_found",),
    ),
    Attack(
        name="path: a pattern",
        do=path("shop/*/max_attempts"),
        told="404 not_found",
        audit=("rest set_parameter not_found",),
    ),
    Attack(name="path: far too long", do=path("a/b/" + "c" * 5000), told=BAD, audit=SET),
    Attack(name="path: half of a surrogate pair", do=_unpaired, told=BAD, audit=SET),
    Attack(name="value: 10^400", do=value("1" + "0" * 400), told=BAD, audit=SET),
    Attack(name="value: 1e400", do=value("1e400"), told=BAD, audit=SET),
    Attack(name="value: more digits than Python reads", do=value("9" * 5000), told=BAD, audit=SET),
    Attack(name="value: NaN", do=value("NaN"), told=BAD, audit=SET),
    Attack(name="value: Infinity", do=value("-Infinity"), told=BAD, audit=SET),
    Attack(name="value: true for 1", do=value("true"), told=BAD, audit=SET),
    Attack(name="value: a text for a number", do=value('"5"'), told=BAD, audit=SET),
    Attack(name="value: an object", do=value('{"__class__": "int"}'), told=BAD, audit=SET),
    Attack(name="value: beyond what is possible", do=value("1000000"), told=BAD, audit=SET),
    Attack(
        name="argument: one that there is not",
        do=lambda world: world.change("admin", role="admin"),
        told=BAD,
        audit=SET,
    ),
    Attack(
        name="argument: a name of Python's own",
        do=lambda world: world.change("admin", __class__="x"),
        told=BAD,
        audit=SET,
    ),
    Attack(
        name="argument: a reason that fills the audit",
        do=lambda world: world.change("admin", reason="x" * 100_000),
        told=BAD,
        audit=SET,
    ),
    Attack(
        name="argument: a lease for ever",
        do=lambda world: world.change("admin", lease=1e300),
        told=BAD,
        audit=SET,
    ),
    Attack(
        name="command: one that there is not",
        do=lambda world: world.rest("__init__", {}, "admin"),
        told="404 unknown_command",
        audit=("rest __init__ unknown_command",),
    ),
    Attack(
        name="command: lines of its own in the audit",
        do=lambda world: world.execute("set\nadmin erase succeeded", {}, "admin"),
        told="NOT_FOUND unknown_command",
        audit=("grpc set\nadmin erase succeeded unknown_command",),
    ),
    Attack(
        name="json: nested 100,000 deep",
        do=sent(b'{"path":' + b"[" * DEEP + b"]" * DEEP + b"}"),
        told=BAD,
        audit=SET,
    ),
    Attack(
        name="json: the same name twice",
        do=sent(f'{{"path": "{PATH}", "value": 4, "value": 5}}'.encode()),
        told=BAD,
        audit=SET,
    ),
    Attack(name="json: a list", do=sent(b"[]"), told=BAD, audit=SET),
    Attack(
        name="json: bytes that are no text", do=sent(b'{"path": "\xff\xfe"}'), told=BAD, audit=SET
    ),
    Attack(
        name="json: packed with gzip",
        do=sent(gzip.compress(b" " * 2**24), Content_Encoding="gzip"),
        told=BAD,
        audit=SET,
    ),
)

REQUESTS = (
    Attack(name="http: 2 MB", do=sent(b" " * 2**21), told="413", audit=HTTP),
    Attack(
        name="http: 100 MB that are announced only",
        do=headed(f"Content-Length: {100 * 2**20}"),
        told="413",
        audit=HTTP,
    ),
    Attack(
        name="http: chunks without an end",
        do=headed(
            "Transfer-Encoding: chunked",
            body=b"".join(b"10000\r\n" + b" " * 2**16 + b"\r\n" for _ in range(20)),
        ),
        told="413",
        audit=HTTP,
    ),
    Attack(
        name="http: two lengths (request smuggling)",
        do=headed("Content-Length: 5", "Content-Length: 50"),
        told="400",
        audit=HTTP,
    ),
    Attack(
        name="http: a length and chunks (request smuggling)",
        do=_smuggled,
        told="400",
        audit=HTTP,
    ),
    Attack(
        name="http: chunks by another name (request smuggling)",
        do=headed("Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
        told="400",
        audit=HTTP,
    ),
    Attack(
        name="http: a header over two lines",
        do=headed("X-One: a\r\nAuthorization : Bearer x"),
        told="400",
        audit=HTTP,
    ),
    Attack(
        name="http: headers without an end",
        do=lambda world: world.raw(
            world.head("admin")[:-2] + b"".join(b"X-%d: y\r\n" % n for n in range(20_000))
        ),
        told="400",
        audit=HTTP,
    ),
    Attack(
        name="http: bytes that are no HTTP",
        do=lambda world: world.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        told="400",
        audit=HTTP,
    ),
    Attack(
        name="http: a method by a header",
        do=lambda world: world.http(
            "GET", "/v1/commands/set_parameter", None, "admin", {"X-HTTP-Method-Override": "POST"}
        ),
        told="405 invalid_argument",
        audit=HTTP,
    ),
    Attack(
        name="http: a change by GET",
        do=lambda world: world.http(
            "GET", f"/v1/commands/set_parameter?path={PATH}&value=5", None, "admin"
        ),
        told="405 invalid_argument",
        audit=HTTP,
    ),
    Attack(
        name="http: TRACE, which would tell the token",
        do=lambda world: world.http("TRACE", "/v1/commands/get_state", None, "admin"),
        told="405 invalid_argument",
        audit=HTTP,
    ),
    Attack(
        name="http: a way out of the folder",
        do=lambda world: world.http("GET", "/v1/commands/..%2f..%2fmetrics", None, "admin"),
        told="404 invalid_argument",
        audit=("http http not_found",),
    ),
    Attack(
        name="browser: a form",
        do=_browser({"Content-Type": "application/x-www-form-urlencoded"}),
        told="415 invalid_argument",
        audit=HTTP,
    ),
    Attack(
        name="browser: JSON as plain text, which takes no preflight",
        do=_browser({"Content-Type": "text/plain"}),
        told="415 invalid_argument",
        audit=HTTP,
    ),
    Attack(
        name="browser: a page of another origin",
        do=_browser({"Origin": "https://evil.example"}),
        told="403 invalid_argument",
        audit=DENIED,
    ),
    Attack(
        name="browser: a sandboxed page (Origin: null)",
        do=_browser({"Origin": "null"}),
        told="403 invalid_argument",
        audit=DENIED,
    ),
    Attack(
        name="browser: a name that was made to lead here (DNS rebinding)",
        do=_browser({"Host": "evil.example:8090", "Origin": "http://evil.example:8090"}),
        told="421 invalid_argument",
        audit=HTTP,
    ),
    Attack(
        name="browser: DNS rebinding of metrics, which take no token",
        do=lambda world: world.http("GET", "/metrics", headers={"Host": "evil.example"}),
        told="421 invalid_argument",
        audit=HTTP,
    ),
    Attack(
        name="browser: DNS rebinding with a host that is claimed to be another",
        do=_browser({"Host": "evil.example", "X-Forwarded-Host": "127.0.0.1"}),
        told="421 invalid_argument",
        audit=HTTP,
    ),
    Attack(
        name="browser: a websocket of another origin",
        do=lambda world: world.websocket(who="admin", Origin="https://evil.example"),
        told="403",
        audit=DENIED,
    ),
    Attack(
        name="browser: a websocket after DNS rebinding",
        do=lambda world: world.websocket(
            who="admin", Origin="http://evil.example", X_Forwarded_Host="127.0.0.1"
        ),
        told="403",
        audit=DENIED,
    ),
    Attack(
        name="browser: MCP of another origin",
        do=lambda world: world.mcp({}, "admin", {"Origin": "https://evil.example"})[0],
        told="403",
        audit=DENIED,
    ),
)

_ALIASES = "{" + " ".join(f"a{n}: listStacks {{ total }}" for n in range(200)) + "}"
_NAMES = [f"a{n}" for n in range(100)]
_CYCLE = "{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }"
_SPREADS = (
    "{ ...f0 } "
    + " ".join(f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(20))
    + " fragment f20 on Query { listStacks { total } }"
)
DOCUMENTS = (
    Attack(
        name="graphql: nested deep",
        do=asked("{ stacks { " + "policies { stack { " * 20 + "name" + " } }" * 20 + " } }"),
        told="200 invalid_argument",
        audit=("graphql list_stacks invalid_argument",),
    ),
    Attack(
        name="graphql: brackets 100,000 deep",
        do=asked("{" * DEEP),
        told="200 invalid_argument",
        audit=("graphql graphql invalid_argument",),
    ),
    Attack(
        name="graphql: 200 aliases",
        do=asked(_ALIASES),
        told="200 invalid_argument",
        audit=("graphql graphql invalid_argument",),
    ),
    Attack(
        name="graphql: 100 commands at once",
        do=asked("mutation {" + " ".join(f"{name}: resetCircuitBreaker" for name in _NAMES) + "}"),
        told="200 invalid_argument",
        audit=(
            *("graphql reset_circuit_breaker invalid_argument",) * 20,
            "graphql graphql invalid_argument",
        ),
    ),
    Attack(
        name="graphql: fragments in a circle",
        do=asked(_CYCLE),
        told="200 invalid_argument",
        audit=("graphql graphql invalid_argument",),
    ),
    Attack(
        name="graphql: fragments that double twenty times",
        do=asked(_SPREADS),
        told="200 invalid_argument",
        audit=("graphql list_stacks invalid_argument",),
    ),
    Attack(
        name="graphql: a batch",
        do=asked([{"query": "{ listStacks { total } }"}] * 1000),
        told="400 invalid_argument",
        audit=HTTP,
    ),
    Attack(
        name="graphql: a mutation by GET",
        do=lambda world: world.http(
            "GET", "/graphql?query=mutation%7BresetCircuitBreaker%7Bcircuits%7D%7D", None, "admin"
        ),
        told="405 invalid_argument",
        audit=HTTP,
    ),
    Attack(
        name="graphql: the schema of what is not there",
        do=asked("{ __schema { secrets } }"),
        told="200 invalid_argument",
        audit=("graphql graphql invalid_argument",),
    ),
    Attack(
        name="graphql: messages on a websocket that are none",
        do=lambda world: world.websocket("[" * 1000, who="admin"),
        told="4400",
        audit=HTTP,
    ),
    Attack(
        name="graphql: a websocket message of 2 MB",
        do=lambda world: world.websocket({"type": "ping", "payload": "x" * 2**21}, who="admin"),
        told="1009",
        audit=HTTP,
    ),
)

MESSAGES = (
    Attack(
        name="grpc: bytes that are no message",
        do=lambda world: world.bytes_to(
            "/ninelives_control.v1.ControlService/SetParameter", b"\xff" * 100
        ),
        told="INVALID_ARGUMENT invalid_argument",
        audit=("grpc set_parameter invalid_argument",),
    ),
    Attack(
        name="grpc: lists nested 1,000 deep",
        do=lambda world: world.bytes_to(
            "/ninelives_control.v1.ControlService/SetParameter", _nested(1000)
        ),
        told="INVALID_ARGUMENT invalid_argument",
        audit=("grpc set_parameter invalid_argument",),
    ),
    Attack(
        name="grpc: bytes that are no message, by somebody who may not",
        do=lambda world: world.bytes_to(
            "/ninelives_control.v1.ControlService/SetParameter", b"\xff" * 100, "viewer"
        ),
        told="PERMISSION_DENIED permission_denied",
        audit=("grpc set_parameter permission_denied",),
    ),
    Attack(
        name="grpc: a method that there is not",
        do=lambda world: world.bytes_to("/ninelives_control.v1.ControlService/Stop", b""),
        told="UNIMPLEMENTED",
        audit=("grpc grpc unknown_command",),
    ),
    Attack(
        name="grpc: 2 MB",
        do=lambda world: world.rpc(
            "SetParameter", pb.SetParameterRequest(path="x" * 2**21), "admin"
        ),
        told="RESOURCE_EXHAUSTED",
        unseen="gRPC's core refuses the message before Python is told of it",
    ),
    Attack(
        name="grpc: 100 kB of metadata",
        do=lambda world: world.bytes_to(
            "/ninelives_control.v1.ControlService/GetState", b"", "x" * 100_000
        ),
        told="RESOURCE_EXHAUSTED",
        unseen="gRPC's core refuses the headers before Python is told of them",
    ),
    Attack(
        name="grpc: a number that is none",
        do=lambda world: world.rpc("SetParameter", _nan(), "admin"),
        told="INVALID_ARGUMENT invalid_argument",
        audit=("grpc set_parameter invalid_argument",),
    ),
    Attack(
        name="mcp: a tool that there is not",
        do=lambda world: world.tool("../erase", {}, "admin"),
        told="error -32602",
        audit=("mcp ../erase unknown_command",),
    ),
    Attack(
        name="mcp: a resource outside",
        do=lambda world: world.method("resources/read", {"uri": "file:///etc/passwd"}),
        told="error -32002",
        audit=("mcp mcp invalid_argument",),
    ),
    Attack(
        name="mcp: a way out of the resources",
        do=lambda world: world.method("resources/read", {"uri": "ninelives://stacks/../../audit"}),
        told="error -32002",
        audit=("mcp mcp invalid_argument",),
    ),
    Attack(
        name="mcp: a method that there is not",
        do=lambda world: world.method("tools/stop", {}),
        told="error -32601",
        audit=("mcp mcp invalid_argument",),
    ),
    Attack(
        name="mcp: what is no message",
        do=lambda world: world.mcp(b"{" * DEEP, "admin")[0],
        told="400",
        audit=HTTP,
    ),
    Attack(
        name="mcp: 2 MB",
        do=lambda world: world.mcp(b" " * 2**21, "admin")[0],
        told="413",
        audit=HTTP,
    ),
    Attack(
        name="mcp: an answer as a form",
        do=lambda world: world.http(
            "POST", "/mcp", b"x", "admin", MCP | {"Content-Type": "multipart/form-data"}
        ),
        told="415 invalid_argument",
        audit=HTTP,
    ),
    Attack(
        name="lines: nested 100,000 deep",
        do=lambda world: world.lines(b'{"cmd":' * DEEP),
        told="invalid_argument",
        audit=("lines lines invalid_argument",),
    ),
    Attack(
        name="lines: 2 MB",
        do=lambda world: world.lines(json.dumps({"cmd": "x" * 2**21}).encode()),
        told="invalid_argument",
        audit=("lines lines invalid_argument",),
    ),
)


def _nan() -> pb.SetParameterRequest:
    request = pb.SetParameterRequest(path=PATH)
    request.value.number_value = float("nan")
    return request
