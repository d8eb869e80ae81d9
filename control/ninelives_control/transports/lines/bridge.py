"""Hand commands that come as lines of JSON to a control plane that runs elsewhere, over gRPC."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any

import grpc

from ninelives_control.errors import Code, CommandError
from ninelives_control.transports.grpc.connection import OPTIONS, bearing, unreached
from ninelives_control.transports.grpc.errors import told
from ninelives_control.transports.grpc.messages import (
    plain_struct,
    put_struct,
    values_of,
    word_number,
)
from ninelives_control.transports.lines.session import Session
from ninelives_control.v1.control_pb2 import DESCRIPTOR, ExecuteRequest, WatchRequest
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from ninelives_control.watch import watch
from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ninelives_control.transports.grpc.connection import Connection, Metadata
    from ninelives_control.transports.lines.session import Reader, Request, Writer

_WAITING = 16
"""Messages that wait here; where more come, gRPC holds them back, and then they are dropped."""
_SEVERITY = DESCRIPTOR.enum_types_by_name["Severity"]


def serve(connection: Connection, reader: Reader, writer: Writer) -> None:
    """Answer each line; return after the last answer, when the input has ended.

    Raises:
        OSError: It can not be read, or nobody takes the answers any more.
    """
    with connection.channel(OPTIONS) as channel:
        Session(_GrpcDesk(channel, connection), reader, writer).run()


class _GrpcDesk:
    """Hands commands on, with the token of the line, or else that of the connection."""

    def __init__(self, channel: grpc.Channel, connection: Connection) -> None:
        self._stub = ControlServiceStub(channel)
        self._connection = connection

    def execute(self, request: Request) -> Mapping[str, Any]:
        asked = ExecuteRequest(command=_encodable(request.cmd))
        try:
            put_struct(asked.arguments, request.args)
        except (OverflowError, ValueError) as error:
            message = f"the arguments can not be sent over gRPC: {error}"
            raise CommandError(Code.INVALID_ARGUMENT, message) from None
        try:
            answer = self._stub.Execute(
                asked, metadata=self._metadata(request), timeout=self._connection.timeout
            )
        except grpc.RpcError as error:
            raise _told(error, self._connection) from None
        return plain_struct(answer.result)

    def refuse(self, request: Request, error: CommandError) -> CommandError:
        return error

    def watch(self, request: Request, notify: Callable[[], None]) -> _GrpcWatch:
        asked: dict[str, Any] = watch.parse(request.args).model_dump(
            mode="json", exclude_unset=True
        )
        if "severity" in asked:
            asked["severity"] = word_number(_SEVERITY, asked["severity"])
        call = self._stub.Watch(WatchRequest(**asked), metadata=self._metadata(request))
        return _GrpcWatch(call, self._connection, notify)

    def _metadata(self, request: Request) -> Metadata:
        try:
            return self._connection.metadata() if request.auth is None else bearing(request.auth)
        except ConfigError as error:
            raise CommandError(Code.UNAUTHENTICATED, str(error), field="auth") from None


class _GrpcWatch:
    """Reads a stream in a thread of its own."""

    def __init__(self, call: Any, connection: Connection, notify: Callable[[], None]) -> None:
        self._call = call
        self._connection = connection
        self._notify = notify
        self._came: queue.Queue[Mapping[str, Any] | CommandError] = queue.Queue(_WAITING)
        threading.Thread(target=self._read, name="ninelives-lines-watch", daemon=True).start()
        try:
            first = self._came.get(timeout=connection.timeout)
        except queue.Empty:
            message = f"no answer within {connection.timeout:g} s"
            first = CommandError(Code.UNAVAILABLE, message)
        if isinstance(first, CommandError):
            self.close()
            raise first
        self.first = first

    def take(self) -> Sequence[Mapping[str, Any]]:
        taken: list[Mapping[str, Any]] = []
        with contextlib.suppress(queue.Empty):
            while True:
                came = self._came.get_nowait()
                if not isinstance(came, CommandError):
                    taken.append(came)
                elif taken:
                    # First what came before it.
                    self._came.put(came)
                    self._notify()
                    break
                else:
                    raise came
        return taken

    def close(self) -> None:
        self._call.cancel()
        # The thread may wait for room.
        with contextlib.suppress(queue.Empty):
            while True:
                self._came.get_nowait()

    def _read(self) -> None:
        address = self._connection.address
        ended = CommandError(Code.UNAVAILABLE, f"the control plane at {address} has stopped")
        try:
            for message in self._call:
                self._came.put(values_of(message))
                self._notify()
        except grpc.RpcError as error:
            ended = _told(error, self._connection)
        self._came.put(ended)
        self._notify()


def _told(error: grpc.RpcError, connection: Connection) -> CommandError:
    assert isinstance(error, grpc.Call)
    return told(error) or unreached(error, connection)


def _encodable(text: str) -> str:
    """Return a text that protobuf takes: it refuses half a surrogate pair."""
    return text.encode("utf-8", "replace").decode()
