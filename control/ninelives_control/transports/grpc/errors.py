"""What a gRPC client is told when a command did not run or failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from ninelives_control.errors import Code, CommandError
from ninelives_grpc.errors import pushback_metadata

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message

DOMAIN = "ninelives-grpc"
DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata in which gRPC's rich error model has its details."""

CODES = {
    Code.INVALID_ARGUMENT: StatusCode.INVALID_ARGUMENT,
    Code.NOT_FOUND: StatusCode.NOT_FOUND,
    Code.CONFLICT: StatusCode.ABORTED,
    Code.UNAUTHENTICATED: StatusCode.UNAUTHENTICATED,
    Code.PERMISSION_DENIED: StatusCode.PERMISSION_DENIED,
    # UNIMPLEMENTED would say that the RPC itself is not there.
    Code.UNKNOWN_COMMAND: StatusCode.NOT_FOUND,
    Code.RATE_LIMITED: StatusCode.RESOURCE_EXHAUSTED,
    Code.AUDIT_UNAVAILABLE: StatusCode.UNAVAILABLE,
    Code.UNAVAILABLE: StatusCode.UNAVAILABLE,
    Code.INTERNAL: StatusCode.INTERNAL,
}


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: CommandError) -> NoReturn:
    """End a call with the status, the sentence and the details of an error."""
    code = CODES[error.code]
    await context.abort(
        code,
        error.message,
        trailing_metadata=(
            (DETAILS_KEY, _status(code, error).SerializeToString()),
            *pushback_metadata(error.retry_after),
        ),
    )
    raise AssertionError


def told(error: grpc.Call | grpc.aio.AioRpcError) -> CommandError | None:
    """Return what a control plane told by `abort`; None if it was not the one that answered."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            info = ErrorInfo()
            for detail in Status.FromString(value).details:
                if detail.Unpack(info) and info.domain == DOMAIN:
                    return _error(str(error.details()), info)
    return None


def _error(message: str, info: ErrorInfo) -> CommandError:
    known = info.reason in set(Code)
    revision = info.metadata.get("revision")
    wait = info.metadata.get("retry_after")
    return CommandError(
        Code(info.reason) if known else Code.INTERNAL,
        message,
        field=info.metadata.get("field", ""),
        revision=None if revision is None else int(revision),
        rule=info.metadata.get("rule", ""),
        retry_after=None if wait is None else float(wait),
    )


def _status(code: StatusCode, error: CommandError) -> Status:
    info = ErrorInfo(reason=error.code, domain=DOMAIN)
    for name, value in (("field", error.field), ("rule", error.rule)):
        if value:
            info.metadata[name] = value
    if error.revision is not None:
        info.metadata["revision"] = str(error.revision)
    if error.retry_after is not None:
        info.metadata["retry_after"] = f"{error.retry_after:.3f}"
    number: int = code.value[0]
    status = Status(code=number, message=error.message)
    details: list[Message] = [info]
    if error.code is Code.INVALID_ARGUMENT:
        violation = BadRequest.FieldViolation(field=error.field, description=error.message)
        details.append(BadRequest(field_violations=[violation]))
    for detail in details:
        status.details.add().Pack(detail)
    return status
