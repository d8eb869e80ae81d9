"""What the sync and the asyncio server have in common."""

from __future__ import annotations

import functools
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import grpc

from ninelives_grpc.admission.ticket import Entrance, entrance_of
from ninelives_grpc.call import Call, Method, ServedCall, Side, deadline_in, serving
from ninelives_grpc.errors import (
    ConfigError,
    InjectedError,
    LocalError,
    TimedOut,
    pushback_metadata,
)
from ninelives_grpc.lifetime import Lifetime
from ninelives_grpc.outcome import Code, Kind, Outcome, cancelled, classify, failed
from ninelives_grpc.policies.policy import Role
from ninelives_grpc.stacks.messages import ended_here

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token

    from ninelives_grpc.policies.gate import Refusal
    from ninelives_grpc.routes import Routes
    from ninelives_grpc.stacks.execution import Execution
    from ninelives_grpc.stacks.messages import MessageLimits
    from ninelives_grpc.stacks.stack import Stack

    Handler = grpc.RpcMethodHandler[Any, Any]

EARLY = 0.01
"""Seconds by which a client may give up before the deadline by our clock."""

_MAKERS: dict[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class Served(NamedTuple):
    """How a method is served.

    Attributes:
        original: Its handler.
        handler: The handler under its stack.
        method: The method.
        stack: What protects it, or None.
        entrance: Where its calls enter a queue of threads, or None.
    """

    original: Handler
    handler: Handler
    method: Method
    stack: Stack | None
    entrance: Entrance | None = None


class Handlers:
    """The protected handlers of a server, made once each.

    Attributes:
        routes: Which stack protects which method.
    """

    MAX = 10_000

    def __init__(
        self,
        routes: Routes,
        protect: Callable[[Handler, Stack, Method], Callable[..., Any]],
        *,
        threads: bool = False,
    ) -> None:
        """Make a protected behaviour with `protect`; `threads` of a pool serve it, or tasks.

        Raises:
            ConfigError: A stack has a policy that makes no sense on a server; says which.
        """
        for stack in routes.stacks:
            check_served(stack)
        self._routes = routes
        self._protect = protect
        self._threads = threads
        self._made: dict[str, Served] = {}

    def get(self, name: str, handler: Handler) -> Served:
        """Return how a method is served."""
        made = self._made.get(name)
        if made is not None and made.original is handler:
            return made
        if len(self._made) >= self.MAX:
            # Generic handlers can make up any number of methods.
            self._made.clear()
        self._made[name] = made = self._make(name, handler)
        return made

    def _make(self, name: str, handler: Handler) -> Served:
        stack, method = self._routes(name), Method(name, side=Side.SERVER)
        if stack is None:
            return Served(handler, handler, method, None)
        original = behaviour_of(handler)
        behaviour = self._protect(handler, stack, method)
        # Its name, for interceptors around this one, and what it tells gRPC, such as a thread pool.
        functools.update_wrapper(behaviour, original)
        entrance = None
        if self._threads:
            streams = handler.response_streaming
            entrance = entrance_of(stack, method, streams=streams, behaviour=behaviour)
        return Served(handler, with_behaviour(handler, behaviour), method, stack, entrance)


def with_behaviour(handler: Handler, behaviour: Callable[..., Any]) -> Handler:
    """Return a handler like the given one that is served by another function."""
    make = _MAKERS[handler.request_streaming, handler.response_streaming]
    made: Handler = make(
        behaviour,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
    return made


def behaviour_of(handler: Handler) -> Any:
    """Return the function that serves a method."""
    if handler.request_streaming:
        return handler.stream_stream if handler.response_streaming else handler.stream_unary
    return handler.unary_stream if handler.response_streaming else handler.unary_unary


def served_call(stack: Stack, method: Method, request: object, context: Any) -> Call:
    """Begin a call that has arrived."""
    now = stack.clock.now()
    deadline = deadline_in(context.time_remaining(), now)
    metadata = context.invocation_metadata()
    return Call(method, now, deadline, metadata, request, None, context.peer)


def enter(stack: Stack, row: Execution, context: Any) -> Token[ServedCall | None]:
    """Make the call known as the one being served: to `current_call`, and to calls made in it."""
    call, gone = row.call, partial(_gone, context)
    served = ServedCall(call.method, row.deadline, stack.clock.now, gone, call)
    return serving.set(served)


def leave(token: Token[ServedCall | None]) -> None:
    """Take back what `enter` did."""
    serving.reset(token)


def until_over(context: Any) -> Lifetime:
    """Return what ends the waits of a served call as soon as nobody waits for its answer."""
    lifetime = Lifetime()
    if not context.add_callback(lifetime.close):
        lifetime.close()
    return lifetime


def stop_if_over(call: Call, context: Any) -> None:
    """End a call whose client has gone while it waited, in the way that gRPC does not log."""
    if call.lifetime is not None and call.lifetime.closed:
        context.abort(Code.CANCELLED, "the client has gone")


def _gone(context: Any) -> bool:
    active = getattr(context, "is_active", None)
    return bool(context.cancelled()) if active is None else not active()


def ended(stack: Stack, row: Execution, context: Any) -> Outcome:
    """Return the outcome of a sync handler that returned, perhaps too late or for nobody."""
    code = context.code()
    if code is not None and code is not Code.OK:
        return answered(code)
    deadline, active = row.deadline, context.is_active()
    if deadline is not None:
        late = stack.clock.now() - deadline
        if late > 0 and own_limit(row) is not None:
            return failed(too_late(row, stack), 0.0)
        if late > (0 if active else -EARLY):
            return Outcome(Kind.FAILURE, Code.DEADLINE_EXCEEDED, 0.0)
    if not active:
        return cancelled()
    return Outcome(Kind.SUCCESS, Code.OK, 0.0)


def refuse(refusal: Refusal, context: Any) -> NoReturn:
    """End a sync call that one of our policies refused, telling the client when to come back."""
    if refusal.retry_after is not None:
        context.set_trailing_metadata(pushback_metadata(refusal.retry_after))
    _end(context, refusal.code, refusal.details)


def _end(context: Any, code: grpc.StatusCode, details: str | None) -> NoReturn:
    """End a sync call with an error of ours."""
    getattr(context, "end_in_turn", context.abort)(code, details)
    raise AssertionError  # either has raised


def result_of(execution: Execution, stack: Stack, context: Any) -> object:
    """Return what a sync handler returned, or end the call as it ended."""
    outcome = execution.outcome
    if outcome.refusal is not None:
        refuse(outcome.refusal, context)
    error = outcome.error
    if error is None:
        return outcome.value
    ours = made_here(outcome, stack)
    del execution.outcome, outcome
    if isinstance(error, LocalError) and ours:
        _end(context, error.code(), error.details())
    try:
        raise error
    finally:
        # Its traceback refers to this frame.
        del error


def made_here(outcome: Outcome, stack: Stack) -> bool:
    """Tell a limit or a fault of ours, or what `current_call().check()` raises, from a mistake.

    A handler that lets out what its own client was told has failed with UNKNOWN, as ever.
    """
    error = outcome.error
    if isinstance(error, InjectedError):
        return outcome.code is error.code()
    return isinstance(error, TimedOut) and error.stack in {"", stack.name}


def answered(code: Any) -> Outcome:
    """Return the outcome of a handler that returned, with the code it has set."""
    if code is None or code is Code.OK:
        return Outcome(Kind.SUCCESS, Code.OK, 0.0)
    status = status_of(code)
    return Outcome(classify(status), status, 0.0)


def raised(error: BaseException, code: Any, call: Call) -> Outcome:
    """Return the outcome of a handler that raised; `code` is what it had set, or None.

    Whatever it raises is UNKNOWN to the client, unless a code was set. An answer that the
    application has decided on, as by `abort`, is not replaced by a fallback.
    """
    if isinstance(error, TimedOut):
        return failed(error, 0.0)
    if code is None or code is Code.OK:
        return Outcome(Kind.FAILURE, Code.UNKNOWN, 0.0, error)
    call.committed = True
    status = status_of(code)
    if status is Code.CANCELLED:
        return cancelled(0.0, error)
    return Outcome(classify(status), status, 0.0, error)


def raised_or_gone(error: BaseException, stack: Stack, row: Execution, context: Any) -> Outcome:
    """Return the outcome of a sync handler that raised, perhaps as nobody waits for it any more.

    A bare `RpcError` is what gRPC raises to who reads the requests of a call that is over, and a
    `TimedOut` of no stack what `current_call().check()` does.
    """
    told = type(error) is grpc.RpcError or (isinstance(error, TimedOut) and not error.stack)
    if not told or context.is_active():
        return raised(error, context.code(), row.call)
    row.call.committed = True
    outcome = ended(stack, row, context)
    outcome.error = outcome.error or error
    return outcome


def status_of(code: Any) -> grpc.StatusCode:
    """Return a status code that may have been given as a number, as asyncio servers allow."""
    if isinstance(code, grpc.StatusCode):
        return code
    return _BY_NUMBER.get(code, Code.UNKNOWN)


def own_limit(row: Execution) -> float | None:
    """Return the deadline of a handler when it is ours, and clearly earlier than the client's.

    gRPC rounds the timeouts it sends up, so a client's deadline of the same length is a bit later.
    """
    deadline, given = row.deadline, row.call.deadline
    if deadline is None or (given is not None and deadline >= given - EARLY):
        return None
    return deadline


class HandlerStoppedError(Exception):
    """A limit of ours has stopped a handler that streams; never leaves the interceptors.

    Attributes:
        outcome: How its call ended.
    """

    def __init__(self, outcome: Outcome) -> None:
        """Tell how."""
        super().__init__()
        self.outcome = outcome


def overdue(
    row: Execution, stack: Stack, limits: MessageLimits | None, limit: float | None, now: float
) -> HandlerStoppedError:
    """Stop a handler whose next message has not come by `limit`, or by a limit for messages."""
    if limits is None or (limit is not None and now >= limit):
        return HandlerStoppedError(failed(too_late(row, stack), 0.0))
    return HandlerStoppedError(ended_here(limits.silent(now, aio=False)))


def too_late(row: Execution, stack: Stack) -> TimedOut:
    """Return the error of a handler that took longer than a `Timeout` allows."""
    took = stack.clock.now() - row.call.started
    details = f"{row.call.method.name} took {took:.3g} s, longer than {stack.name} allows"
    return TimedOut(details, stack=stack.name)


_BY_NUMBER: dict[Any, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def check_served(stack: Stack) -> None:
    """Make sure that a stack can protect a server.

    Raises:
        ConfigError: It has a policy that makes no sense there; says which.
    """
    plan = stack.plan
    wrong = "Hedge" if plan.hedges else "&" if plan.races else ""
    for role, name in ((Role.RETRY, "Retry"), (Role.TARGET, "Target")):
        if role in plan.roles:
            wrong = name
    if wrong:
        msg = f"{wrong} makes no sense on a server, which is called once; put it on the client"
        raise ConfigError(msg, path=stack.name)
