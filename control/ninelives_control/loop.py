"""A thread with an asyncio loop of its own, in which transports are served."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from ninelives_control.threads import pool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ninelives_control.server import ControlPlane
    from ninelives_control.transports.transport import Transport

_LOGGER = logging.getLogger("ninelives_control")


class LoopThread:
    """Serves transports beside whatever else the process does, a loop of its own included."""

    def __init__(self, transports: Sequence[Transport], on_stop: Callable[[], None]) -> None:
        """Hold the transports; `on_stop` is called before they are stopped."""
        self._transports = transports
        self._on_stop = on_stop
        self._started: Future[dict[str, int]] = Future()
        self._stopping = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None

    def start(self, plane: ControlPlane) -> dict[str, int]:
        """Start all transports, and return their ports by name.

        Raises:
            Exception: What the first of them raised that cannot start; the others are stopped.
        """
        # A daemon, as a program that forgets to stop it must still be able to end.
        self._thread = threading.Thread(
            target=self._run, args=(plane,), name="ninelives-control", daemon=True
        )
        self._thread.start()
        try:
            return self._started.result()
        except BaseException:  # also Ctrl-C
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all transports and end the thread."""
        if self._thread is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        # A call that was aborted and its exception refer to each other; until they are collected
        # they keep the server, and gRPC's polling thread with it.
        gc.collect()

    def _run(self, plane: ControlPlane) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve(plane))
        except BaseException as error:  # whoever waits for the start must hear of it
            if self._started.done():
                _LOGGER.exception("a transport of the control plane failed")
            else:
                self._started.set_exception(error)

    async def _serve(self, plane: ControlPlane) -> None:
        ports = {}
        asyncio.get_running_loop().set_default_executor(pool())
        async with contextlib.AsyncExitStack() as stops:
            for transport in self._transports:
                stops.push_async_callback(transport.stop)
                ports[transport.name] = await transport.start(plane)
            self._started.set_result(ports)
            await self._stopping.wait()
            self._on_stop()
