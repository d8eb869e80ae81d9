"""What a unary call costs with us, and with what people use instead: ratios to bare gRPC.

    pip install -r benchmarks/requirements.txt
    python benchmarks/alternatives.py [--rounds 300] [--calls 20] [--callers 1]

As `overhead.py` measures. The alternatives do different things: native retry only repeats, tenacity
with pybreaker repeats and breaks circuits, grpc-client-kit does both and sets a deadline, the
OpenTelemetry instrumentation protects nothing and writes a span a call. Ours is the full stack with
metrics on. grpc-client-kit is for asyncio, on Python 3.12 and newer.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
import pybreaker
import tenacity
from measure import (
    REQUEST,
    SAY,
    bare_aio_channel,
    bare_channel,
    full_stack,
    options,
    report,
    servers,
    stub,
    take_turns,
    take_turns_aio,
    timed,
    timed_aio,
    turn_metrics_on,
)
from opentelemetry.instrumentation.grpc import aio_client_interceptors, client_interceptor
from opentelemetry.instrumentation.grpc.grpcext import intercept_channel
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NoOpTracerProvider

from ninelives_grpc import aio, client_interceptors, wrap_channel

RETRY = {
    "methodConfig": [
        {
            "name": [{"service": "bench.Echo"}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
NATIVE = ("grpc.service_config", json.dumps(RETRY))
Call = Callable[..., Any]


class Nowhere(SpanExporter):
    """Takes spans and does nothing with them."""

    def export(self, spans: object) -> SpanExportResult:
        """Do nothing."""
        return SpanExportResult.SUCCESS


@contextmanager
def tracing() -> Iterator[TracerProvider]:
    """Give an SDK tracer that hands its spans on in batches."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    yield provider
    provider.shutdown()


def unavailable(error: BaseException) -> bool:
    """Say whether to repeat the call."""
    return isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.UNAVAILABLE


def repeat() -> Any:
    """Return tenacity's decorator, for functions and coroutine functions."""
    return tenacity.retry(
        retry=tenacity.retry_if_exception(unavailable),
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=1.0),
        reraise=True,
    )


def by_hand(multicallable: Call) -> Call:
    """Put tenacity and pybreaker around a stub."""
    return repeat()(pybreaker.CircuitBreaker()(multicallable))  # type: ignore[no-any-return]


def by_hand_aio(multicallable: Call) -> Call:
    """Put tenacity and pybreaker around an asyncio stub."""
    breaker = pybreaker.CircuitBreaker()

    @repeat()  # type: ignore[untyped-decorator]
    async def call(request: Any, *, timeout: float) -> Any:  # noqa: ASYNC109 - gRPC's own argument
        with breaker.calling():
            return await multicallable(request, timeout=timeout)

    return call  # type: ignore[no-any-return]


def kit_interceptors() -> Any:
    """Return the interceptors of grpc-client-kit, or None where it can not be installed."""
    try:
        kit = importlib.import_module("grpc_client_kit.interceptors")
    except ImportError:
        print("grpc-client-kit is left out: not installed, as it needs Python 3.12 or newer")
        return None
    return kit.build_interceptors(
        timeout=kit.TimeoutConfig(default=5.0),
        retry=kit.RetryConfig(max_attempts=3),
        circuit_breaker=kit.CircuitBreakerConfig(),
    )


def sync_calls(address: str, tracer: TracerProvider) -> dict[str, Call]:
    """Return the variants of a sync stub."""

    def traced(provider: TracerProvider | NoOpTracerProvider) -> Call:
        # As its instrumentor does: its interceptors are of a kind of their own.
        interceptor = client_interceptor(provider)  # type: ignore[no-untyped-call]
        return stub(intercept_channel(bare_channel(address), interceptor))  # type: ignore[no-any-return, no-untyped-call]

    ours = client_interceptors(full_stack("interceptor"))
    return {
        "bare": stub(bare_channel(address)),
        "native retry": stub(bare_channel(address, NATIVE)),
        "tenacity + pybreaker": by_hand(stub(bare_channel(address))),
        "OpenTelemetry, API only": traced(NoOpTracerProvider()),
        "OpenTelemetry, SDK tracer": traced(tracer),
        "ours, interceptor": stub(grpc.intercept_channel(bare_channel(address), *ours)),
        "ours, wrapped": stub(wrap_channel(bare_channel(address), full_stack("wrapped"))),
    }


def aio_calls(address: str, tracer: TracerProvider, kit: Any) -> dict[str, Call]:
    """Return the variants of an asyncio stub."""

    def intercepted(interceptors: Any) -> Call:
        return stub(bare_aio_channel(address, interceptors=interceptors))  # type: ignore[no-any-return]

    def traced(provider: TracerProvider | NoOpTracerProvider) -> Call:
        return intercepted(aio_client_interceptors(provider))  # type: ignore[no-untyped-call]

    calls = {
        "bare": stub(bare_aio_channel(address)),
        "native retry": stub(bare_aio_channel(address, NATIVE)),
        "tenacity + pybreaker": by_hand_aio(stub(bare_aio_channel(address))),
        "OpenTelemetry, API only": traced(NoOpTracerProvider()),
        "OpenTelemetry, SDK tracer": traced(tracer),
        "ours, interceptor": intercepted(aio.client_interceptors(full_stack("aio interceptor"))),
        "ours, wrapped": stub(wrap_channel(bare_aio_channel(address), full_stack("aio wrapped"))),
    }
    if kit is not None:
        calls["grpc-client-kit"] = intercepted(kit)
    return calls


async def measure_aio(address: str, tracer: TracerProvider, chosen: Any) -> dict[str, list[float]]:
    """Let the asyncio variants take turns."""

    def turn(call: Call) -> Callable[[], Awaitable[float]]:
        return partial(timed_aio, partial(call, REQUEST, timeout=5.0), chosen.calls, chosen.callers)

    calls = aio_calls(address, tracer, kit_interceptors())
    return await take_turns_aio({name: turn(call) for name, call in calls.items()}, chosen.rounds)


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, rounds=300, calls=20, callers=1)
    turn_metrics_on()
    with servers("sync bare") as addresses, tracing() as tracer:
        address = addresses["sync bare"]
        variants = {
            name: partial(timed, partial(call, REQUEST, timeout=5.0), chosen.calls, chosen.callers)
            for name, call in sync_calls(address, tracer).items()
        }
        report(f"sync client, {SAY}", take_turns(variants, chosen.rounds))
        report(f"asyncio client, {SAY}", asyncio.run(measure_aio(address, tracer, chosen)))


if __name__ == "__main__":
    main()
