"""What a protected handler is told by its context, and what it tells by it, is as without us."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from . import leaks
from .backend import PATIENCE, RpcKind
from .served import STREAMS, every_handler, every_kind, idle_stacks, pair, service
from .servers import Wire
from .steps import AIO, PLAIN, READER_WRITER, SYNC, handler

if TYPE_CHECKING:
    from contextlib import ExitStack

    from .served import Sides
    from .steps import Steps

sides = pytest.fixture(pair)
METADATA = (
    ("tenant", "a"),
    ("tenant", "b"),
    ("blob-bin", bytes(range(256))),
    ("large", "x" * 4000),
)
ASKED = ("peer_identities", "peer_identity_key", "auth_context", "invocation_metadata")
SET = ("code", "details", "trailing_metadata")
"""What gRPC tells all handlers but plain functions on an asyncio server."""


def _local(target: str) -> grpc.Channel:
    return grpc.secure_channel(target, grpc.local_channel_credentials())


def _secure(server: Any) -> int:
    port: int = server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
    return port


@every_handler
@idle_stacks
@pytest.mark.parametrize("secure", [False, True], ids=["insecure", "local"])
def test_context_tells_who_calls(nature: str, kind: RpcKind, secure: bool, sides: Sides) -> None:
    told: list[dict[str, Any]] = []

    def body(context: Any) -> Steps:
        told.append({name: getattr(context, name)() for name in ASKED})
        told[-1]["peer"] = context.peer().rpartition(":")[0]
        yield b"answer"

    services = service(kind, handler(nature, kind, body))
    for side in sides.of(_secure, services, connect=_local) if secure else sides.of(None, services):
        assert side.look(kind, metadata=METADATA).code is StatusCode.OK

    for each in told:
        each["invocation_metadata"] = [
            tuple(pair) for pair in each["invocation_metadata"] if pair[0] != "user-agent"
        ]
    assert told[1] == told[0]
    assert set(METADATA) <= set(told[0]["invocation_metadata"])
    by = told[0]["auth_context"].get("transport_security_type")
    assert (by == [b"local"]) is secure


@every_handler
@idle_stacks
def test_context_tells_what_was_set(nature: str, kind: RpcKind, sides: Sides) -> None:
    told: list[Any] = []

    def tell(context: Any) -> None:
        if nature != PLAIN:
            told[-1].append([getattr(context, name)() for name in SET])

    def body(context: Any) -> Steps:
        told.append([])
        tell(context)
        context.set_code(StatusCode.NOT_FOUND)
        context.set_details("none such")
        context.set_trailing_metadata((("reason", "a"),))
        tell(context)
        yield b"answer"
        tell(context)

    bare, protected = (
        side.look(kind) for side in sides.of(None, service(kind, handler(nature, kind, body)))
    )

    assert protected == bare
    assert bare.code is StatusCode.NOT_FOUND
    assert told[1] == told[0]


@every_handler
@idle_stacks
@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_context_tells_the_time_that_remains(
    nature: str, kind: RpcKind, timeout: float | None, sides: Sides
) -> None:
    told: list[float | None] = []

    def body(context: Any) -> Steps:
        told.append(context.time_remaining())
        yield b"answer"

    for side in sides.of(None, service(kind, handler(nature, kind, body))):
        call = side.start(kind, timeout=timeout)
        assert list(call) if kind.streams_responses else call.result(PATIENCE)

    if timeout is None:
        assert told[1] == told[0] or min(told[0] or 0.0, told[1] or 0.0) > 1e9
    else:
        assert all(remaining is not None and 0 < remaining <= PATIENCE + 1 for remaining in told)


@pytest.mark.parametrize("nature", [SYNC, AIO, READER_WRITER])
@every_kind
@idle_stacks
@pytest.mark.parametrize("ending", ["answers", "raises", "aborts", "goes"])
def test_callback_is_called_once_at_the_end(
    nature: str, kind: RpcKind, ending: str, sides: Sides
) -> None:
    called: list[Any] = []
    begun = threading.Event()

    def body(context: Any) -> Steps:
        over = threading.Event()
        if nature == SYNC:
            assert context.add_callback(over.set)
            assert context.add_callback(lambda: called.append(None))
        else:
            context.add_done_callback(lambda given: called.append(given.code))
        begun.set()
        if ending == "goes":
            yield over.wait(PATIENCE) if nature == SYNC else asyncio.Event().wait()
            return
        if ending == "raises":
            raise LookupError
        if ending == "aborts":
            yield context.abort(StatusCode.ABORTED, "")
        assert not called
        yield b"answer"

    for side in sides.of(None, service(kind, handler(nature, kind, body))):
        del called[:]
        begun.clear()
        call = side.start(kind, timeout=PATIENCE)
        assert begun.wait(PATIENCE)
        if ending == "goes":
            call.cancel()
        leaks.eventually(lambda: called, lambda: ending)
        side.close()
        assert len(called) == 1


@every_kind
@idle_stacks
@pytest.mark.parametrize("nature", [SYNC])
def test_handler_may_cancel_its_own_call(nature: str, kind: RpcKind, sides: Sides) -> None:
    told: list[list[Any]] = []

    def body(context: Any) -> Steps:
        over, mine = threading.Event(), [context.is_active()]
        told.append(mine)
        context.add_callback(over.set)
        context.cancel()
        mine.append(over.wait(PATIENCE))
        mine.append(context.is_active())
        try:
            context.send_initial_metadata(())
        except grpc.RpcError as error:
            mine.append(type(error))
        yield b"too late"

    bare, protected = (
        side.look(kind) for side in sides.of(None, service(kind, handler(nature, kind, body)))
    )

    assert protected == bare
    assert bare.code is StatusCode.CANCELLED
    # The client does not wait for the handler.
    leaks.eventually(lambda: [len(mine) for mine in told] == [4, 4], lambda: told)
    assert told == [[True, True, False, grpc.RpcError]] * 2


@every_handler
@idle_stacks
@pytest.mark.parametrize("plain", [(), (0,), (0, 2)], ids=["all", "not-the-first", "the-second"])
def test_responses_are_compressed_as_the_handler_says(
    nature: str, kind: RpcKind, plain: tuple[int, ...], sides: Sides, opened: ExitStack
) -> None:
    def body(context: Any) -> Steps:
        context.set_compression(grpc.Compression.Gzip)
        for number in range(3 if kind.streams_responses else 1):
            if number in plain:
                context.disable_next_message_compression()
            yield b"x" * 100_000

    wires: list[Wire] = []

    def connect(target: str) -> grpc.Channel:
        wires.append(Wire(target))
        opened.callback(wires[-1].cut)
        return grpc.insecure_channel(wires[-1].target)

    for side in sides.of(None, service(kind, handler(nature, kind, body)), connect=connect):
        assert side.look(kind).code is StatusCode.OK

    carried = [round(wire.carried / 100_000) for wire in wires]
    assert carried[1] == carried[0]
    assert carried[0] == len(plain) or not kind.streams_responses


@pytest.mark.parametrize("nature", [SYNC, AIO, READER_WRITER])
@pytest.mark.parametrize("kind", STREAMS)
@idle_stacks
def test_compression_is_refused_when_it_is_too_late(
    nature: str, kind: RpcKind, sides: Sides
) -> None:
    told: list[str] = []

    def body(context: Any) -> Steps:
        yield b"first"
        try:
            context.set_compression(grpc.Compression.Gzip)
        except RuntimeError as error:
            told.append(str(error))
        yield b"second"

    bare, protected = (
        side.look(kind) for side in sides.of(None, service(kind, handler(nature, kind, body)))
    )

    assert protected == bare
    assert bare.messages == [b"first", b"second"]
    assert told[: len(told) // 2] == told[len(told) // 2 :]
    assert bool(told) is (nature != SYNC)
