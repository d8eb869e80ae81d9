"""However a handler ends a call, its client sees of a protected server what a bare one tells."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from .served import every_handler, idle_stacks, of_each, pair
from .steps import AIO, PLAIN, READ, READER_WRITER, SYNC

if TYPE_CHECKING:
    from .backend import RpcKind
    from .served import Sides
    from .steps import Body, Steps

sides = pytest.fixture(pair)
HEADERS = (("x-early", "1"), ("x-early-bin", b"\xff\x00"))
TRAILERS = (("x-late", "2"), ("x-late-bin", b"\x00"))


@dataclass
class Status(grpc.Status):
    """How a call is to end."""

    code: Any = StatusCode.OUT_OF_RANGE
    details: str = "with a status"
    trailing_metadata: Any = TRAILERS


def abort(context: Any) -> Steps:
    yield context.abort(StatusCode.FAILED_PRECONDITION, "not now")


def abort_without_details(context: Any) -> Steps:
    yield context.abort(StatusCode.ABORTED, "")


def abort_with_trailers(context: Any) -> Steps:
    context.set_trailing_metadata(TRAILERS)
    yield context.abort(StatusCode.FAILED_PRECONDITION, "not now")


def abort_with_metadata(context: Any) -> Steps:
    # Only asyncio has this argument.
    yield context.abort(StatusCode.FAILED_PRECONDITION, "not now", TRAILERS)


def abort_with_wrong_metadata(context: Any) -> Steps:
    yield context.abort(StatusCode.FAILED_PRECONDITION, "not now", ({"a": "b"},))


def abort_with_status(context: Any) -> Steps:
    yield context.abort_with_status(Status())


def abort_with_ok(context: Any) -> Steps:
    yield context.abort(StatusCode.OK, "all is well")


def abort_with_number(context: Any) -> Steps:
    yield context.abort(5, "a number")


def abort_after_headers(context: Any) -> Steps:
    yield context.send_initial_metadata(HEADERS)
    yield context.abort(StatusCode.DATA_LOSS, "after headers")


def abort_after_reading(context: Any) -> Steps:
    yield READ
    yield context.abort(StatusCode.INVALID_ARGUMENT, "after reading")


def abort_after_message(context: Any) -> Steps:
    yield b"first"
    yield context.abort(StatusCode.DATA_LOSS, "after a message")


def abort_and_go_on(context: Any) -> Steps:
    with contextlib.suppress(Exception):
        yield context.abort(StatusCode.NOT_FOUND, "caught")
    yield b"too late"


def abort_twice(context: Any) -> Steps:
    try:
        yield context.abort(StatusCode.NOT_FOUND, "first")
    except Exception:  # noqa: BLE001
        yield context.abort(StatusCode.DATA_LOSS, "second")


def abort_and_raise(context: Any) -> Steps:
    try:
        yield context.abort(StatusCode.NOT_FOUND, "aborted")
    except Exception as error:
        raise LookupError from error


def set_before(context: Any) -> Steps:
    context.set_code(StatusCode.PERMISSION_DENIED)
    context.set_details("set")
    context.set_trailing_metadata(TRAILERS)
    yield b"kept or not"


def set_after(context: Any) -> Steps:
    yield b"first"
    yield from set_before(context)
    context.set_code(StatusCode.ABORTED)
    context.set_details("changed")


def set_ok(context: Any) -> Steps:
    context.set_code(StatusCode.OK)
    context.set_details("fine")
    yield b"answer"


def set_number(context: Any) -> Steps:
    context.set_code(9)
    yield b"answer"


def set_details_only(context: Any) -> Steps:
    context.set_details("only this")
    yield b"answer"


def details_then_abort(context: Any) -> Steps:
    context.set_code(StatusCode.ABORTED)
    context.set_details("earlier")
    yield context.abort(StatusCode.NOT_FOUND, "later")


def headers_first(context: Any) -> Steps:
    yield context.send_initial_metadata(HEADERS)
    yield b"answer"


def headers_twice(context: Any) -> Steps:
    yield context.send_initial_metadata(HEADERS)
    try:
        yield context.send_initial_metadata(HEADERS)
    except Exception as error:  # noqa: BLE001
        yield repr(error).encode()


def headers_late(context: Any) -> Steps:
    yield b"first"
    try:
        yield context.send_initial_metadata(HEADERS)
    except Exception as error:  # noqa: BLE001
        yield repr(error).encode()


def trailers_twice(context: Any) -> Steps:
    context.set_trailing_metadata((("x-lost", "0"),))
    yield b"answer"
    context.set_trailing_metadata(TRAILERS)


def set_wrong_trailers(context: Any) -> Steps:
    try:
        context.set_trailing_metadata({"a": "b"})
    except TypeError as error:
        yield str(error).encode()


def raise_at_once(_: Any) -> Steps:
    msg = "a mistake"
    raise ValueError(msg)
    yield


def raise_later(context: Any) -> Steps:
    yield b"first"
    yield from raise_at_once(context)


def raise_with_code(context: Any) -> Steps:
    context.set_code(StatusCode.NOT_FOUND)
    context.set_details("with a code")
    context.set_trailing_metadata(TRAILERS)
    yield from raise_at_once(context)


def raise_rpc_error(_: Any) -> Steps:
    raise grpc.RpcError
    yield


def say_nothing(_: Any) -> Steps:
    yield None


ENDINGS: dict[str, Body] = {
    body.__name__: body
    for body in (
        abort,
        abort_without_details,
        abort_with_trailers,
        abort_with_metadata,
        abort_with_wrong_metadata,
        abort_with_status,
        abort_with_ok,
        abort_with_number,
        abort_after_headers,
        abort_after_reading,
        abort_after_message,
        abort_and_go_on,
        abort_twice,
        abort_and_raise,
        set_before,
        set_after,
        set_ok,
        set_number,
        set_details_only,
        details_then_abort,
        headers_first,
        headers_twice,
        headers_late,
        trailers_twice,
        set_wrong_trailers,
        raise_at_once,
        raise_later,
        raise_with_code,
        raise_rpc_error,
        say_nothing,
    )
}
NOT_ON = {
    # gRPC itself sends no status then, and the client waits for ever.
    "abort_with_ok": {AIO, READER_WRITER, PLAIN},
    "set_wrong_trailers": {SYNC},
    # gRPC asks a plain function to go on while the loop still sends its message.
    "abort_after_message": {PLAIN},
    "headers_late": {PLAIN},
}
"""Endings that are not tested, by kind of handler."""
CODES = {
    "abort": StatusCode.FAILED_PRECONDITION,
    "abort_and_go_on": StatusCode.NOT_FOUND,
    "set_before": StatusCode.PERMISSION_DENIED,
    "set_ok": StatusCode.OK,
    "raise_later": StatusCode.UNKNOWN,
    "raise_with_code": StatusCode.NOT_FOUND,
}


@every_handler
@idle_stacks
def test_client_sees_the_same_however_the_handler_ends(
    nature: str, kind: RpcKind, sides: Sides
) -> None:
    endings = {name: body for name, body in ENDINGS.items() if nature not in NOT_ON.get(name, ())}

    bare, protected = of_each(nature, kind, endings, sides)

    assert protected == bare
    assert {name: bare[name].code for name in CODES} == CODES
    assert bare["abort_with_trailers"].trailers == list(TRAILERS)
    assert bare["headers_first"].headers == list(HEADERS)
