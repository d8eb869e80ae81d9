"""Look into gRPC's own channels, servers and sockets: for those who may, as with any command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from ninelives_control.command import Context, Effect, command
from ninelives_control.errors import CommandError
from ninelives_control.model import Arguments, Result
from ninelives_control.threads import in_thread
from ninelives_control.transports.grpc.errors import abort
from ninelives_control.transports.grpc.service import NAME, caller_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ninelives_control.router import Dispatcher

    Handler = grpc.RpcMethodHandler[Any, Any]
    Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]

_PREFIX = "/grpc.channelz."


class Nothing(Arguments):
    """Nothing to be told."""


class Allowed(Result):
    """It may be done."""


@command(Effect.READ)
def channelz(_arguments: Nothing, _context: Context) -> Allowed:
    """Look into gRPC's own channels, servers and sockets."""
    return Allowed()


class ChannelzGuard(grpc.aio.ServerInterceptor):
    """Lets through to channelz whom the rules let use a command of that name.

    gRPC's servicer asks nobody, and shows with whom the process speaks.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Hold what decides."""
        self._dispatcher = dispatcher

    async def intercept_service(
        self,
        continuation: Continuation,
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the handler; for channelz, one that asks first."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(_PREFIX):
            return handler
        look: Any = handler.unary_unary

        async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            try:
                await in_thread(
                    self._dispatcher.run,
                    channelz,
                    {},
                    caller=caller_of(context),
                    transport=NAME,
                )
            except CommandError as error:
                await abort(context, error)
            return await look(request, context)

        return grpc.unary_unary_rpc_method_handler(
            guarded,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
