"""Refuse a served call before a worker thread or the reading of its request is spent on it.

A call that waits for a worker only to be told no keeps a better one waiting. gRPC's server asks an
interceptor before it reads the request, and lets it answer with a handler of another kind: one that
takes a stream needs no request, and one with a thread pool of its own needs no worker.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from ninelives_grpc.admission.at_once import AT_ONCE
from ninelives_grpc.call import Call, Method
from ninelives_grpc.errors import pushback_metadata
from ninelives_grpc.interceptors.serve import refuse
from ninelives_grpc.outcome import refused
from ninelives_grpc.policies.gate import Refusal

if TYPE_CHECKING:
    from ninelives_grpc.stacks.stack import Stack

    Handler = grpc.RpcMethodHandler[Any, Any]


def early_refusal(stack: Stack, method: Method, metadata: Any) -> Refusal | None:
    """Return why a call that has just arrived is refused; None if that is not sure by now.

    Only what the gates of the stack can tell from method and metadata counts, which is all there
    is: a rate limit by peer, say, answers where the handler runs.
    """
    now = stack.clock.now()
    call = None
    for gate in stack.plan.gates:
        if call is None and gate.keyed:
            call = Call(method, now, None, metadata)
        if gate.would_refuse(call, now):
            call = call or Call(method, now, None, metadata)
            verdict = gate.admit(call, now, None)
            if isinstance(verdict, Refusal):
                stack.recorder.ended(call, refused(verdict), now)
                return verdict
            # Things have changed in the meantime: it is asked again where the handler runs.
            gate.take_back(verdict, now)
    return None


def refusing(refusal: Refusal) -> Handler:
    """Return the handler for a sync server that ends the call at hand, of any kind, at once."""
    _REFUSAL.set(refusal)
    return _REFUSING


def aio_refusing(refusal: Refusal) -> Handler:
    """Return the handler for an asyncio server that ends the call at hand, of any kind, at once."""
    _REFUSAL.set(refusal)
    return _AIO_REFUSING


_REFUSAL: ContextVar[Refusal] = ContextVar("ninelives_refusal")
"""Why the call whose handler is looked up is refused; gRPC runs the handler in the same context."""


def _end(_: Any, context: Any) -> NoReturn:
    refuse(_REFUSAL.get(), context)


async def _aio_end(_: Any, context: Any) -> None:
    refusal = _REFUSAL.get()
    await context.abort(refusal.code, refusal.details, pushback_metadata(refusal.retry_after))


_end.experimental_thread_pool = AT_ONCE  # type: ignore[attr-defined]
_REFUSING: Handler = grpc.stream_unary_rpc_method_handler(_end)
_AIO_REFUSING: Handler = grpc.stream_unary_rpc_method_handler(_aio_end)
