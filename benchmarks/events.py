"""What an event costs: to whom it is told, to how many of them, and from how many threads.

python benchmarks/events.py [--events 20000] [--rounds 15]

All variants take turns within each round; a row is the median over the rounds. Events are built
anew each time, as policies do, and `refused call` is a whole call that an open circuit refuses.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, Counter, Histogram

from ninelives_grpc import CircuitBreaker, Observer, Refused, Registry, Stack
from ninelives_grpc.events import CircuitRefused, Emitter
from ninelives_grpc.flight_recorder import FlightRecorder
from ninelives_grpc.sinks import (
    JsonLinesSink,
    LogSink,
    MemorySink,
    MulticastSink,
    NonBlockingSink,
    NullSink,
    Sink,
    StreamingSink,
)

_FOLD_AT = 1024
Many = Callable[[int], object]
"""Does something so many times."""


def refusal() -> CircuitRefused:
    """Build an event, as a breaker does."""
    return CircuitRefused(
        stack="shop",
        policy="circuit_breaker",
        method="shop.v1.Shop/Buy",
        at=1.0,
        attempt=1,
        reason="open",
        key="",
        retry_after=0.5,
        cause="UNAVAILABLE: down",
    )


def telling(sink: Sink | None) -> Many:
    """Return what a policy does when it has something to tell, or when nobody listens."""
    emitter = Emitter("shop")
    emitter.attach(sink)
    count = emitter.counter_of("circuit_breaker")

    def tell(events: int) -> None:
        for begin in range(0, events, _FOLD_AT):
            for _ in range(min(_FOLD_AT, events - begin)):
                count(CircuitRefused)
                if emitter.sink is not None:
                    emitter.tell(
                        CircuitRefused,
                        "shop",
                        "circuit_breaker",
                        "shop.v1.Shop/Buy",
                        1.0,
                        1,
                        "open",
                        "",
                        0.5,
                        "UNAVAILABLE: down",
                    )
            # As the recorder does, when so many calls have ended.
            emitter.fold()

    return tell


def repeated(once: Callable[[], object]) -> Many:
    """Return what does something again and again."""

    def repeat(events: int) -> None:
        for _ in range(events):
            once()

    return repeat


def subscribed() -> StreamingSink:
    """Return a bus with one subscriber, who is slow."""
    stream = StreamingSink()
    stream.subscribe(lambda: None)
    return stream


def calling(*sinks: Sink) -> Many:
    """Return a call that is refused."""
    registry = Registry()
    stack = Stack("shop", CircuitBreaker(mode="open"), registry=registry)
    for sink in sinks:
        stack.attach(sink)

    def call(events: int) -> None:
        for _ in range(events):
            with suppress(Refused):
                stack.call(int)

    return call


def variants(cleanup: ExitStack) -> Iterator[tuple[str, Many]]:
    """Make all that is compared."""
    folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
    logger = logging.getLogger("benchmark")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    observer = Observer(Registry())
    recorder = cleanup.enter_context(
        FlightRecorder(folder / "flight", registry=Registry(), hooks=False)
    )
    lines = JsonLinesSink(folder / "events.jsonl")
    cleanup.callback(lines.close)
    behind = NonBlockingSink(NullSink(), size=1 << 30)
    cleanup.callback(behind.close)
    three = MulticastSink(MemorySink(), subscribed(), observer)
    yield "nobody listens: counted", telling(None)
    yield "build the event, and no more", repeated(refusal)
    yield "null", telling(NullSink())
    yield "memory", telling(MemorySink())
    yield "bus, nobody subscribed", telling(StreamingSink())
    yield "bus, one who does not keep up", telling(subscribed())
    yield "observer", telling(observer)
    yield "flight recorder", telling(recorder)
    yield "three: memory, bus, observer", telling(three)
    yield "non-blocking", telling(behind)
    yield "logging, to a handler that does nothing", telling(LogSink(logger))
    yield "JSON lines, to a file", telling(lines)
    yield "refused call, nobody listens", calling()
    yield "refused call, observer", calling(Observer(Registry()))
    yield "refused call, three sinks", calling(MemorySink(), subscribed(), Observer(Registry()))
    yield from others(cleanup)


def others(cleanup: ExitStack) -> Iterator[tuple[str, Many]]:
    """Make what other libraries do for one event."""
    registry = CollectorRegistry()
    counter = Counter("refusals", "Refusals.", ["policy"], registry=registry)
    histogram = Histogram("durations", "Durations.", ["policy"], registry=registry)
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    cleanup.callback(provider.shutdown)
    meter = provider.get_meter("benchmark")
    adder, recorder = meter.create_counter("refusals"), meter.create_histogram("durations")
    about = {"policy": "circuit_breaker"}

    def inc(events: int) -> None:
        for _ in range(events):
            counter.labels("circuit_breaker").inc()

    def observe(events: int) -> None:
        for _ in range(events):
            histogram.labels("circuit_breaker").observe(0.1)

    def add(events: int) -> None:
        for _ in range(events):
            adder.add(1, about)

    def record(events: int) -> None:
        for _ in range(events):
            recorder.record(0.1, about)

    yield "prometheus_client: labels().inc()", inc
    yield "prometheus_client: labels().observe()", observe
    yield "OpenTelemetry SDK: add()", add
    yield "OpenTelemetry SDK: record()", record


def nanoseconds(many: Many, events: int, threads: int) -> float:
    """Return how long one takes, of the time of the whole process."""
    each = events // threads
    workers = [threading.Thread(target=many, args=(each,)) for _ in range(threads)]
    start = time.perf_counter_ns()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return (time.perf_counter_ns() - start) / (each * threads)


def throughput(events: int) -> float:
    """Return how many events a second an observer takes in and counts, one thread at work."""
    observer = Observer(Registry())
    values = refusal().values()
    start = time.perf_counter()
    for _ in range(events):
        observer.take(CircuitRefused, values)
    observer.metrics()
    return events / (time.perf_counter() - start)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with ExitStack() as cleanup:
        compared = list(variants(cleanup))
        times: dict[tuple[str, int], list[float]] = {}
        for _ in range(options.rounds):
            for name, many in compared:
                for threads in (1, 8):
                    found = nanoseconds(many, options.events, threads)
                    times.setdefault((name, threads), []).append(found)
    print(f"{'ns an event':42} {'1 thread':>10} {'8 threads':>10}")
    for name, _ in compared:
        one, eight = (statistics.median(times[name, threads]) for threads in (1, 8))
        print(f"{name:42} {one:10.0f} {eight:10.0f}")
    rates = [throughput(200_000) for _ in range(options.rounds)]
    print(f"\nobserver, events a second on one core: {statistics.median(rates):,.0f}")


if __name__ == "__main__":
    main()
