"""Protect an asyncio channel by interceptors: one for each kind of call.

A grpc.aio channel files an interceptor under the first of the four base classes that it finds, so a
single object that has all four would leave the streams unprotected.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from grpc import aio

from ninelives_grpc.interceptors import aio_calls
from ninelives_grpc.interceptors.aio_driver import AioDriver, first_branch
from ninelives_grpc.interceptors.aio_ends import hear_of_end
from ninelives_grpc.interceptors.aio_replay import AioReplay
from ninelives_grpc.interceptors.aio_watch import AioWatch
from ninelives_grpc.interceptors.attempts import aio_metadata, new_call, time_left
from ninelives_grpc.interceptors.client import Known
from ninelives_grpc.interceptors.protect import no_race_of_streams
from ninelives_grpc.stacks.aio import pause
from ninelives_grpc.stacks.edge import abandon, error_of
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.step import ATTEMPT, FINISH, PAUSE, RACE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ninelives_grpc.call import Call
    from ninelives_grpc.routes import Routes
    from ninelives_grpc.stacks.plan import Plan
    from ninelives_grpc.stacks.stack import Stack

    Continuation = Callable[[aio.ClientCallDetails, Any], Awaitable[Any]]


class Adapter:
    """What the four interceptors have in common."""

    streams: ClassVar[bool] = True
    """Whether their calls stream in either direction."""

    def __init__(self, routes: Routes, target: str) -> None:
        """Route by method, on a channel that leads to a target.

        Raises:
            ConfigError: A stack chooses the channel, which an interceptor can not.
        """
        self._known = Known(routes, target, streams=self.streams)

    async def _intercept(
        self,
        protected: type[aio_calls.ProtectedAioCall],
        continuation: Continuation,
        details: Any,
        request: Any,
        *,
        streams_requests: bool,
        streams_responses: bool,
    ) -> Any:
        method, stack, plan = self._known.route(details.method)
        if stack is None or plan is None:
            return await continuation(details, request)
        call = new_call(
            method,
            stack.clock.now(),
            details.timeout,
            details.metadata,
            None if streams_requests else request,
        )
        if plan.races and streams_responses:
            raise no_race_of_streams(stack, call)
        replay: AioReplay[Any] | None = None
        if streams_requests and plan.repeats:
            replay = AioReplay(request, call, asyncio.get_running_loop())

        async def begin(row: Execution, now: float) -> Any:
            told = details
            same = call.attempts == 1 and call.metadata is details.metadata
            if not same or row.deadline is not None:
                # Otherwise there may be more in it, of an interceptor above.
                told = aio.ClientCallDetails(
                    details.method,
                    time_left(row, now),
                    aio_metadata(call),
                    details.credentials,
                    details.wait_for_ready,
                )
            messages = request if replay is None else replay.attempt()
            attempt = await continuation(told, messages)
            if replay is not None:
                attempt.add_done_callback(messages.end)
            return attempt

        try:
            started = await _start(stack, plan, call, begin, protected, streaming=streams_responses)
        except BaseException:
            if replay is not None:
                replay.close()
            raise
        if replay is not None:
            started.add_done_callback(lambda _: replay.close())
        return started


class UnaryUnaryInterceptor(Adapter, aio.UnaryUnaryClientInterceptor):
    """One request, one response."""

    streams = False

    async def intercept_unary_unary(
        self, continuation: Continuation, client_call_details: Any, request: Any
    ) -> Any:
        """Take a call through its stack."""
        return await self._intercept(
            aio_calls.UnaryUnaryCall,
            continuation,
            client_call_details,
            request,
            streams_requests=False,
            streams_responses=False,
        )


class UnaryStreamInterceptor(Adapter, aio.UnaryStreamClientInterceptor):
    """One request, a stream of responses."""

    async def intercept_unary_stream(
        self, continuation: Continuation, client_call_details: Any, request: Any
    ) -> Any:
        """Take a call through its stack."""
        return await self._intercept(
            aio_calls.UnaryStreamCall,
            continuation,
            client_call_details,
            request,
            streams_requests=False,
            streams_responses=True,
        )


class StreamUnaryInterceptor(Adapter, aio.StreamUnaryClientInterceptor):
    """A stream of requests, one response."""

    async def intercept_stream_unary(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Take a call through its stack."""
        return await self._intercept(
            aio_calls.StreamUnaryCall,
            continuation,
            client_call_details,
            request_iterator,
            streams_requests=True,
            streams_responses=False,
        )


class StreamStreamInterceptor(Adapter, aio.StreamStreamClientInterceptor):
    """A stream of requests, a stream of responses."""

    async def intercept_stream_stream(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Take a call through its stack."""
        return await self._intercept(
            aio_calls.StreamStreamCall,
            continuation,
            client_call_details,
            request_iterator,
            streams_requests=True,
            streams_responses=True,
        )


def interceptors(routes: Routes, target: str) -> list[aio.ClientInterceptor]:
    """Return the four interceptors for a channel that leads to a target."""
    return [
        UnaryUnaryInterceptor(routes, target),
        UnaryStreamInterceptor(routes, target),
        StreamUnaryInterceptor(routes, target),
        StreamStreamInterceptor(routes, target),
    ]


async def _start(
    stack: Stack,
    plan: Plan,
    call: Call,
    begin: Callable[[Execution, float], Awaitable[Any]],
    protected: type[aio_calls.ProtectedAioCall],
    *,
    streaming: bool,
) -> Any:
    """Wait until a first attempt may start, start it, and return its call object."""
    execution = Execution(plan, call, call.deadline)
    branch: Execution | None = None
    try:
        step = execution.start(call.started)
        while step is PAUSE:
            await pause(execution, stack.clock)
            step = execution.resume(stack.clock.now())
        first = None
        if step is RACE:
            branch, step = first_branch(execution, stack.clock.now())
        if step is ATTEMPT:
            row = execution if branch is None else branch
            first = await begin(row.current(), stack.clock.now())
    except BaseException as error:
        if branch is not None:
            branch.cancel(stack.clock.now(), error)
        abandon(stack, execution, stack.clock.now(), error)
        raise
    if first is not None and not plan.repeats and not (streaming and plan.follows_messages):
        hear_of_end(first, AioWatch(stack, execution, streaming=streaming).ended)
        return first
    if step is FINISH and branch is None and execution.outcome.failed:
        stack.recorder.ended(call, execution.outcome, stack.clock.now())
        raise error_of(execution.outcome, stack.name, aio=True)
    loop = asyncio.get_running_loop()
    driver = AioDriver(stack, execution, begin, loop, streaming=streaming)
    if first is None:
        driver.start(step, branch)
    else:
        driver.follow_first(first, branch)
    return protected(driver)
