"""Protect an asyncio channel by wrapping it: fast, and true to what a bare channel does."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import grpc
from grpc import aio

from ninelives_grpc.call import Method, Side
from ninelives_grpc.interceptors import aio_calls, aio_watch
from ninelives_grpc.interceptors.aio_driver import AioDriver, first_branch
from ninelives_grpc.interceptors.aio_ends import hear_of_end
from ninelives_grpc.interceptors.aio_replay import AioReplay, Writes
from ninelives_grpc.interceptors.aio_watch import AioWatch
from ninelives_grpc.interceptors.attempts import aio_metadata, new_call
from ninelives_grpc.interceptors.protect import no_race_of_streams
from ninelives_grpc.lifetime import Lifetime
from ninelives_grpc.stacks.edge import abandon
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.step import ATTEMPT, RACE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import TracebackType

    from ninelives_grpc.call import Call
    from ninelives_grpc.routes import Routes
    from ninelives_grpc.stacks.stack import Stack

    Make = Callable[[aio.Channel], Any]
    """Makes gRPC's own multicallable of the method on a channel."""


_MISSING: Any = object()


class ProtectedMethod:
    """What the four kinds of multicallable have in common.

    Attributes:
        stack: What protects the method.
    """

    streams_requests: ClassVar[bool] = False
    protected: ClassVar[type[aio_calls.ProtectedAioCall]]
    passed: ClassVar[type[aio_watch.PassedStream[Any]] | None] = None
    stack: Stack

    def __init__(
        self,
        channel: aio.Channel,
        make: Make,
        method: Method,
        stack: Stack,
        lifetime: Lifetime,
        *,
        sure: bool,
        raw: bool,
    ) -> None:
        """Protect one method of a channel.

        It is `sure` that its calls without metadata start, and `raw` requests are bytes already.
        """
        self.stack = stack
        self._sure = sure
        self._raw = raw
        self._lifetime = lifetime
        self._method = method
        streams = self.streams_requests or self.passed is not None
        self._plan = stack.plan.of_method(method, streams=streams)
        self._inner = make(channel)
        self._make = make
        self._loop: asyncio.AbstractEventLoop = channel._loop  # type: ignore[attr-defined]
        self._now = stack.clock.now
        self._others: dict[int, Any] = {}

    def __call__(  # noqa: C901, D102, PLR0912 - a hot path; gRPC's documentation
        self,
        request: Any = _MISSING,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
        **named: Any,
    ) -> Any:
        if request is _MISSING:
            # gRPC has another name for it, and a default, when the requests are a stream.
            request = self._request_of(named)
        elif named:
            raise _unexpected(named)
        stack, streams = self.stack, self.streams_requests
        plan, lifetime = self._plan, self._lifetime
        message = None if streams else request
        call = new_call(self._method, self._now(), timeout, metadata, message, lifetime)
        if plan.races and self.passed is not None:
            raise no_race_of_streams(stack, call)
        execution = Execution(plan, call, call.deadline)
        driven = plan.repeats or (self.passed is not None and plan.follows_messages)
        branch: Execution | None = None
        writes: Writes[Any] | None = None
        replay: AioReplay[Any] | None = None

        try:
            step = execution.start(call.started)
            if streams and (driven or step is not ATTEMPT):
                writes = Writes() if request is None else None
                replay = AioReplay(request if writes is None else writes, call, self._loop)
            begin = partial(
                self._begin, call, request, replay, credentials, wait_for_ready, compression
            )
            first = None
            if step is RACE:
                branch, step = first_branch(execution, call.started)
            if step is ATTEMPT:
                row = execution if branch is None else branch
                child = row.child
                first = begin(row if child is None else child.current(), call.started)
        except BaseException as error:
            if replay is not None:
                replay.close()
            if branch is not None:
                branch.cancel(call.started, error)
            abandon(stack, execution, call.started, error)
            raise
        if first is not None and not driven:
            return self._pass(execution, first, sure=self._sure and call.metadata is None)
        streaming = self.passed is not None
        driver = AioDriver(stack, execution, begin, self._loop, streaming=streaming)
        if first is None:
            driver.start(step, branch)
        else:
            driver.follow_first(first, branch, sure=self._sure and call.metadata is None)
        started = self.protected(driver)
        if replay is not None and isinstance(started, aio_calls.StreamRequestMixin):
            started.feed(writes, replay, raw=self._raw)
        return started

    def _request_of(self, named: dict[str, Any]) -> Any:
        """Return the request that was not given by its place."""
        if not self.streams_requests:
            kind = type(self).__name__
            msg = (
                f"{kind}MultiCallable.__call__() missing 1 required positional argument: 'request'"
            )
            raise TypeError(msg)
        request = named.pop("request_iterator", None)
        if named:
            raise _unexpected(named)
        return request

    def _begin(
        self,
        call: Call,
        request: Any,
        replay: AioReplay[Any] | None,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
        row: Execution,
        now: float,
    ) -> Any:
        """Start an attempt; a closure would cost a cell for each of what it needs."""
        inner = self._inner if row.target is None else self._on(row.target)
        messages = request if replay is None else replay.attempt()
        attempt = inner(
            messages,
            timeout=None if row.deadline is None else row.deadline - now,
            metadata=call.metadata if call.attempts == 1 else aio_metadata(call),
            credentials=credentials,
            wait_for_ready=wait_for_ready,
            compression=compression,
        )
        if replay is not None:
            attempt.add_done_callback(messages.end)
        return attempt

    def _pass(self, execution: Execution, started: Any, *, sure: bool) -> Any:
        """Watch the only attempt there can be, and return gRPC's own object of it."""
        watch = AioWatch(self.stack, execution, streaming=self.passed is not None)
        if self.passed is not None:
            return self.passed(started, watch, self._loop)
        hear_of_end(started, watch.ended, sure=sure)
        return started

    def _on(self, target: Any) -> Any:
        """Return gRPC's multicallable on the channel that an attempt goes to."""
        other = self._others.get(id(target))
        if other is None:
            # The plan keeps the channel alive, and with it its id.
            other = self._others[id(target)] = self._make(target)
        return other


