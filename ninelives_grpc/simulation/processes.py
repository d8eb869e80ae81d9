"""Make many simulations at once, one a processor."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, TypeVar

from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ninelives_grpc.simulation.scenario import Scenario

T = TypeVar("T")


def quiet(done: int, of: int) -> None:
    """Tell nobody how many simulations are done, and of how many."""


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Have processes that are begun meanwhile leave Ctrl-C, which all are sent, to this one."""
    before = signal.getsignal(signal.SIGINT)
    # Only the main thread may, and None is of a program that Python is a part of.
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def in_processes(
    function: Callable[[Scenario, int], T], todo: Sequence[tuple[Scenario, int]], processes: int
) -> Iterator[tuple[int, T]]:
    """Call a function for each scenario and seed, and go through what it returns as it comes.

    Args:
        function: Of a module, for other processes to find it.
        todo: What to call it with.
        processes: How many to use; 1 calls it here.

    Yields:
        The place in `todo`, and what the function returned.

    Raises:
        ConfigError: A process was ended from outside.
    """
    if processes <= 1 or len(todo) <= 1:
        for number, (scenario, seed) in enumerate(todo):
            yield number, function(scenario, seed)
        return
    # Not forked: the process may have threads, and gRPC's do not survive that.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(todo)), mp_context=context) as pool:
        others = multiprocessing.active_children()
        with _interrupts_ignored():
            running = {pool.submit(function, *each): number for number, each in enumerate(todo)}
        workers = [each for each in multiprocessing.active_children() if each not in others]
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        except BrokenProcessPool:
            msg = "ended before it was done, as it does when there is too little memory"
            raise ConfigError(msg, path="a process that simulates") from None
        except BaseException:
            # Nobody waits for what is still simulated, and that may take minutes.
            for worker in workers:
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
