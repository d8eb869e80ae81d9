"""A backend for tests that answers as told; see `ninelives_grpc.testing`.

with ScriptedBackend() as backend:
    backend.script("/shop.Cart/Get", fail(StatusCode.UNAVAILABLE), answer(Cart(items=2)))
    stub = CartStub(wrap_channel(grpc.insecure_channel(backend.target), stack))
"""

from __future__ import annotations

import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import grpc
from grpc import StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

_WORKERS = 64
_LOOK = 0.01
"""Seconds after which a call that waits looks whether its client is still there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How one call is answered; `answer` and `fail` make these.

    Attributes:
        messages: What is sent, as protobuf messages or bytes.
        code: How the call ends then.
        details: What it says about that.
        pushback: Seconds after which the client may try again, negative for never, or None.
        wait_for: What must be set before anything is sent, or None.
    """

    messages: tuple[Any, ...] = ()
    code: StatusCode = StatusCode.OK
    details: str = ""
    pushback: float | None = None
    wait_for: threading.Event | None = None


def answer(*messages: Any, wait_for: threading.Event | None = None) -> Reply:
    """Answer well.

    Args:
        *messages: One message, or those of a response stream; protobuf messages or bytes.
        wait_for: What must be set before anything is sent.
    """
    return Reply(messages=messages, wait_for=wait_for)


def fail(
    code: StatusCode,
    details: str = "",
    *,
    pushback: float | None = None,
    messages: tuple[Any, ...] = (),
    wait_for: threading.Event | None = None,
) -> Reply:
    """Fail, or cut a response stream half way.

    Args:
        code: How the call ends.
        details: What it says about that.
        pushback: Seconds after which the client may try again, or negative for never.
        messages: What of the stream is sent before.
        wait_for: What must be set before anything is sent.
    """
    return Reply(
        messages=messages, code=code, details=details, pushback=pushback, wait_for=wait_for
    )


class ReceivedCall:
    """One attempt as the backend saw it.

    Attributes:
        method: Its path.
        metadata: Its metadata; of several values of a key the last.
        remaining: Seconds it had left when it came, or None.
        requests: The messages that were sent, as bytes; none when the reply is a failure.
    """

    __slots__ = ("metadata", "method", "remaining", "requests")

    def __init__(self, method: str, context: grpc.ServicerContext) -> None:
        """Note what is known when it comes."""
        self.method = method
        self.metadata: dict[str, str | bytes] = dict(context.invocation_metadata())
        remaining = context.time_remaining()
        # gRPC's own word for "no deadline" is three hundred years.
        self.remaining = None if remaining is None or remaining > 1e9 else remaining  # noqa: PLR2004
        self.requests: list[bytes] = []


class ScriptedBackend:
    """A real gRPC server on loopback that answers each method by a script.

    Any method of any kind can be scripted, without generated code. All requests of a call are read
    before it is answered well, and none before it fails. The backend runs in threads of its own,
    so that sync and asyncio clients can call it.

    Attributes:
        target: Its address, while the `with` block lasts.
    """

    def __init__(self) -> None:
        """Prepare a backend; it is there within `with`."""
        self.target = ""
        self._scripts: dict[str, list[Reply]] = {}
        self._calls: defaultdict[str, list[ReceivedCall]] = defaultdict(list)
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="scripted-backend")
        self._server = grpc.server(self._pool)
        self._server.add_generic_rpc_handlers((_Handlers(self._serve),))

    def script(self, method: str, *replies: Reply) -> None:
        """Say how the next calls of a method are answered; the last reply is for all after it.

        Args:
            method: Its path, such as "/shop.Cart/Get".
            *replies: One for each attempt, in order; they take the place of what was said before.

        Raises:
            ValueError: There is no reply, or the method is no path.
        """
        if not replies or method.count("/") != 2 or not method.startswith("/"):  # noqa: PLR2004
            msg = f'must be a path such as "/shop.Cart/Get" and one reply or more, not {method!r}'
            raise ValueError(msg)
        with self._changed:
            self._scripts[method] = list(replies)

    def calls(self, method: str) -> list[ReceivedCall]:
        """Return the attempts of a method so far."""
        with self._changed:
            return list(self._calls[method])

    def wait_for_calls(self, method: str, count: int, timeout: float = 10.0) -> None:
        """Wait until so many attempts of a method have come; under asyncio in another thread.

        Raises:
            AssertionError: They have not, in `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._calls[method]) >= count, timeout):
                came = len(self._calls[method])
                msg = f"{came} calls of {method} have come in {timeout:g} s, not {count}"
                raise AssertionError(msg)

    def _serve(
        self, method: str, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        call = ReceivedCall(method, context)
        with self._changed:
            self._calls[method].append(call)
            script = self._scripts.get(method, [_unscripted(method)])
            reply = script[0] if len(script) == 1 else script.pop(0)
            self._changed.notify_all()
        self._wait(reply.wait_for, context)
        if reply.code is StatusCode.OK:
            call.requests.extend(requests)
        for message in reply.messages:
            yield message if isinstance(message, bytes) else message.SerializeToString()
        if reply.pushback is not None:
            milliseconds = str(round(reply.pushback * 1000))
            context.set_trailing_metadata((("grpc-retry-pushback-ms", milliseconds),))
        if reply.code is not StatusCode.OK:
            context.abort(reply.code, reply.details)

    def _wait(self, event: threading.Event | None, context: grpc.ServicerContext) -> None:
        if event is not None:
            while not event.wait(_LOOK) and context.is_active() and not self._closed.is_set():
                pass

    def __enter__(self) -> Self:
        """Start it."""
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Stop it; calls that wait are let go."""
        self._closed.set()
        self._server.stop(None).wait()
        self._pool.shutdown()


class _Handlers(grpc.GenericRpcHandler):
    """Takes every method for one with two streams: on the wire, one message is a stream of one."""

    def __init__(self, serve: Callable[..., Iterator[bytes]]) -> None:
        self._serve = serve

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Serve any method."""
        method = handler_call_details.method
        return grpc.stream_stream_rpc_method_handler(
            lambda requests, context: self._serve(method, requests, context)
        )


def _unscripted(method: str) -> Reply:
    return fail(StatusCode.UNIMPLEMENTED, f"the test has no script for {method}")
