"""What one attempt of a client call needs to know, and what its end tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from ninelives_grpc.call import ATTEMPT_KEY, Call, Method, serving
from ninelives_grpc.outcome import Code, Kind, Outcome, cancelled, failed
from ninelives_grpc.priority import given_rank, with_rank
from ninelives_grpc.stacks.edge import inherited_deadline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ninelives_grpc.call import ServedCall
    from ninelives_grpc.lifetime import Lifetime
    from ninelives_grpc.stacks.execution import Execution

_REPEATABLE = frozenset({tuple, list, grpc.aio.Metadata})


def new_call(
    method: Method,
    now: float,
    timeout: float | None,
    metadata: Iterable[tuple[str, str | bytes]] | None,
    request: object,
    lifetime: Lifetime | None = None,
) -> Call:
    """Begin a client call, under the deadline and with the rank of the call being served."""
    if metadata is not None and type(metadata) not in _REPEATABLE:
        # An iterator would be used up by the first who looks into it.
        metadata = tuple(metadata)
    served = serving.get()
    if served is not None:
        metadata = _with_rank_of(served, metadata)
    return Call(
        method,
        now,
        None if timeout is None else now + timeout,
        metadata,
        request,
        None if served is None else inherited_deadline(now),
        None,
        lifetime,
    )


def _with_rank_of(served: ServedCall, metadata: Any) -> Any:
    rank = served.rank
    if rank is None or given_rank(metadata) != (None, None):
        return metadata
    return with_rank(metadata, rank)


def time_left(row: Execution, now: float) -> float | None:
    """Return the timeout to send with an attempt that starts now; gRPC takes negative ones too."""
    deadline = row.deadline
    return None if deadline is None else deadline - now


def request_metadata(call: Call) -> Any:
    """Return the metadata to send: from the second attempt on it says which one it is."""
    if call.attempts < 2:  # noqa: PLR2004
        return call.metadata
    return (*(call.metadata or ()), (ATTEMPT_KEY, str(call.attempts)))


def aio_metadata(call: Call) -> Any:
    """Return the metadata to send under asyncio, as `request_metadata`."""
    metadata = request_metadata(call)
    if metadata is None or isinstance(metadata, grpc.aio.Metadata):
        return metadata
    return grpc.aio.Metadata(*metadata)


def outcome_of(ended: Any, duration: float, value: object = None) -> Outcome:
    """Return the outcome of a gRPC call object that has ended."""
    code = ended.code()
    if code is Code.OK:
        return Outcome(Kind.SUCCESS, code, duration, None, None, None, value)
    if code is Code.CANCELLED:
        return cancelled(duration, ended)
    if code is Code.INTERNAL:
        error = ended.exception()
        if not isinstance(error, grpc.RpcError):
            # It never was a call: gRPC wraps what was raised before it, as on a closed channel.
            # To repeat that would be of no use.
            return Outcome(Kind.IGNORED, Code.FAILED_PRECONDITION, duration, error)
    return failed(ended, duration)
