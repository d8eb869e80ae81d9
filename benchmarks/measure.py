"""What the benchmarks share: servers in processes of their own, stacks, turns and the report.

    python benchmarks/measure.py "sync bare"    # serves until its standard input ends

Variants take turns within each round, so that a slow moment of the machine hits them alike. Metrics
are on, in the OpenTelemetry SDK, collected every second and sent nowhere.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any, TypeVar

import grpc
from google.protobuf.wrappers_pb2 import StringValue
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)

from ninelives_grpc import (
    Bulkhead,
    CircuitBreaker,
    RateLimit,
    Registry,
    Retry,
    Stack,
    Timeout,
    aio,
    server_interceptor,
)

SAY, TELL, HEAR = "/bench.Echo/Say", "/bench.Echo/Tell", "/bench.Echo/Hear"
"""A unary call; a response stream as long as the request says; a request stream."""
REQUEST = StringValue(value="hello")
SERVERS = ("sync bare", "sync no-op", "sync ours", "aio bare", "aio no-op", "aio ours")

T = TypeVar("T")
Rows = dict[str, list[float]]


def full_stack(name: str) -> Stack:
    """Everything that a client stack usually has; nothing of it ever acts here."""
    return Stack(
        name,
        Timeout(5.0) + Retry() + CircuitBreaker() + Bulkhead(1000) + RateLimit(1e9, 1e9),
        registry=Registry(),
    )


def one_gate(name: str) -> Stack:
    """A single gate: the least there is."""
    return Stack(name, CircuitBreaker(), registry=Registry())


def server_stack(name: str) -> Stack:
    """Everything that a server stack usually has."""
    return Stack(
        name,
        Timeout(5.0) + RateLimit(1e9, 1e9) + Bulkhead(1000) + CircuitBreaker(),
        registry=Registry(),
    )


# --- servers, each in a process of its own -------------------------------------------------------


class NoServerInterceptor(grpc.ServerInterceptor):
    """gRPC's machinery for interceptors, and nothing else."""

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Do nothing."""
        return continuation(handler_call_details)


class NoAioServerInterceptor(grpc.aio.ServerInterceptor):
    """gRPC's machinery for interceptors, and nothing else."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Do nothing."""
        return await continuation(handler_call_details)


def _handlers(
    say: Callable[..., Any], tell: Callable[..., Any], hear: Callable[..., Any]
) -> grpc.GenericRpcHandler:
    codec = StringValue.FromString, StringValue.SerializeToString
    return grpc.method_handlers_generic_handler(
        "bench.Echo",
        {
            "Say": grpc.unary_unary_rpc_method_handler(say, *codec),
            "Tell": grpc.unary_stream_rpc_method_handler(tell, *codec),
            "Hear": grpc.stream_unary_rpc_method_handler(hear, *codec),
        },
    )


def _say(request: StringValue, _: object) -> StringValue:
    return request


def _tell(request: StringValue, _: object) -> Iterator[StringValue]:
    for _number in range(int(request.value)):
        yield REQUEST


def _hear(requests: Iterator[StringValue], _: object) -> StringValue:
    return StringValue(value=str(sum(1 for _request in requests)))


async def _say_async(request: StringValue, _: object) -> StringValue:
    return request


async def _tell_async(request: StringValue, _: object) -> AsyncIterator[StringValue]:
    for _number in range(int(request.value)):
        yield REQUEST


async def _hear_async(requests: AsyncIterator[StringValue], _: object) -> StringValue:
    return StringValue(value=str(len([1 async for _request in requests])))


def _serve_sync(kind: str) -> None:
    interceptors: dict[str, list[grpc.ServerInterceptor]] = {
        "bare": [],
        "no-op": [NoServerInterceptor()],
        "ours": [server_interceptor(server_stack("server"))],
    }
    server = grpc.server(futures.ThreadPoolExecutor(16), interceptors=interceptors[kind])
    server.add_generic_rpc_handlers((_handlers(_say, _tell, _hear),))
    _announce(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    sys.stdin.read()
    server.stop(None)


async def _serve_aio(kind: str) -> None:
    interceptors: dict[str, list[grpc.aio.ServerInterceptor]] = {
        "bare": [],
        "no-op": [NoAioServerInterceptor()],
        "ours": [aio.server_interceptor(server_stack("server"))],
    }
    server = grpc.aio.server(interceptors=interceptors[kind])
    server.add_generic_rpc_handlers((_handlers(_say_async, _tell_async, _hear_async),))
    _announce(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


def _announce(port: int) -> None:
    print(port, flush=True)


@contextlib.contextmanager
def servers(*which: str) -> Iterator[dict[str, str]]:
    """Start servers, by their names in `SERVERS`; gives their addresses."""
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in which
    ]
    try:
        addresses = {}
        for name, process in zip(which, processes, strict=True):
            assert process.stdout is not None
            addresses[name] = f"127.0.0.1:{int(process.stdout.readline())}"
        yield addresses
    finally:
        for process in processes:
            process.communicate()


# --- clients -------------------------------------------------------------------------------------

_OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)
"""Channels to one address would share theirs."""


