"""A call that is over, and never was on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    Future = grpc.Future[Any]
else:
    Future = grpc.Future


class EndedCall(grpc.Call, Future):
    """What `Call` and `Future` answer once a call has ended, however it did."""

    def initial_metadata(self) -> Any:
        """Return nothing: no server has answered."""
        return ()

    def is_active(self) -> bool:
        """Return False: it has ended."""
        return False

    def time_remaining(self) -> float:
        """Return 0: it has ended."""
        return 0.0

    def cancel(self) -> bool:
        """Return False: there is nothing to cancel."""
        return False

    def cancelled(self) -> bool:
        """Return False: it ended for another reason."""
        return False

    def running(self) -> bool:
        """Return False: it has ended."""
        return False

    def done(self) -> bool:
        """Return True: it has ended."""
        return True

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Return False, as gRPC does for a call that has ended."""
        return False

    def add_done_callback(self, fn: Callable[[Future], None]) -> None:
        """Call `fn` at once."""
        fn(self)
