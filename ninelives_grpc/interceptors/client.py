"""Protect a sync channel by an interceptor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from ninelives_grpc.call import Call, Method, Side
from ninelives_grpc.errors import ConfigError
from ninelives_grpc.interceptors.answer import LocalAnswer
from ninelives_grpc.interceptors.attempts import (
    new_call,
    outcome_of,
    request_metadata,
    time_left,
)
from ninelives_grpc.interceptors.iterated import call_object
from ninelives_grpc.interceptors.protect import (
    blocking,
    future,
    on_thread_of_grpc,
    result_of_future,
    stream,
)
from ninelives_grpc.interceptors.replay import Replay
from ninelives_grpc.policies.policy import Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.outcome import Outcome
    from ninelives_grpc.routes import Routes
    from ninelives_grpc.stacks.execution import Execution
    from ninelives_grpc.stacks.plan import Plan
    from ninelives_grpc.stacks.stack import Stack

    Route = tuple[Method, Stack | None, Plan | None]
    """A method, what protects it, and how."""
    Continuation = Callable[[grpc.ClientCallDetails, Any], Any]

_MAX_METHODS = 10_000


class Details(NamedTuple):
    """What gRPC is told of an attempt: `grpc.ClientCallDetails` by its attributes."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class Known:
    """The methods that calls have come for, and what protects them, found once each."""

    def __init__(self, routes: Routes, target: str, *, streams: bool) -> None:
        """Begin without any; `streams` if the methods stream in either direction.

        Raises:
            ConfigError: A stack chooses the channel, which an interceptor can not.
        """
        for stack in routes.stacks:
            refuse_targets(stack)
        self._routes = routes
        self._target = target
        self._streams = streams
        self._found: dict[Any, Route] = {}

    def route(self, path: str | bytes) -> Route:
        """Return the method of a path, and what protects it."""
        found = self._found.get(path)
        if found is None:
            if len(self._found) >= _MAX_METHODS:
                self._found.clear()
            name = path.decode() if isinstance(path, bytes) else path
            stack = self._routes(name)
            method = Method(name, side=Side.CLIENT, target=self._target)
            plan = None if stack is None else stack.plan.of_method(method, streams=self._streams)
            found = self._found[path] = (method, stack, plan)
        return found


class ClientInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Takes calls of all four kinds through the stack that their method is routed to."""

    def __init__(self, routes: Routes, target: str = "") -> None:
        """Route by method, on a channel that leads to a target.

        Raises:
            ConfigError: A stack chooses the channel, which an interceptor can not.
        """
        self._unary = Known(routes, target, streams=False)
        self._streams = Known(routes, target, streams=True)

    def intercept_unary_unary(
        self, continuation: Continuation, client_call_details: Any, request: Any
    ) -> Any:
        """Take a unary call through its stack."""
        return self._one_response(
            continuation, client_call_details, request, streams_requests=False
        )

    def intercept_stream_unary(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Take a call with a request stream through its stack."""
        return self._one_response(
            continuation, client_call_details, request_iterator, streams_requests=True
        )

    def intercept_unary_stream(
        self, continuation: Continuation, client_call_details: Any, request: Any
    ) -> Any:
        """Take a call with a response stream through its stack."""
        return self._intercept(
            stream, continuation, client_call_details, request, streams_requests=False
        )

    def intercept_stream_stream(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Take a call with two streams through its stack."""
        return self._intercept(
            stream, continuation, client_call_details, request_iterator, streams_requests=True
        )

    def _one_response(
        self, continuation: Continuation, details: Any, request: Any, *, streams_requests: bool
    ) -> Any:
        start = future if _returns_at_once(continuation) else _block
        return self._intercept(
            start, continuation, details, request, streams_requests=streams_requests
        )

    def _intercept(
        self,
        start: Callable[[Stack, Plan, Call, Callable[[Execution], Any]], Any],
        continuation: Continuation,
        details: Any,
        request: Any,
        *,
        streams_requests: bool,
    ) -> Any:
        known = self._streams if streams_requests or start is stream else self._unary
        method, stack, plan = known.route(details.method)
        if stack is None or plan is None:
            return continuation(details, request)
        if plan.races and start is _block:
            in_future_form = None if on_thread_of_grpc() else _in_future_form(continuation)
            if in_future_form is None:
                plan = plan.when_blocking
            else:
                continuation, start = in_future_form, _wait
        call = new_call(
            method,
            stack.clock.now(),
            details.timeout,
            details.metadata,
            None if streams_requests else request,
        )
        replay = Replay(request, call) if streams_requests and plan.repeats else None

        def begin(row: Execution) -> Any:
            told = Details(
                details.method,
                time_left(row, stack.clock.now()),
                request_metadata(call),
                details.credentials,
                details.wait_for_ready,
                details.compression,
            )
            messages = request if replay is None else replay.attempt()
            attempt: Any = continuation(told, messages)  # type: ignore[arg-type]
            if start is stream:
                attempt = call_object(attempt)
            elif isinstance(attempt, grpc.RpcError) and not isinstance(attempt, grpc.Call):
                # Another interceptor raised it, and gRPC took it for the end of a call.
                raise attempt
            if replay is not None and (attempt.done() or not attempt.add_callback(messages.end)):
                messages.end()
            return attempt

        started = start(stack, plan, call, begin)
        if replay is not None and (
            start in {_block, _wait} or not started.add_callback(replay.close)
        ):
            replay.close()
        return started


def refuse_targets(stack: Stack) -> None:
    """Refuse a stack that chooses the channel: an interceptor can not.

    Raises:
        ConfigError: It does; says what to do.
    """
    if Role.TARGET in stack.plan.roles:
        msg = "Target needs a channel that it can choose; use wrap_channel"
        raise ConfigError(msg, path=stack.name)


def _returns_at_once(continuation: Continuation) -> bool:
    """Tell whether the application asked for a future.

    gRPC calls the same method of an interceptor for `__call__`, `with_call` and `future`; only the
    name of the continuation that it hands in tells them apart before a call is made.
    """
    return ".future." in getattr(continuation, "__qualname__", "")


def _in_future_form(continuation: Continuation) -> Continuation | None:
    """Return a continuation that starts a call in place of one that waits for it, if there is one.

    Only a call that does not wait can be one of several, and be cancelled. The continuation has no
    such form, but it shows what it calls: gRPC's multicallable of the next interceptor, or channel.
    """
    names = getattr(getattr(continuation, "__code__", None), "co_freevars", ())
    cells = getattr(continuation, "__closure__", None) or ()
    owner = dict(zip(names, cells, strict=True)).get("self")
    thunk = None if owner is None else getattr(owner.cell_contents, "_thunk", None)
    if thunk is None:
        return None

    def start(details: Any, request: Any) -> Any:
        return thunk(details.method).future(
            request,
            timeout=details.timeout,
            metadata=details.metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
            compression=details.compression,
        )

    return start


def _wait(stack: Stack, plan: Plan, call: Call, begin: Callable[[Execution], Any]) -> Any:
    """Make the call elsewhere, and return its call object when it is over, or raise its error."""
    started = future(stack, plan, call, begin)
    result_of_future(started)
    return started


def _block(stack: Stack, plan: Plan, call: Call, begin: Callable[[Execution], Any]) -> Any:
    """Make the call in this thread, and return gRPC's object of it, or the error."""
    try:
        outcome = blocking(stack, plan, call, _attempt, begin)
    except grpc.RpcError as error:
        return error
    return LocalAnswer(outcome.value) if outcome.local else outcome.value


def _attempt(_: Call, begin: Callable[[Execution], Any], row: Execution, now: float) -> Outcome:
    del now
    ended = begin(row)
    return outcome_of(ended, 0.0, ended)
