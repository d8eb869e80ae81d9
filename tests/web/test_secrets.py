"""No secret is told anywhere after a session over every transport, with good and bad tokens."""

import asyncio
import io
import json
import logging
import sqlite3
import traceback
from contextlib import closing

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from mcp.shared.exceptions import MCPError

from ninelives_control import CommandError, ControlPlane, JsonLines
from ninelives_control.identity.identity import Credentials
from ninelives_control.transports.grpc.connection import Connection
from ninelives_control.transports.lines.session import Request
from ninelives_control.v1 import control_pb2 as pb
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from tests.control import added
from tests.web.http_asker import JSON, fetch, post
from tests.web.mcp.clients import over_http

PATH = "shop/retry/max_attempts"
KEY = b"the key that seals the audit"
PASSWORD = "hunter2-and-more"
STRANGER = "ninelives_c3RyYW5nZXItc3RyYW5nZXItc3RyYW5nZXItc3RyYW5n"
FORGED = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJtYWxsb3J5In0.c2lnbmF0dXJl"
COMMANDS = (
    ("get_parameter", {"path": PATH}),
    ("set_parameter", {"path": PATH, "value": 4, "reason": "as {token} wants"}),
    ("set_parameter", {"path": PATH, "value": 500}),
    ("set_parameter", {"path": "{token}", "value": 1}),
    ("note", {"text": "a note", "password": PASSWORD}),
    ("note", {"password": PASSWORD, "token": "{token}"}),
    ("stumble", {"password": PASSWORD}),
    ("{token}", {"authorization": "Bearer {token}"}),
)


@pytest.fixture
def plane(registry, shop, tokens, tokens_path, audit_path):
    plane = ControlPlane(
        registry,
        grpc_port=0,
        http_port=0,
        tokens=tokens_path,
        audit=audit_path,
        audit_key=KEY,
        audit_reads=True,
    )
    for entry in added.ALL:
        plane.commands.add(entry)
    with plane:
        yield plane


def filled(value, token):
    return json.loads(json.dumps(value).replace("{token}", token))


def in_the_process(plane, token):
    for name, arguments in COMMANDS:
        caller = Credentials(token=token, peer="10.0.0.1:1")
        yield repr(caller)
        try:
            plane.dispatcher.execute(
                filled(name, token), filled(arguments, token), caller=caller, transport="desk"
            )
        except CommandError as error:
            yield repr(error)
            yield "".join(traceback.format_exception(error))


def over_grpc(plane, token):
    with grpc.insecure_channel(f"127.0.0.1:{plane.grpc_port}") as channel:
        for name, arguments in COMMANDS:
            request = pb.ExecuteRequest(command=filled(name, token))
            ParseDict(filled(arguments, token), request.arguments)
            metadata = [("authorization", f"Bearer {token}")]
            try:
                ControlServiceStub(channel).Execute(request, metadata=metadata, timeout=10)
            except grpc.RpcError as error:
                yield str(error.details())
                yield str(error.trailing_metadata())


def over_rest(plane, token):
    for name, arguments in COMMANDS:
        body = json.dumps(filled(arguments, token)).encode()
        shown = {"Authorization": f"Bearer {token}"}
        path = f"/v1/commands/{filled(name, token)}"
        answer = fetch(plane, "POST", path, body, JSON | shown)
        yield f"{answer.text} {answer.headers}"


def over_graphql(plane, token):
    for document in (
        f'mutation {{ setParameter(path: "{PATH}", value: 4, reason: "{token}") {{ id }} }}',
        f'mutation {{ note(password: "{PASSWORD}") {{ text }} }}',
        f'mutation {{ stumble(password: "{PASSWORD}") {{ text }} }}',
        f'{{ getParameter(path: "{token}") {{ path }} }}',
        f'{{ getParameter(path: "{PATH}", token: "{token}") {{ path }} }}',
    ):
        yield post(plane, document, token).text


def over_mcp(plane, token):
    async def session():
        told = []
        async with over_http(f"http://127.0.0.1:{plane.http_port}", token) as client:
            for name, arguments in COMMANDS:
                try:
                    answer = await client.call_tool(filled(name, token), filled(arguments, token))
                except MCPError as error:
                    told.append(repr(error.error))
                else:
                    told.append(answer.model_dump_json())
        return told

    try:
        yield from asyncio.run(session())
    except BaseException as error:  # noqa: BLE001 - who is not known gets no session
        yield "".join(traceback.format_exception(error))


def as_lines(plane, token):
    lines = [
        json.dumps({"id": number, "cmd": filled(name, token), "args": filled(arguments, token)}
                   | {"auth": token})
        for number, (name, arguments) in enumerate(COMMANDS)
    ]  # fmt: skip
    answers = io.BytesIO()
    JsonLines(plane.dispatcher).serve(io.BytesIO("\n".join(lines).encode()), answers)
    yield answers.getvalue().decode()


WAYS = (in_the_process, over_grpc, over_rest, over_graphql, over_mcp, as_lines)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_secret_is_told(way, plane, tokens, audit_path, caplog):
    caplog.set_level(logging.DEBUG)
    shown = (tokens["operator"], tokens["viewer"], STRANGER, FORGED)

    told = [text for token in shown for text in way(plane, token)]

    rows = _rows(audit_path)
    events = [repr(event) for event in plane.dispatcher._events.events]
    log = [caplog.handler.format(record) for record in caplog.records if _ours(record)]
    assert told
    assert len(rows) >= len(shown)
    for secret in (*shown, PASSWORD, KEY.decode(), added.SECRET):
        for place, texts in {"answers": told, "audit": rows, "events": events, "log": log}.items():
            # The log is where it stands why a command has stumbled.
            if not (place == "log" and secret == added.SECRET):
                _assert_without(secret, place, texts, way)


def test_no_repr_shows_a_token(tokens):
    token = tokens["admin"]
    for holder in (
        Credentials(token=token, certificate=b"certificate"),
        Connection("127.0.0.1:1", token),
        Request(cmd="list_stacks", auth=token),
    ):
        assert token not in repr(holder)


def _assert_without(secret, place, texts, way):
    # An answer to somebody may hold what that somebody has just sent as a name.
    found = [text for text in texts if secret in text]
    assert not found, f"{place}: {found[0]}"


def _rows(path):
    with closing(sqlite3.connect(path)) as connection:
        return [repr(row) for row in connection.execute("SELECT * FROM audit")]


def _ours(record):
    # Libraries tell at DEBUG what they send and receive, if they are asked to.
    return record.name.startswith(("ninelives", "uvicorn")) or record.levelno >= logging.WARNING
