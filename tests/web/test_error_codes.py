"""What each code is on each transport: one table, and one cause for each that a client can meet."""

import asyncio
import io
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from grpc import StatusCode
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from pydantic.alias_generators import to_camel

from ninelives_control import ControlPlane, JsonLines, Limits
from ninelives_control.cli.group import run
from ninelives_control.errors import Code, CommandError
from ninelives_control.identity.identity import Credentials
from ninelives_control.transports.grpc.errors import told as told_over_grpc
from ninelives_control.v1 import control_pb2 as pb
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from tests.control import added
from tests.web.graphql_asker import literal
from tests.web.http_asker import JSON, fetch, post
from tests.web.mcp.clients import over_http, told

RESULT = "result"
"""Over MCP, what a model is to read is the result of a tool, with isError."""
PATH = "shop/retry/max_attempts"
SET = "set_parameter"


@dataclass(frozen=True)
class Row:
    """A code.

    Attributes:
        grpc: The status over gRPC.
        http: The status over REST.
        mcp: How it comes over MCP: as a result, as an error of the protocol with a number, or as a
            status of HTTP, as nobody may begin who is not known.
        exit: How `ninelives` ends.
        command: What meets it, with its arguments, for somebody with the token of a role.
    """

    grpc: StatusCode
    http: int
    mcp: str | int
    exit: int
    command: str
    arguments: dict
    who: str = "admin"


GOLDEN = {
    Code.INVALID_ARGUMENT: Row(
        StatusCode.INVALID_ARGUMENT, 400, RESULT, 2, SET, {"path": PATH, "value": 500}
    ),
    Code.NOT_FOUND: Row(
        StatusCode.NOT_FOUND, 404, RESULT, 3, SET, {"path": "shop/rety/jitter", "value": 5}
    ),
    Code.CONFLICT: Row(
        StatusCode.ABORTED,
        409,
        RESULT,
        5,
        SET,
        {"path": PATH, "value": 5, "expected_revision": 7},
    ),
    Code.UNAUTHENTICATED: Row(
        StatusCode.UNAUTHENTICATED,
        401,
        HTTPStatus.UNAUTHORIZED,
        4,
        SET,
        {"path": PATH, "value": 5},
        who="stranger",
    ),
    Code.PERMISSION_DENIED: Row(
        StatusCode.PERMISSION_DENIED,
        403,
        RESULT,
        4,
        SET,
        {"path": PATH, "value": 5},
        who="viewer",
    ),
    Code.UNKNOWN_COMMAND: Row(StatusCode.NOT_FOUND, 404, INVALID_PARAMS, 3, "st_parameter", {}),
    Code.AUDIT_UNAVAILABLE: Row(
        StatusCode.UNAVAILABLE, 503, RESULT, 6, SET, {"path": PATH, "value": 5}
    ),
    Code.UNAVAILABLE: Row(StatusCode.UNAVAILABLE, 503, RESULT, 6, "decline", {}),
    Code.RATE_LIMITED: Row(
        StatusCode.RESOURCE_EXHAUSTED, 429, RESULT, 6, SET, {"path": PATH, "value": 5}
    ),
    Code.INTERNAL: Row(StatusCode.INTERNAL, 500, RESULT, 1, "stumble", {}),
}


@pytest.fixture
def tokens(tokens):
    return {**tokens, "stranger": "ninelives_x"}


@pytest.fixture
def code(request):
    return request.param


@pytest.fixture
def plane(registry, shop, tokens, tokens_path, audit_path, code):
    """One that has let through all commands of the hour, if it is about that."""
    # HTTP requests are counted by themselves.
    limits = Limits(commands_per_second=0.001, burst=20.0)
    plane = ControlPlane(
        registry, grpc_port=0, http_port=0, tokens=tokens_path, audit=audit_path, limits=limits
    )
    for entry in added.ALL:
        plane.commands.add(entry)
    with plane:
        if code is Code.RATE_LIMITED:
            for _ in range(20):
                in_the_process("list_stacks", {}, plane, tokens["admin"])
        yield plane


def test_every_code_is_in_the_table():
    assert set(GOLDEN) == set(Code)


