"""A process under load that records its flight, for tests to kill: `python crashing.py FILE`."""

import contextlib
import sys
import threading
import time

from ninelives_grpc import Bulkhead, CircuitBreaker, Stack
from ninelives_grpc.flight_recorder import FlightRecorder

stack = Stack("shop", CircuitBreaker(open_duration=0.01, max_open_duration=0.01) + Bulkhead(8))


def answer(number: int) -> float:
    return 1 / (number % 3 // 2)


def work() -> None:
    number = 0
    while True:
        number += 1
        with contextlib.suppress(Exception):
            stack.call(answer, number)
        time.sleep(0.0005)


recorder = FlightRecorder(sys.argv[1], events=512).start()
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
sys.stdout.write("ready\n")
sys.stdout.flush()
if sys.argv[2:] == ["raise"]:
    raise RuntimeError("nobody handles this")
threading.Event().wait()