def bare_channel(address: str, *options: tuple[str, Any]) -> grpc.Channel:
    """Return a sync channel with a connection of its own."""
    return grpc.insecure_channel(address, [_OWN_CONNECTION, *options])


def bare_aio_channel(
    address: str,
    *options: tuple[str, Any],
    interceptors: Sequence[grpc.aio.ClientInterceptor] | None = None,
) -> grpc.aio.Channel:
    """Return an asyncio channel with a connection of its own."""
    return grpc.aio.insecure_channel(
        address, [_OWN_CONNECTION, *options], interceptors=interceptors
    )


def stub(channel: Any, method: str = SAY) -> Any:
    """Return the multicallable of a method."""
    kind = {SAY: "unary_unary", TELL: "unary_stream", HEAR: "stream_unary"}[method]
    make = getattr(channel, kind)
    return make(method, StringValue.SerializeToString, StringValue.FromString)


def timed(call: Callable[[], object], calls: int, callers: int = 1) -> float:
    """Return the microseconds a call takes, with so many threads calling."""

    def run() -> None:
        for _ in range(calls // callers):
            call()

    started = time.perf_counter()
    if callers == 1:
        run()
    else:
        threads = [threading.Thread(target=run) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return (time.perf_counter() - started) * 1e6 / calls


async def timed_aio(call: Callable[[], Awaitable[object]], calls: int, callers: int = 1) -> float:
    """Return the microseconds a call takes, with so many tasks calling."""

    async def run() -> None:
        for _ in range(calls // callers):
            await call()

    started = time.perf_counter()
    if callers == 1:
        await run()
    else:
        await asyncio.gather(*(run() for _ in range(callers)))
    return (time.perf_counter() - started) * 1e6 / calls


def take_turns(variants: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Measure each variant once a round, after a round that does not count."""
    rows: dict[str, list[T]] = {name: [] for name in variants}
    for number in range(-1, rounds):
        for name in _turns(list(variants), number):
            measured = variants[name]()
            if number >= 0:
                rows[name].append(measured)
    return rows


async def take_turns_aio(
    variants: Mapping[str, Callable[[], Awaitable[T]]], rounds: int
) -> dict[str, list[T]]:
    """Measure each variant once a round, after a round that does not count."""
    rows: dict[str, list[T]] = {name: [] for name in variants}
    for number in range(-1, rounds):
        for name in _turns(list(variants), number):
            measured = await variants[name]()
            if number >= 0:
                rows[name].append(measured)
    return rows


def _turns(names: list[str], number: int) -> list[str]:
    """Begin with another one in each round: who follows whom makes a difference."""
    shift = number % len(names)
    return names[shift:] + names[:shift]


# --- report --------------------------------------------------------------------------------------


def report(title: str, rows: Rows, bare: str = "bare", unit: str = "call") -> None:
    """Print the medians over the rounds: the figure, its ratio to bare, and the difference."""
    print(f"\n{title}")
    print(f"  {'':30}{f'µs/{unit}':>12}{'ratio':>8}{'more':>9}")
    for name, costs in rows.items():
        ratio = statistics.median(a / b for a, b in zip(costs, rows[bare], strict=True))
        more = statistics.median(a - b for a, b in zip(costs, rows[bare], strict=True))
        print(f"  {name:30}{statistics.median(costs):12.1f}{ratio:8.3f}{more:+8.1f}µ", flush=True)


class _Nowhere(MetricExporter):
    """Takes metrics and does nothing with them."""

    def export(self, metrics_data: MetricsData, timeout_millis: float = 0, **_: object) -> Any:
        """Do nothing."""
        return MetricExportResult.SUCCESS

    def shutdown(self, timeout_millis: float = 0, **_: object) -> None:
        """Do nothing."""

    def force_flush(self, timeout_millis: float = 0) -> bool:
        """Do nothing."""
        return True


def turn_metrics_on() -> None:
    """Let the SDK collect metrics every second."""
    reader = PeriodicExportingMetricReader(_Nowhere(), export_interval_millis=1000)
    set_meter_provider(MeterProvider(metric_readers=[reader, InMemoryMetricReader()]))


def options(description: str | None, *, rounds: int, calls: int, callers: int) -> Any:
    """Read the command line; the arguments are its defaults."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--calls", type=int, default=calls, help="calls or messages in a turn")
    parser.add_argument("--callers", type=int, default=callers, help="threads or tasks at once")
    return parser.parse_args()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=SERVERS)
    side, kind = parser.parse_args().which.split(" ")
    turn_metrics_on()
    if side == "sync":
        _serve_sync(kind)
    else:
        asyncio.run(_serve_aio(kind))


if __name__ == "__main__":
    main()