@pytest.mark.parametrize("code", GOLDEN, indirect=True)
def test_a_code_on_every_transport(code, plane, tokens, audit_path, shop, capsys):
    row = GOLDEN[code]
    token = tokens[row.who]
    if code is Code.AUDIT_UNAVAILABLE:
        with closing(sqlite3.connect(audit_path, isolation_level=None)) as other:
            other.execute("DROP TABLE audit")

    sentences = {
        refused_in_the_process(code, row, plane, token),
        over_grpc(code, row, plane, token),
        over_rest(code, row, plane, token),
        over_graphql(code, row, plane, token),
        asyncio.run(over_mcp(code, row, plane, token)),
        on_a_line(code, row, plane, token),
        on_the_command_line(row, plane, token, capsys),
    }

    # What nobody foresaw has the number of its entry in the log, GraphQL has a schema of its own,
    # and there is less and less to wait.
    assert len(sentences) == 1 or code in {Code.INTERNAL, Code.UNKNOWN_COMMAND, Code.RATE_LIMITED}
    assert added.SECRET not in "".join(sentences)
    assert shop.parameters["retry/max_attempts"].get() == 3


def in_the_process(command, arguments, plane, token):
    return plane.dispatcher.execute(
        command, arguments, caller=Credentials(token=token), transport="desk"
    )


def refused_in_the_process(code, row, plane, token):
    with pytest.raises(CommandError) as caught:
        in_the_process(row.command, row.arguments, plane, token)
    assert caught.value.code == code
    return caught.value.message


def over_grpc(code, row, plane, token):
    request = pb.ExecuteRequest(command=row.command)
    ParseDict(row.arguments, request.arguments)
    with (
        grpc.insecure_channel(f"127.0.0.1:{plane.grpc_port}") as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        ControlServiceStub(channel).Execute(
            request, metadata=[("authorization", f"Bearer {token}")], timeout=10
        )
    assert (caught.value.code(), told_over_grpc(caught.value).code) == (row.grpc, code)
    return caught.value.details()


def over_rest(code, row, plane, token):
    shown = {"Authorization": f"Bearer {token}"}
    body = json.dumps(row.arguments).encode()
    answer = fetch(plane, "POST", f"/v1/commands/{row.command}", body, JSON | shown)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.status, answer.json["status"], answer.json["code"]) == (row.http, row.http, code)
    return answer.json["detail"]


def over_graphql(code, row, plane, token):
    given = ", ".join(f"{to_camel(name)}: {literal(x)}" for name, x in row.arguments.items())
    field = to_camel(row.command) + (f"({given})" if given else "")
    answer = post(plane, f"mutation {{ {field} {{ __typename }} }}", token)
    (error,) = answer.json["errors"]
    assert (answer.status, error["extensions"]["code"]) == (200, code)
    return error["message"]


async def over_mcp(code, row, plane, token):
    if isinstance(row.mcp, HTTPStatus):
        shown = {"Authorization": f"Bearer {token}"}
        answer = fetch(plane, "POST", "/mcp", b"{}", JSON | shown)
        assert (answer.status, answer.json["code"]) == (row.mcp, code)
        return answer.json["detail"]
    async with over_http(f"http://127.0.0.1:{plane.http_port}", token) as client:
        if row.mcp == RESULT:
            answer = told(await client.call_tool(row.command, row.arguments))
            assert answer["code"] == code
            return answer["message"]
        with pytest.raises(MCPError) as caught:
            await client.call_tool(row.command, row.arguments)
        assert (caught.value.error.code, caught.value.error.data) == (row.mcp, {"code": code})
        return caught.value.error.message


def on_a_line(code, row, plane, token):
    asked = {"id": 7, "cmd": row.command, "args": row.arguments, "auth": token}
    answers = io.BytesIO()
    JsonLines(plane.dispatcher).serve(io.BytesIO(json.dumps(asked).encode()), answers)
    answer = json.loads(answers.getvalue())
    assert (answer["id"], answer["ok"], answer["error"]["code"]) == (7, False, code)
    return answer["error"]["message"]


def on_the_command_line(row, plane, token, capsys):
    required = {"path", "value"}
    given = [
        f"{value}" if name in required else f"--{name.replace('_', '-')}={value}"
        for name, value in row.arguments.items()
    ]
    where = ["--address", f"127.0.0.1:{plane.grpc_port}", "--token", token]

    ended = run(["call", row.command, *given, *where])

    said = capsys.readouterr()
    assert (ended, said.out) == (row.exit, "")
    return said.err.removeprefix("error: ").rstrip()
