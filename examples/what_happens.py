"""See what happens, why, and since when: in numbers, as it changes, and after a crash."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

from ninelives_grpc import CircuitBreaker, Observer, Refused, Stack
from ninelives_grpc.flight_recorder import FlightRecorder, read
from ninelives_grpc.sinks import JsonLinesSink, LogSink, NonBlockingSink


def reach() -> None:
    """Fail, as a backend that is down."""
    raise ConnectionError("down")


def main() -> None:
    """Let a circuit open, and ask around."""
    folder = Path(tempfile.mkdtemp())
    stack = Stack("prices", CircuitBreaker(consecutive_failures=3))
    # To a file, from a thread of its own; and to the log what the file can not take.
    lines = NonBlockingSink(JsonLinesSink(folder / "events.jsonl") | LogSink())
    stack.attach(lines)
    observer = Observer()
    observer.on_change(lambda change: print(f"{change.path}: {change.old} -> {change.new}"))
    with FlightRecorder(folder / "prices.flight"):
        for _ in range(5):
            with suppress(ConnectionError, Refused):
                stack.call(reach)
    lines.close()

    print("errors:", observer.error_rate("prices"))
    (prices,) = observer.metrics(stack="prices").stacks
    (breaker,) = prices.policies
    print("refused:", breaker.refusals, "of", prices.traffic.calls)
    print("why:", breaker.circuits[0].why.partition(": ")[2])
    print("written:", len((folder / "events.jsonl").read_text().splitlines()))
    print(
        "recorded:",
        *dict.fromkeys(event.fields["event"] for event in read(folder / "prices.flight").events),
    )


if __name__ == "__main__":
    main()
