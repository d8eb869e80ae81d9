"""The RPCs of `ninelives_control.v1.ControlService`."""

from __future__ import annotations

import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from ninelives_control.errors import Code, CommandError, not_confirmed
from ninelives_control.identity.identity import Credentials, bearer, is_loopback
from ninelives_control.threads import in_thread
from ninelives_control.transports.grpc import messages
from ninelives_control.transports.grpc.errors import abort
from ninelives_control.v1 import control_pb2 as pb
from ninelives_control.watch import follow, watch
from ninelives_grpc.naming import snake_case

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from google.protobuf.message import Message
    from pydantic import BaseModel

    from ninelives_control.router import Dispatcher

    ServicerContext = grpc.aio.ServicerContext[Any, Any]

M = TypeVar("M", bound="Message")
_LOGGER = logging.getLogger("ninelives_control")
NAME = "grpc"
SERVICE = pb.DESCRIPTOR.services_by_name["ControlService"]


class ControlService:
    """Turns requests into commands, and what they return into responses.

    Every RPC but `Execute`, `Decline` and `Watch` stands for the command of its name, with messages
    that have the fields of the command's models; so there is nothing to write down for each.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Hold what runs the commands."""
        self._dispatcher = dispatcher

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a server needs to serve it."""
        return grpc.method_handlers_generic_handler(
            SERVICE.full_name, {method.name: self._method(method) for method in SERVICE.methods}
        )

    def _method(self, method: Any) -> grpc.RpcMethodHandler[Any, Any]:
        request = GetMessageClass(method.input_type)
        response = GetMessageClass(method.output_type)
        read = _reader(request)
        if method.name == "Watch":
            return grpc.unary_stream_rpc_method_handler(
                self.watch, read, response.SerializeToString
            )
        special: dict[str, Callable[..., Awaitable[Message]]] = {
            "Execute": self.execute,
            "Decline": self.decline,
        }
        behaviour = special.get(method.name) or self._typed(method, response)

        async def checked(message: Message | None, context: ServicerContext) -> Message:
            if message is None:
                await self._refuse_bytes(snake_case(method.name), request, context)
            return await behaviour(message, context)

        return grpc.unary_unary_rpc_method_handler(checked, read, response.SerializeToString)

    def _typed(
        self, method: Any, response: type[Message]
    ) -> Callable[[Message, ServicerContext], Awaitable[Message]]:
        name = snake_case(method.name)

        build = _filler(response)

        async def run(request: Message, context: ServicerContext) -> Message:
            return await self._run(name, messages.arguments_of(request), context, build)

        return run

    async def execute(
        self, request: pb.ExecuteRequest, context: ServicerContext
    ) -> pb.ExecuteResponse:
        """Run any command."""
        arguments = messages.plain_struct(request.arguments)
        return await self._run(request.command, arguments, context, _executed)

    async def decline(
        self, request: pb.DeclineRequest, context: ServicerContext
    ) -> pb.DeclineResponse:
        """Write down that a person did not agree to a command."""
        refused = await in_thread(
            self._dispatcher.refuse,
            request.command,
            messages.plain_struct(request.arguments),
            not_confirmed(request.command, request.answer),
            caller=caller_of(context),
            transport=NAME,
        )
        await abort(context, refused)

    async def watch(
        self, request: pb.WatchRequest | None, context: ServicerContext
    ) -> AsyncIterator[pb.WatchResponse]:
        """Send the state, and then every event."""
        if request is None:
            await self._refuse_bytes(watch.name, pb.WatchRequest, context)
        told = follow(
            self._dispatcher,
            messages.arguments_of(request),
            caller=caller_of(context),
            transport=NAME,
        )
        async with contextlib.aclosing(told):
            try:
                async for message in told:
                    yield _built(message, _filler(pb.WatchResponse))
            except Exception as error:  # noqa: BLE001 - gRPC would tell its text to the client
                await abort(context, _foreseen(error))

    async def _refuse_bytes(
        self, name: str, request: type[Message], context: ServicerContext
    ) -> NoReturn:
        """Refuse bytes that are no message."""
        wrong = CommandError(
            Code.INVALID_ARGUMENT, f"the bytes are no {request.DESCRIPTOR.full_name}"
        )
        refused = await in_thread(
            self._dispatcher.refuse,
            name,
            {},
            wrong,
            caller=caller_of(context),
            transport=NAME,
            command=watch if name == watch.name else None,
        )
        # An argument that is missing is missing because of that.
        await abort(context, wrong if refused.code is Code.INVALID_ARGUMENT else refused)

    async def _run(
        self,
        name: str,
        arguments: dict[str, object],
        context: ServicerContext,
        build: Callable[[dict[str, Any]], M],
    ) -> M:
        caller = caller_of(context)

        def work() -> M:
            result = self._dispatcher.execute(name, arguments, caller=caller, transport=NAME)
            return _built(result, build)

        try:
            return await in_thread(work)
        except CommandError as error:
            await abort(context, error)


def _reader(request: type[M]) -> Callable[[bytes], M | None]:
    """Return what reads a message; gRPC would log a trace for bytes that are none."""

    def read(data: bytes) -> M | None:
        try:
            return request.FromString(data)
        except DecodeError:
            return None

    return read


def _built(result: BaseModel, build: Callable[[dict[str, Any]], M]) -> M:
    try:
        return build(result.model_dump(mode="json"))
    except Exception as error:  # noqa: BLE001 - gRPC would tell its text to the client
        raise _foreseen(error) from None


def _foreseen(error: Exception) -> CommandError:
    if isinstance(error, CommandError):
        return error
    _LOGGER.error("an answer could not be sent over gRPC", exc_info=error)
    message = "the answer could not be sent; the log of the control plane says why"
    return CommandError(Code.INTERNAL, message)


def _filler(message: type[M]) -> Callable[[dict[str, Any]], M]:
    def build(values: dict[str, Any]) -> M:
        answer = message()
        messages.fill(answer, values)
        return answer

    return build


def _executed(values: dict[str, Any]) -> pb.ExecuteResponse:
    answer = pb.ExecuteResponse()
    messages.put_struct(answer.result, values)
    return answer


def caller_of(context: ServicerContext) -> Credentials:
    """Return what is known of the client of a call."""
    headers = [
        value if isinstance(value, str) else value.decode("latin-1")
        for key, value in context.invocation_metadata() or ()
        if key == "authorization"
    ]
    peer = context.peer()
    return Credentials(
        token=bearer(*headers),
        loopback=_from_here(peer),
        peer=_address(peer),
        certificate=_certificate(context),
    )


def _certificate(context: ServicerContext) -> bytes | None:
    """Return the client certificate of a call, in DER; gRPC has checked it."""
    for shown in context.auth_context().get("x509_pem_cert", ()):
        return ssl.PEM_cert_to_DER_cert(shown.decode("ascii"))
    return None


def _from_here(peer: str) -> bool:
    """Tell whether a peer, such as `ipv4:127.0.0.1:4711`, is on this machine.

    Which user asks at a Unix socket, gRPC does not tell.
    """
    kind, _, address = peer.partition(":")
    return kind == "unix" or is_loopback(unquote(address).rpartition(":")[0])


def _address(peer: str) -> str:
    """Return the address in a peer: `127.0.0.1:4711`, `[::1]:4711` or `unix`."""
    kind, _, address = peer.partition(":")
    return unquote(address) if kind in {"ipv4", "ipv6"} else kind
