"""End a call of gRPC's sync server before a handler is called for it.

Everything else that gRPC does for a call is for its handler, and takes longer than all that is to
be said here: that it is refused. There is no public way to send a status without a handler, so this
is where we know how gRPC does it; in a version that does it otherwise, handlers have to.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from grpc import _server

from ninelives_grpc.errors import pushback_metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ninelives_grpc.policies.gate import Refusal

_WORK = 7
"""What gRPC has run: a function, of event, state, behaviour, what reads the request, two codecs."""
_send: Any = getattr(_server, "_abort", None)
_KNOWN = _send is not None and [*inspect.signature(_send).parameters] == [
    "state",
    "call",
    "code",
    "details",
]


def can_refuse(work: Sequence[Any], behaviour: object) -> bool:
    """Tell whether the call that some work is for can be ended here.

    Not if another interceptor has wrapped the handler, as that wants to see the refusal.

    Args:
        work: What gRPC has handed to the executor to be run in the context of the call.
        behaviour: Our handler, or None if it has to tell a refusal itself.
    """
    return _KNOWN and len(work) == _WORK and work[3] is behaviour


def refuse(work: Sequence[Any], refusal: Refusal) -> None:
    """Tell the client of a call that it is refused; nothing, if it has gone."""
    event, state = work[1], work[2]
    with state.condition:
        state.trailing_metadata = pushback_metadata(refusal.retry_after) or None
        _send(state, event.call, refusal.code.value[0], refusal.details.encode("utf-8", "replace"))
