"""Protect a sync channel by wrapping it: fast, and true to what a bare channel does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import grpc

from ninelives_grpc.call import Method, Side
from ninelives_grpc.interceptors.answer import LocalAnswer
from ninelives_grpc.interceptors.attempts import new_call, request_metadata, time_left
from ninelives_grpc.interceptors.iterated import call_object
from ninelives_grpc.interceptors.protect import (
    blocking,
    future,
    on_thread_of_grpc,
    result_of_future,
    stream,
)
from ninelives_grpc.interceptors.replay import Replay
from ninelives_grpc.lifetime import Lifetime
from ninelives_grpc.outcome import Code, Kind, Outcome, failed

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ninelives_grpc.call import Call
    from ninelives_grpc.routes import Routes
    from ninelives_grpc.stacks.execution import Execution
    from ninelives_grpc.stacks.plan import Plan
    from ninelives_grpc.stacks.stack import Stack

    Make = Callable[[grpc.Channel], Any]
    """Makes gRPC's own multicallable of the method on a channel."""


class ProtectedMethod:
    """What the four kinds of multicallable have in common.

    Attributes:
        stack: What protects the method.
    """

    streams_requests = False
    streams_responses = False
    stack: Stack

    def __init__(
        self,
        channel: grpc.Channel,
        make: Make,
        method: Method,
        stack: Stack,
        lifetime: Lifetime,
    ) -> None:
        """Protect one method of a channel."""
        self.stack = stack
        self._lifetime = lifetime
        self._method = method
        streams = self.streams_requests or self.streams_responses
        self._plan = stack.plan.of_method(method, streams=streams)
        self._inner = make(channel)
        self._make = make
        self._now = stack.clock.now
        self._others: dict[int, Any] = {}

    def _on(self, target: Any) -> Any:
        """Return gRPC's multicallable on the channel that an attempt goes to."""
        other = self._others.get(id(target))
        if other is None:
            # The plan keeps the channel alive, and with it its id.
            other = self._others[id(target)] = self._make(target)
        return other

    def _start(
        self,
        start: Callable[[Stack, Plan, Call, Callable[[Execution], Any]], Any],
        name: str,
        request: Any,
        timeout: float | None,
        metadata: Any,
        *rest: Any,
    ) -> Any:
        """Start a call whose call object is returned."""
        streams = self.streams_requests
        call = new_call(
            self._method,
            self._now(),
            timeout,
            metadata,
            None if streams else request,
            self._lifetime,
        )
        replay = Replay(request, call) if streams and self._plan.repeats else None

        def begin(row: Execution) -> Any:
            inner = self._inner if row.target is None else self._on(row.target)
            messages = request if replay is None else replay.attempt()
            left, headers = time_left(row, self._now()), request_metadata(call)
            attempt = call_object(getattr(inner, name)(messages, left, headers, *rest))
            if replay is not None:
                attempt.add_callback(messages.end)
            return attempt

        started = start(self.stack, self._plan, call, begin)
        if replay is not None and not started.add_callback(replay.close):
            replay.close()
        return started


