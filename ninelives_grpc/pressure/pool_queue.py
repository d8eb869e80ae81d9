"""How many calls wait for a thread of a sync server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


class PoolQueue:
    """The queue of a thread pool, as a share of what may wait.

        pool = ThreadPoolExecutor(16)
        LoadShed(sensors=[PoolQueue(pool, per_thread=4.0)])

    Args:
        pool: The pool that is given to `grpc.server`.
        per_thread: Calls that may wait for each thread: so many are the limit.
        name: What it is called in events.
    """

    def __init__(
        self, pool: ThreadPoolExecutor, *, per_thread: float = 4.0, name: str = "pool_queue"
    ) -> None:
        self.name = name
        self._pool = pool
        self._per_thread = per_thread

    def read(self) -> float | None:
        """Return the share, or None of a pool of another make, which does not show its queue."""
        queue = getattr(self._pool, "_work_queue", None)
        threads = getattr(self._pool, "_max_workers", None)
        if queue is None or not threads:
            return None
        full: float = threads * self._per_thread
        # An `AdmissionExecutor` keeps those who wait elsewhere.
        return (int(queue.qsize()) + int(getattr(self._pool, "queued", 0))) / full
