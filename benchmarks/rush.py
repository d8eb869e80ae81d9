"""Calls that come when they come, whatever became of those before: a process of its own.

    python benchmarks/rush.py 127.0.0.1:50051

Reads a line of JSON from standard input: the begin, on the clock that all processes share, the
deadline, and of each call when it is due and how long it is to take. Writes when each was sent,
when it ended, how, and whether it had waited when it was refused. Nothing waits for an answer, so
that a server that is slow gets as many calls as one that is not, and what counts is when a call was
due, not when there was time for it.

Or is told to keep a server busy by so many callers, and writes the times of the calls it has done.
"""

from __future__ import annotations

import gc
import json
import struct
import sys
import threading
import time
from typing import Any

import grpc
from measure import bare_channel
from rushed import METHOD

_WARM = 30
"""Calls before all others: for connections, and what is made at the first call."""


def run(address: str, begin: float, deadline: float, calls: list[list[float]]) -> list[Any]:
    """Make all calls, and return what became of each."""
    work = warm(bare_channel(address))
    made: list[list[Any]] = []
    over = threading.Semaphore(0)
    now, sleep = time.monotonic, time.sleep
    requests = [(begin + at, struct.pack("<d", seconds)) for at, seconds in calls]

    def note(ended: Any, row: list[Any]) -> None:
        row[1] = now()
        row[2] = ended.code().name
        row[3] = "turn did not come" in (ended.details() or "")
        over.release()

    gc.disable()
    for due, request in requests:
        wait = due - now()
        if wait > 0.0:
            sleep(wait)
        row: list[Any] = [now(), 0.0, "", False]
        made.append(row)
        call = work.future(request, timeout=deadline)
        call.add_done_callback(lambda ended, row=row: note(ended, row))
    for _ in requests:
        over.acquire()
    return made


def warm(channel: grpc.Channel) -> Any:
    """Return what calls the server, after some calls."""
    work = channel.unary_unary(METHOD)
    for _ in range(_WARM):
        work(struct.pack("<d", 0.001), timeout=10.0, wait_for_ready=True)
    return work


def keep_busy(address: str, callers: int, seconds: float, calls: list[float]) -> list[float]:
    """Call one after the other, so many at once; returns the times of the calls that were done."""
    work = warm(bare_channel(address))
    begin = time.monotonic() + 0.5
    end = begin + seconds
    line, lock, done = iter(calls), threading.Lock(), []

    def call_on() -> None:
        while time.monotonic() < end:
            with lock:
                took = next(line)
            work(struct.pack("<d", took))
            if begin <= time.monotonic() < end:
                done.append(took)

    threads = [threading.Thread(target=call_on) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def main() -> None:
    """Do what the line says."""
    told = json.loads(sys.stdin.readline())
    if "keep_busy" in told:
        result = keep_busy(sys.argv[1], told["keep_busy"], told["seconds"], told["calls"])
    else:
        result = run(sys.argv[1], told["begin"], told["deadline"], told["calls"])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