class UnaryResponse(ProtectedMethod):
    """Methods that return one message: blocking, with their call object, or as a future."""

    def __call__(  # noqa: D102 - gRPC's signature and documentation
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        rest = (credentials, wait_for_ready, compression)
        if self._plan.races and not on_thread_of_grpc():
            return result_of_future(self.future(request, timeout, metadata, *rest))
        return self._block(request, timeout, metadata, rest, with_call=False).value

    def with_call(  # noqa: D102
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> tuple[Any, grpc.Call]:
        rest = (credentials, wait_for_ready, compression)
        if self._plan.races and not on_thread_of_grpc():
            started = self.future(request, timeout, metadata, *rest)
            return result_of_future(started), started
        outcome = self._block(request, timeout, metadata, rest, with_call=True)
        if outcome.local:
            return outcome.value, LocalAnswer(outcome.value)
        response_and_call: tuple[Any, grpc.Call] = outcome.value  # type: ignore[assignment]
        return response_and_call

    def future(  # noqa: D102
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        rest = (credentials, wait_for_ready, compression)
        return self._start(future, "future", request, timeout, metadata, *rest)

    def _block(
        self,
        request: Any,
        timeout: float | None,
        metadata: Any,
        rest: tuple[Any, ...],
        *,
        with_call: bool,
    ) -> Outcome:
        streams, stack, plan = self.streams_requests, self.stack, self._plan.when_blocking
        message = None if streams else request
        call = new_call(self._method, self._now(), timeout, metadata, message, self._lifetime)
        replay = Replay(request, call) if streams and plan.repeats else None

        given = (request, replay, with_call, rest)
        if replay is None:
            return blocking(stack, plan, call, self._attempt, given)
        try:
            return blocking(stack, plan, call, self._attempt, given)
        finally:
            replay.close()

    def _attempt(self, call: Call, given: Any, row: Execution, now: float) -> Outcome:
        """Make one attempt in this thread; a closure would cost a cell for each of `given`."""
        request, replay, with_call, rest = given
        inner = self._inner if row.target is None else self._on(row.target)
        start = inner.with_call if with_call else inner
        messages = request if replay is None else replay.attempt()
        left = None if row.deadline is None else row.deadline - now
        headers = call.metadata if call.attempts == 1 else request_metadata(call)
        try:
            value = start(messages, left, headers, *rest)
        except grpc.RpcError as error:
            return failed(error, 0.0)
        finally:
            if replay is not None:
                messages.end()
        return Outcome(Kind.SUCCESS, Code.OK, 0.0, None, None, None, value)


class StreamResponse(ProtectedMethod):
    """Methods that return a stream."""

    streams_responses = True

    def __call__(  # noqa: D102 - gRPC's signature and documentation
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        rest = (credentials, wait_for_ready, compression)
        return self._start(stream, "__call__", request, timeout, metadata, *rest)


class UnaryUnary(UnaryResponse, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    """One request, one response."""


class StreamUnary(UnaryResponse, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    """A stream of requests, one response; gRPC has another name for its first argument."""

    streams_requests = True

    def __call__(self, request_iterator: Any, *rest: Any, **options: Any) -> Any:  # type: ignore[override] # noqa: D102
        return super().__call__(request_iterator, *rest, **options)

    def with_call(  # type: ignore[override] # noqa: D102
        self, request_iterator: Any, *rest: Any, **options: Any
    ) -> tuple[Any, grpc.Call]:
        return super().with_call(request_iterator, *rest, **options)

    def future(self, request_iterator: Any, *rest: Any, **options: Any) -> Any:  # type: ignore[override] # noqa: D102
        return super().future(request_iterator, *rest, **options)


class UnaryStream(StreamResponse, grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    """One request, a stream of responses."""


class StreamStream(StreamResponse, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]
    """A stream of requests, a stream of responses."""

    streams_requests = True

    def __call__(self, request_iterator: Any, *rest: Any, **options: Any) -> Any:  # type: ignore[override] # noqa: D102
        return super().__call__(request_iterator, *rest, **options)


class ProtectedChannel(grpc.Channel):
    """A channel whose calls pass through stacks; everything else is the channel's own."""

    def __init__(self, channel: grpc.Channel, routes: Routes, target: str) -> None:
        """Wrap a channel that leads to a target; closing either closes both."""
        self._channel = channel
        self._routes = routes
        self._target = target
        self._lifetime = Lifetime()

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return the multicallable of a method, protected by its stack."""
        return self._method(UnaryUnary, "unary_unary", method, args, kwargs)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return the multicallable of a method, protected by its stack."""
        return self._method(UnaryStream, "unary_stream", method, args, kwargs)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return the multicallable of a method, protected by its stack."""
        return self._method(StreamUnary, "stream_unary", method, args, kwargs)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return the multicallable of a method, protected by its stack."""
        return self._method(StreamStream, "stream_stream", method, args, kwargs)

    def _method(
        self,
        protected: type[ProtectedMethod],
        kind: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        # Generated stubs pass `_registered_method` along with the serializers.
        def make(channel: grpc.Channel) -> Any:
            return getattr(channel, kind)(method, *args, **kwargs)

        # gRPC takes bytes too.
        name = method.decode() if isinstance(method, bytes) else method
        stack = self._routes(name)
        if stack is None:
            return make(self._channel)
        called = Method(name, side=Side.CLIENT, target=self._target)
        return protected(self._channel, make, called, stack, self._lifetime)

    def subscribe(
        self,
        callback: Callable[[grpc.ChannelConnectivity], None],
        try_to_connect: bool = False,
    ) -> None:
        """Hear of changes of the connection."""
        self._channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Hear no more of changes of the connection."""
        self._channel.unsubscribe(callback)

    def close(self) -> None:
        """Close the channel; calls under way, and those waiting to be repeated, are cancelled."""
        self._lifetime.close()
        self._channel.close()

    def __enter__(self) -> Self:
        """Close the channel at the end of the block."""
        self._channel.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        """Close the channel."""
        self._lifetime.close()
        return self._channel.__exit__(exc_type, exc_val, exc_tb)

    def __getattr__(self, name: str) -> Any:
        """Show what else the channel has, such as what gRPC's own tools look for."""
        return getattr(self._channel, name)