class UnaryUnary(ProtectedMethod, aio.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    """One request, one response."""

    protected = aio_calls.UnaryUnaryCall


class UnaryStream(ProtectedMethod, aio.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    """One request, a stream of responses."""

    protected = aio_calls.UnaryStreamCall
    passed = aio_watch.PassedUnaryStream


class StreamUnary(ProtectedMethod, aio.StreamUnaryMultiCallable):  # type: ignore[type-arg,misc]
    """A stream of requests, one response."""

    streams_requests = True
    protected = aio_calls.StreamUnaryCall


class StreamStream(ProtectedMethod, aio.StreamStreamMultiCallable):  # type: ignore[type-arg,misc]
    """A stream of requests, a stream of responses."""

    streams_requests = True
    protected = aio_calls.StreamStreamCall
    passed = aio_watch.PassedStreamStream


class ProtectedAioChannel(aio.Channel):
    """A channel whose calls pass through stacks; everything else is the channel's own."""

    def __init__(self, channel: aio.Channel, routes: Routes, target: str) -> None:
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
        def make(channel: aio.Channel) -> Any:
            return getattr(channel, kind)(method, *args, **kwargs)

        stack = self._routes(method)
        if stack is None:
            return make(self._channel)
        called = Method(method, side=Side.CLIENT, target=self._target)
        serializer = args[0] if args else kwargs.get("request_serializer")
        # gRPC can send whatever protobuf gives; another serializer may err, and an interceptor.
        # A stream may be cancelled before it starts, which nobody hears of who awaits it.
        sure = getattr(serializer, "__name__", "") == "SerializeToString"
        sure = sure and protected.passed is None
        sure = sure and not getattr(self._channel, f"_{kind}_interceptors", ())
        raw = serializer is None
        return protected(self._channel, make, called, stack, self._lifetime, sure=sure, raw=raw)

    async def close(self, grace: float | None = None) -> None:
        """Close the channel; calls that are not done within the grace period are cancelled."""
        if not grace:
            self._lifetime.close()
        await self._channel.close(grace)
        self._lifetime.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the connection."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the state of the connection is another one."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until the channel is connected."""
        await self._channel.channel_ready()

    async def __aenter__(self) -> Self:
        """Close the channel at the end of the block."""
        await self._channel.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        """Close the channel."""
        self._lifetime.close()
        return await self._channel.__aexit__(exc_type, exc_val, exc_tb)

    def __getattr__(self, name: str) -> Any:
        """Show what else the channel has, such as the loop that real programs read."""
        return getattr(self._channel, name)


def _unexpected(named: dict[str, Any]) -> TypeError:
    return TypeError(f"__call__() got an unexpected keyword argument {next(iter(named))!r}")
