"""Work that is done where it is handed over."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class AtOnce(ThreadPoolExecutor):
    """Runs what it is given in the thread that gives it: gRPC asks for a `ThreadPoolExecutor`."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a function, and return its result as a future that is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - for whoever looks into the future
            future.set_exception(error)
        return future


AT_ONCE = AtOnce(1)
"""It has no thread, and one is enough for all."""
