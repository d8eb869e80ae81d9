"""Calls of methods that are not there, which gRPC would refuse without a word to anybody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from ninelives_control.audit.early import EarlyRefusal
from ninelives_control.errors import Code
from ninelives_control.threads import in_thread
from ninelives_control.transports.grpc.service import NAME, caller_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ninelives_control.router import Dispatcher

    Handler = grpc.RpcMethodHandler[Any, Any]
    Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]
    ServicerContext = grpc.aio.ServicerContext[Any, Any]


class UnknownMethods(grpc.aio.ServerInterceptor):
    """Refuses them as gRPC does, and has it written down."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Hold what writes it down."""
        self._dispatcher = dispatcher

    async def intercept_service(
        self,
        continuation: Continuation,
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the handler, or one that refuses."""
        handler = await continuation(handler_call_details)
        if handler is not None:
            return handler
        method = str(handler_call_details.method)

        async def refuse(_requests: Any, context: ServicerContext) -> AsyncIterator[Any]:
            status = grpc.StatusCode.UNIMPLEMENTED
            refusal = EarlyRefusal(
                transport=NAME,
                request=method,
                answer=status.name,
                code=Code.UNKNOWN_COMMAND,
                peer=caller_of(context).peer,
            )
            await in_thread(self._dispatcher.note, refusal)
            await context.abort(status, "Method not found!")
            yield  # what makes it a stream, which takes requests of any kind

        return grpc.stream_stream_rpc_method_handler(refuse)
