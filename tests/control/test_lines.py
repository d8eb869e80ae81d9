"""Commands as lines of JSON: in the process of the control plane, and from outside."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninelives_control import Code, CommandError, JsonLines
from ninelives_control.cli.group import Exit
from ninelives_control.transports.grpc.connection import Connection
from ninelives_control.transports.lines import bridge as lines_bridge
from ninelives_control.transports.lines.session import LONGEST, Session
from tests.control import added
from tests.waiting import until

PATH = "shop/retry/max_attempts"
NINELIVES = Path(sys.executable).parent / "ninelives"


class Pipe:
    """Lines that are read as they are written, by another thread."""

    def __init__(self):
        reading, writing = os.pipe()
        self.reader, self.writer = os.fdopen(reading, "rb"), os.fdopen(writing, "wb")

    def send(self, **request):
        self.writer.write(json.dumps(request).encode() + b"\n")
        self.writer.flush()

    def line(self):
        return json.loads(self.reader.readline())

    def close(self):
        self.writer.close()
        self.reader.close()


@pytest.fixture(params=["inside", "outside"])
def serve(request, plane):
    """Serve lines in the application, or for a control plane that is reached over gRPC."""
    for entry in added.ALL:
        plane.commands.add(entry)
    connection = Connection(f"127.0.0.1:{plane.grpc_port}")

    def run(reader, writer):
        if request.param == "inside":
            JsonLines(plane.dispatcher).serve(reader, writer)
        else:
            lines_bridge.serve(connection, reader, writer)

    return run


@pytest.fixture
def ask(serve):
    """Send lines, and return the answers."""

    def run(*lines):
        sent = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        answers = io.BytesIO()
        serve(io.BytesIO(b"\n".join(sent)), answers)
        return [json.loads(line) for line in answers.getvalue().splitlines()]

    return run


@pytest.fixture
def talk(serve):
    """Send lines, and read the answers as they come."""
    to, back = Pipe(), Pipe()
    thread = threading.Thread(target=serve, args=(to.reader, back.writer))
    thread.start()
    yield to.send, back.line
    to.writer.close()
    thread.join()
    assert back.writer.closed or back.writer.close() is None
    assert back.reader.read() == b""
    to.close()
    back.close()


def test_lines_are_answered_in_order_and_what_follows_sees_what_was_done(ask, tokens, shop):
    token = tokens["operator"]
    change = {"path": PATH, "value": 5, "reason": "schön"}

    answers = ask(
        {"id": 1, "cmd": "set_parameter", "args": change, "auth": token},
        {"id": "b", "cmd": "get_parameter", "args": {"path": PATH}, "auth": token},
        {"cmd": "list_stacks", "auth": token},
    )

    assert [answer["id"] for answer in answers] == [1, "b", None]
    assert all(answer["ok"] for answer in answers)
    assert answers[0]["result"]["old"] == 3
    assert answers[1]["result"]["value"] == 5
    assert shop.parameters["retry/max_attempts"].get() == 5


def test_what_is_wrong_is_told_with_its_code_and_the_rest_goes_on(ask, tokens):
    admin, viewer = tokens["admin"], tokens["viewer"]
    change = {"path": PATH, "value": 5}

    answers = ask(
        {"id": 1, "cmd": "get_parameter", "args": {"path": "shop/retry/x"}, "auth": viewer},
        {"id": 2, "cmd": "set_parameter", "args": change, "auth": viewer},
        {"id": 3, "cmd": "set_parameter", "args": change | {"expected_revision": 9}, "auth": admin},
        {"id": 4, "cmd": "nothing", "auth": admin},
        {"id": 5, "cmd": "list_stacks", "auth": "ninelives_nobody"},
        {"id": 6, "cmd": "list_stacks"},
        {"id": 7, "cmd": "stumble", "auth": admin},
        {"id": 8, "cmd": "decline", "auth": admin},
        {"id": 9, "cmd": "set_parameter", "args": change | {"value": 500}, "auth": admin},
        {"id": 10, "cmd": "list_stacks", "auth": viewer},
    )

    assert [answer["id"] for answer in answers] == list(range(1, 11))
    assert [answer["error"]["code"] for answer in answers[:-1]] == [
        Code.NOT_FOUND,
        Code.PERMISSION_DENIED,
        Code.CONFLICT,
        Code.UNKNOWN_COMMAND,
        Code.UNAUTHENTICATED,
        Code.UNAUTHENTICATED,
        Code.INTERNAL,
        Code.UNAVAILABLE,
        Code.INVALID_ARGUMENT,
    ]
    assert answers[0]["error"]["field"] == "path"
    assert answers[1]["error"]["rule"]
    assert answers[2]["error"]["revision"] == 1
    assert added.SECRET not in json.dumps(answers)
    assert answers[-1]["ok"] is True


WRONG = [
    (b"{", None, "is not JSON"),
    (b'{"id": 1, "cmd": "list_stacks"', None, "is not JSON"),
    (b"\xff\xfe", None, "is not UTF-8, at byte 1"),
    (b"[1]", None, "must be an object"),
    (b"null", None, "must be an object"),
    (b'{"id": NaN, "cmd": "list_stacks"}', None, "no NaN"),
    (b"[" * 100_000, None, "is not JSON"),
    (b'{"id": ' + b"9" * 5000 + b', "cmd": "x"}', None, "is not JSON"),
    (b'{"id": 1}', 1, "cmd is missing"),
    (b'{"id": 1, "cmd": ""}', 1, "cmd must be"),
    (b'{"id": 1, "cmd": 5}', 1, "cmd must be"),
    (b'{"id": [1], "cmd": "cancel"}', None, "id must be"),
    (b'{"id": true, "cmd": "cancel"}', None, "id must be"),
    (b'{"id": 1.5, "cmd": "cancel"}', None, "id must be"),
    (b'{"id": "' + b"x" * 201 + b'", "cmd": "cancel"}', None, "id must be"),
    (b'{"id": "a", "comand": "x", "cmd": "cancel"}', "a", "did you mean cmd?"),
    (b'{"id": "a", "cmd": "cancel", "args": []}', "a", "args must be an object"),
    (b'{"id": "a", "cmd": "cancel", "auth": 5}', "a", "auth must be a token"),
    (b'{"id": "a", "cmd": "cancel"}', "a", "no watch with the id 'a'"),
    (b'{"cmd": "watch"}', None, "a watch needs an id"),
    (b'{"id": 1, "cmd": "list_stacks", "args": {"' + b"x" * LONGEST + b'": 1}}', None, "1048576"),
]


def test_lines_that_are_wrong_are_answered_and_the_stream_goes_on(ask, tokens):
    right = {"id": "last", "cmd": "list_stacks", "auth": tokens["viewer"]}

    *answers, last = ask(*(line for line, _, _ in WRONG), right)

    assert [answer["id"] for answer in answers] == [number for _, number, _ in WRONG]
    for answer, (_, _, said) in zip(answers, WRONG, strict=True):
        assert answer["ok"] is False
        assert said in answer["error"]["message"]
        assert len(answer["error"]["message"]) <= 500
    assert (last["id"], last["ok"]) == ("last", True)


def test_the_longest_line_is_taken_and_empty_ones_are_passed_over(ask, tokens):
    line = json.dumps({"id": 1, "cmd": "list_stacks", "auth": tokens["viewer"]}).encode()
    whole = line + b" " * (LONGEST - len(line))

    assert [answer["ok"] for answer in ask(whole, b"", b"  ", whole + b"\r", whole + b" ")] == [
        True,
        True,
        False,
    ]


def test_half_a_character_is_refused_and_not_stumbled_over(ask, tokens):
    answers = ask(
        {"id": "\ud800", "cmd": "\ud800", "auth": tokens["viewer"]},
        {"id": 1, "cmd": "get_parameter", "args": {"path": "\ud800/x/y"}, "auth": tokens["viewer"]},
        {"id": 2, "cmd": "list_stacks", "auth": "\ud800"},
    )

    assert [answer["error"]["code"] for answer in answers] == [
        Code.UNKNOWN_COMMAND,
        Code.INVALID_ARGUMENT,
        Code.UNAUTHENTICATED,
    ]
    assert answers[0]["id"] == "\ud800"


def test_a_watch_tells_the_state_and_events_until_it_is_cancelled(talk, tokens, shop):
    send, line = talk
    token = tokens["viewer"]

    send(id="w", cmd="watch", args={"kinds": ["ParameterChanged"]}, auth=token)
    begun = line()
    shop.parameters["retry/max_attempts"].set(5, reason="calm")
    event = line()
    send(id="w", cmd="watch", auth=token)
    again = line()
    send(id="w", cmd="cancel")
    cancelled = line()
    shop.parameters["retry/max_attempts"].set(6)
    send(id=1, cmd="list_stacks", auth=token)
    after = line()

    assert (begun["id"], begun["ok"]) == ("w", True)
    assert [stack["name"] for stack in begun["result"]["state"]] == ["shop"]
    assert (event["id"], event["event"]["name"]) == ("w", "ParameterChanged")
    assert event["event"]["severity"] == "info"
    assert {"name": "new", "value": 5} in event["event"]["details"]
    assert again["error"]["code"] == Code.CONFLICT
    assert cancelled == {"id": "w", "ok": True, "result": {}}
    assert after["id"] == 1


def test_a_watch_ends_with_the_input_and_leaves_nothing(ask, plane, tokens):
    (answer,) = ask(
        {"id": 1, "cmd": "watch", "args": {"severity": "error"}, "auth": tokens["viewer"]}
    )

    assert answer["ok"] is True
    until(lambda: not plane.dispatcher._stream.subscribers)


def test_a_watch_of_what_is_not_there_is_refused(ask, tokens):
    wrong = [{"stack": "shp"}, {"severity": "loud"}, {"kind": "x"}]

    answers = ask(
        *({"id": 1, "cmd": "watch", "args": args, "auth": tokens["viewer"]} for args in wrong)
    )

    assert [answer["error"]["code"] for answer in answers] == [
        Code.NOT_FOUND,
        Code.INVALID_ARGUMENT,
        Code.INVALID_ARGUMENT,
    ]


def test_a_watch_hears_that_the_control_plane_stops(talk, plane, tokens):
    send, line = talk
    send(id="w", cmd="watch", auth=tokens["viewer"])
    line()

    plane.stop()
    ended = line()

    assert (ended["id"], ended["error"]["code"]) == ("w", Code.UNAVAILABLE)


def test_commands_stand_in_the_audit_as_lines_also_those_that_are_not_right(plane, tokens):
    lines = [
        {"cmd": "set_parameter", "args": {"path": PATH, "value": 5}, "auth": tokens["operator"]},
        {"cmd": "set_parameter", "args": 5, "auth": tokens["operator"]},
    ]

    JsonLines(plane.dispatcher).serve(
        io.BytesIO("\n".join(json.dumps(line) for line in lines).encode()), io.BytesIO()
    )

    entries = plane.dispatcher._journal._audit.entries()
    assert [(entry.transport, entry.identity, entry.status) for entry in entries] == [
        ("lines", "operator", "succeeded"),
        ("lines", "operator", "refused"),
    ]


def test_nobody_there_is_an_answer_too():
    answers = io.BytesIO()

    lines_bridge.serve(
        Connection("127.0.0.1:9", timeout=5.0),
        io.BytesIO(b'{"id": 1, "cmd": "list_stacks"}\n{"id": 2, "cmd": "watch"}'),
        answers,
    )

    told = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert [(each["id"], each["error"]["code"]) for each in told] == [
        (1, Code.UNAVAILABLE),
        (2, Code.UNAVAILABLE),
    ]
    assert "no control plane can be reached at 127.0.0.1:9" in told[0]["error"]["message"]


class Nobody:
    """Where no command is known."""

    def execute(self, request):
        raise CommandError(Code.UNKNOWN_COMMAND, request.cmd)

    def refuse(self, request, error):
        return error

    def watch(self, request, notify):
        raise CommandError(Code.UNAVAILABLE, "nobody")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
NAMES = st.sampled_from(["id", "cmd", "args", "auth"])
LINES = (
    st.binary(max_size=50)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(NAMES | st.text(max_size=3), JSON | st.sampled_from(["watch", "cancel"])).map(
        lambda value: json.dumps(value).encode()
    )
)


@settings(max_examples=30)
@given(st.lists(LINES.map(lambda line: line.replace(b"\n", b" ")), max_size=5))
def test_whatever_comes_each_line_has_one_answer(lines):
    answers = io.BytesIO()

    Session(Nobody(), io.BytesIO(b"\n".join(lines)), answers).run()

    told = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert len(told) == sum(bool(line.strip()) for line in lines)
    assert all(answer["ok"] is False and answer.keys() == {"id", "ok", "error"} for answer in told)


@pytest.fixture
def process(plane, tokens):
    """Start `ninelives lines` as a program does."""
    with subprocess.Popen(
        [NINELIVES, "lines", "--address", f"127.0.0.1:{plane.grpc_port}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"NINELIVES_TOKEN": tokens["viewer"], "PYTHONWARNINGS": "error"},
    ) as process:
        yield process
        process.kill()


def said(process, line):
    process.stdin.write(line + b"\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def test_its_token_is_shown_unless_a_line_has_another_until_its_input_ends(process, tokens):
    change = {"cmd": "set_parameter", "args": {"path": PATH, "value": 5}}
    refused = said(process, json.dumps(change).encode())
    changed = said(process, json.dumps(change | {"auth": tokens["operator"]}).encode())
    garbled = said(process, json.dumps(change | {"auth": "no\ntoken"}).encode())

    rest, errors = process.communicate(timeout=20)

    assert refused["error"]["code"] == Code.PERMISSION_DENIED
    assert changed["result"]["new"] == 5
    assert garbled["error"]["code"] == Code.UNAUTHENTICATED
    assert (rest, errors, process.returncode) == (b"", b"", 0)


def test_an_interrupt_ends_the_program(process):
    said(process, b'{"id": 1, "cmd": "watch"}')

    process.send_signal(signal.SIGINT)

    assert process.wait(20) == Exit.INTERRUPTED
    assert (process.stdout.read(), process.stderr.read()) == (b"", b"")


def test_a_reader_of_events_that_has_enough_ends_the_program(process, shop):
    said(process, b'{"id": 1, "cmd": "watch"}')

    process.stdout.close()
    shop.parameters["retry/max_attempts"].set(5)

    assert process.wait(20) == Exit.FAILED
    assert process.stderr.read() == b""
