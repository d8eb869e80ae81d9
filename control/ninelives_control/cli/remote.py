"""Ask a control plane over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from ninelives_control.cli.group import Exit, Failure
from ninelives_control.errors import Code
from ninelives_control.transports.grpc.errors import told
from ninelives_control.transports.grpc.messages import plain_struct, put_struct
from ninelives_control.v1.control_pb2 import ExecuteRequest
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ninelives_control.transports.grpc.connection import Connection

EXITS = {
    Code.INVALID_ARGUMENT: Exit.INVALID,
    Code.NOT_FOUND: Exit.NOT_FOUND,
    Code.UNKNOWN_COMMAND: Exit.NOT_FOUND,
    Code.UNAUTHENTICATED: Exit.DENIED,
    Code.PERMISSION_DENIED: Exit.DENIED,
    Code.CONFLICT: Exit.CONFLICT,
    Code.RATE_LIMITED: Exit.UNAVAILABLE,
    Code.UNAVAILABLE: Exit.UNAVAILABLE,
    Code.AUDIT_UNAVAILABLE: Exit.UNAVAILABLE,
    Code.INTERNAL: Exit.FAILED,
}
"""How the command line ends for each kind of error."""
_OUT_OF_REACH = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def execute(
    command: str, arguments: Mapping[str, object], connection: Connection
) -> dict[str, object]:
    """Run a command of a control plane, and return its result.

    Raises:
        Failure: It did not run, or failed, or cannot be reached.
    """
    request = ExecuteRequest(command=command)
    try:
        put_struct(request.arguments, arguments)
    except (OverflowError, ValueError) as error:
        text = f"the arguments can not be sent over gRPC: {error}"
        raise Failure(text, Exit.INVALID) from None
    with connection.channel() as channel:
        try:
            answer = ControlServiceStub(channel).Execute(
                request, metadata=connection.metadata(), timeout=connection.timeout
            )
        except grpc.RpcError as error:
            raise failure(error, connection.address) from None
    return plain_struct(answer.result)


def failure(error: grpc.RpcError, address: str) -> Failure:
    """Return what to tell of an error of gRPC, and how to end."""
    assert isinstance(error, grpc.Call)
    answer = told(error)
    if answer is not None:
        return Failure(answer.message, EXITS[answer.code])
    if error.code() in _OUT_OF_REACH:
        text = f"no control plane can be reached at {address}: {error.details()}"
        return Failure(text, Exit.UNAVAILABLE)
    return Failure(f"{error.code().name}: {error.details()}", Exit.FAILED)
