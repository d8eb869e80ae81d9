"""What a unary call costs more with us than without: microseconds, and ratios to bare gRPC.

    python benchmarks/overhead.py [--rounds 300] [--calls 20] [--callers 1]

The servers run in processes of their own. All variants take turns within each round, so that a slow
moment of the machine hits them alike; a row is the median over the rounds of the time for one call,
and of its ratio to the bare variant of the same round. Ours run with OpenTelemetry metrics on, in
the SDK, collected every second, and with the full stack: timeout, retry with budget, circuit
breaker, bulkhead and rate limit. Read the ratios: the microseconds are this machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent import futures
from typing import Any

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
    client_interceptors,
    server_interceptor,
    wrap_channel,
)

METHOD = "/bench.Echo/Say"
REQUEST = StringValue(value="hello")
SERVERS = ("sync bare", "sync no-op", "sync ours", "aio bare", "aio no-op", "aio ours")


def full_stack(name: str) -> Stack:
    """Everything that a client stack usually has; nothing of it ever acts here."""
    return Stack(
        name,
        Timeout(5.0) + Retry() + CircuitBreaker() + Bulkhead(1000) + RateLimit(1e9, 1000),
        registry=Registry(),
    )


def server_stack(name: str) -> Stack:
    """Everything that a server stack usually has."""
    return Stack(
        name,
        Timeout(5.0) + RateLimit(1e9, 1000) + Bulkhead(1000) + CircuitBreaker(),
        registry=Registry(),
    )


def one_gate(name: str) -> Stack:
    """A single gate: the least there is."""
    return Stack(name, CircuitBreaker(), registry=Registry())


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


def _handlers(behaviour: Callable[..., Any]) -> grpc.GenericRpcHandler:
    handler = grpc.unary_unary_rpc_method_handler(
        behaviour, StringValue.FromString, StringValue.SerializeToString
    )
    return grpc.method_handlers_generic_handler("bench.Echo", {"Say": handler})


def _serve_sync(kind: str) -> None:
    interceptors: dict[str, list[grpc.ServerInterceptor]] = {
        "bare": [],
        "no-op": [NoServerInterceptor()],
        "ours": [server_interceptor(server_stack("server"))],
    }
    server = grpc.server(futures.ThreadPoolExecutor(16), interceptors=interceptors[kind])
    server.add_generic_rpc_handlers((_handlers(lambda request, _: request),))
    _announce(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    sys.stdin.read()
    server.stop(None)


async def _serve_aio(kind: str) -> None:
    async def say(request: StringValue, _: object) -> StringValue:
        return request

    interceptors: dict[str, list[grpc.aio.ServerInterceptor]] = {
        "bare": [],
        "no-op": [NoAioServerInterceptor()],
        "ours": [aio.server_interceptor(server_stack("server"))],
    }
    server = grpc.aio.server(interceptors=interceptors[kind])
    server.add_generic_rpc_handlers((_handlers(say),))
    _announce(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


def _announce(port: int) -> None:
    print(port, flush=True)


def serve(which: str) -> None:
    """Serve until standard input ends."""
    side, kind = which.split(" ")
    _turn_metrics_on()
    if side == "sync":
        _serve_sync(kind)
    else:
        asyncio.run(_serve_aio(kind))


def start_servers() -> tuple[dict[str, str], list[subprocess.Popen[str]]]:
    """Start all servers and return their addresses."""
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--serve", which],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for which in SERVERS
    ]
    addresses = {}
    for which, process in zip(SERVERS, processes, strict=True):
        assert process.stdout is not None
        addresses[which] = f"127.0.0.1:{int(process.stdout.readline())}"
    return addresses, processes


# --- clients -------------------------------------------------------------------------------------


class NoInterceptor(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """gRPC's machinery for interceptors, and nothing else."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Do nothing."""
        return continuation(details, request)


class NoAioInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """gRPC's machinery for interceptors, and nothing else."""

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Do nothing."""
        return await continuation(details, request)


def sync_channels(address: str) -> dict[str, grpc.Channel]:
    """Return the variants of a sync channel."""

    def bare() -> grpc.Channel:
        # A connection each: channels to one address would share theirs.
        return grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])

    return {
        "bare": bare(),
        "no-op interceptor": grpc.intercept_channel(bare(), NoInterceptor()),
        "ours, interceptor": grpc.intercept_channel(
            bare(), *client_interceptors(full_stack("interceptor"))
        ),
        "ours, wrapped": wrap_channel(bare(), full_stack("wrapped")),
        "ours, wrapped, one gate": wrap_channel(bare(), one_gate("one gate")),
    }


def aio_channels(address: str) -> dict[str, grpc.aio.Channel]:
    """Return the variants of an asyncio channel."""

    def bare(interceptors: list[grpc.aio.ClientInterceptor] | None = None) -> grpc.aio.Channel:
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.insecure_channel(address, options, interceptors=interceptors)

    return {
        "bare": bare(),
        "no-op interceptor": bare([NoAioInterceptor()]),
        "ours, interceptor": bare(aio.client_interceptors(full_stack("aio interceptor"))),
        "ours, wrapped": wrap_channel(bare(), full_stack("aio wrapped")),
        "ours, wrapped, one gate": wrap_channel(bare(), one_gate("aio one gate")),
    }


def _stub(channel: Any) -> Any:
    return channel.unary_unary(METHOD, StringValue.SerializeToString, StringValue.FromString)


def timed(call: Callable[[], object], calls: int, callers: int) -> float:
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


async def timed_aio(call: Callable[[], Awaitable[object]], calls: int, callers: int) -> float:
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


def measure_sync(stubs: dict[str, Any], rounds: int, calls: int, callers: int) -> Rows:
    """Let the variants take turns."""
    rows: Rows = {name: [] for name in stubs}
    for number in range(-1, rounds):
        for name in _turns(list(stubs), number):
            stub = stubs[name]
            cost = timed(lambda stub=stub: stub(REQUEST, timeout=5.0), calls, callers)
            if number >= 0:
                rows[name].append(cost)
    return rows


async def measure_aio(stubs: dict[str, Any], rounds: int, calls: int, callers: int) -> Rows:
    """Let the variants take turns."""
    rows: Rows = {name: [] for name in stubs}
    for number in range(-1, rounds):
        for name in _turns(list(stubs), number):
            stub = stubs[name]
            cost = await timed_aio(lambda stub=stub: stub(REQUEST, timeout=5.0), calls, callers)
            if number >= 0:
                rows[name].append(cost)
    return rows


def _turns(names: list[str], number: int) -> list[str]:
    """Begin with another one in each round: who follows whom makes a difference."""
    shift = number % len(names)
    return names[shift:] + names[:shift]


# --- report --------------------------------------------------------------------------------------

Rows = dict[str, list[float]]


def report(title: str, rows: Rows, bare: str) -> None:
    """Print the medians."""
    print(f"\n{title}")
    print(f"  {'':26}{'µs/call':>9}{'ratio':>8}{'more':>9}")
    for name, costs in rows.items():
        ratio = statistics.median(a / b for a, b in zip(costs, rows[bare], strict=True))
        more = statistics.median(a - b for a, b in zip(costs, rows[bare], strict=True))
        print(f"  {name:26}{statistics.median(costs):9.1f}{ratio:8.3f}{more:+8.1f}µ")


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


def _turn_metrics_on() -> None:
    reader = PeriodicExportingMetricReader(_Nowhere(), export_interval_millis=1000)
    set_meter_provider(MeterProvider(metric_readers=[reader, InMemoryMetricReader()]))


async def _aio(address: str, options: argparse.Namespace) -> None:
    channels = aio_channels(address)
    stubs = {name: _stub(channel) for name, channel in channels.items()}
    rows = await measure_aio(stubs, options.rounds, options.calls, options.callers)
    report("asyncio client, sync server", rows, "bare")
    for channel in channels.values():
        await channel.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--calls", type=int, default=20, help="calls of a variant in a round")
    parser.add_argument("--callers", type=int, default=1, help="threads or tasks that call at once")
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    _turn_metrics_on()
    addresses, processes = start_servers()
    try:
        channels = sync_channels(addresses["sync bare"])
        stubs = {name: _stub(channel) for name, channel in channels.items()}
        rows = measure_sync(stubs, options.rounds, options.calls, options.callers)
        report("sync client, sync server", rows, "bare")
        asyncio.run(_aio(addresses["sync bare"], options))
        for side in ("sync", "aio"):
            stubs = {
                which: _stub(grpc.insecure_channel(addresses[which]))
                for which in SERVERS
                if which.startswith(side)
            }
            rows = measure_sync(stubs, options.rounds, options.calls, options.callers)
            report(f"{side} server, sync client", rows, f"{side} bare")
    finally:
        for process in processes:
            process.communicate()


if __name__ == "__main__":
    main()
