"""The clients that are compared: bare gRPC, ours, and what people use instead.

They do different things: native retry only repeats, tenacity with pybreaker repeats and breaks
circuits, grpc-client-kit does both and sets a deadline, the OpenTelemetry instrumentation protects
nothing and writes a span a call. Ours is the full stack with metrics on. What is not installed is
left out, and that is said; grpc-client-kit is for asyncio, on Python 3.12 and newer.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
from measure import SAY, bare_aio_channel, bare_channel, full_stack, one_gate, stub

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


class Variant(NamedTuple):
    """A channel, and what is put around its multicallables."""

    channel: Any
    around: Callable[[Call], Call] | None = None

    def call(self, method: str = SAY) -> Call:
        """Return what makes calls of a method."""
        call: Call = stub(self.channel, method)
        return call if self.around is None else self.around(call)


class NoInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
):
    """gRPC's machinery for interceptors, and nothing else."""

    def _pass_on(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details, request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_unary = _pass_on  # type: ignore[assignment]


class _PassingOn:
    async def pass_on(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Do nothing."""
        return await continuation(client_call_details, request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_unary = pass_on


class _UnaryUnary(_PassingOn, grpc.aio.UnaryUnaryClientInterceptor):
    pass


class _UnaryStream(_PassingOn, grpc.aio.UnaryStreamClientInterceptor):
    pass


class _StreamUnary(_PassingOn, grpc.aio.StreamUnaryClientInterceptor):
    pass


def sync_variants(address: str, *, streams: bool = False) -> dict[str, Variant]:
    """Return the sync clients; of streams, those that do something for them."""

    def intercepted(*interceptors: Any) -> Variant:
        return Variant(grpc.intercept_channel(bare_channel(address), *interceptors))

    variants = {
        "bare": Variant(bare_channel(address)),
        "no-op interceptor": intercepted(NoInterceptor()),
        "ours, interceptor": intercepted(*client_interceptors(full_stack("interceptor"))),
        "ours, wrapped": Variant(wrap_channel(bare_channel(address), full_stack("wrapped"))),
        "ours, wrapped, one gate": Variant(wrap_channel(bare_channel(address), one_gate("gate"))),
        "native retry": Variant(bare_channel(address, NATIVE)),
    }
    by_hand = None if streams else _by_hand()
    if by_hand is not None:
        variants["tenacity + pybreaker"] = Variant(bare_channel(address), by_hand)
    tracers = _tracers()
    if tracers:
        otel = importlib.import_module("opentelemetry.instrumentation.grpc")
        # Its interceptors are of a kind of their own, as its instrumentor knows.
        intercept = importlib.import_module("opentelemetry.instrumentation.grpc.grpcext")
        for name, tracer in tracers.items():
            own = otel.client_interceptor(tracer)
            variants[name] = Variant(intercept.intercept_channel(bare_channel(address), own))
    return variants


def aio_variants(address: str, *, streams: bool = False) -> dict[str, Variant]:
    """Return the asyncio clients; of streams, those that do something for them."""

    def intercepted(interceptors: Any) -> Variant:
        return Variant(bare_aio_channel(address, interceptors=interceptors))

    def wrapped(stack: Any) -> Variant:
        return Variant(wrap_channel(bare_aio_channel(address), stack))

    variants = {
        "bare": Variant(bare_aio_channel(address)),
        "no-op interceptor": intercepted([_UnaryUnary(), _UnaryStream(), _StreamUnary()]),
        "ours, interceptor": intercepted(aio.client_interceptors(full_stack("aio interceptor"))),
        "ours, wrapped": wrapped(full_stack("aio wrapped")),
        "ours, wrapped, one gate": wrapped(one_gate("aio gate")),
        "native retry": Variant(bare_aio_channel(address, NATIVE)),
    }
    by_hand = None if streams else _by_hand_aio()
    if by_hand is not None:
        variants["tenacity + pybreaker"] = Variant(bare_aio_channel(address), by_hand)
    for name, tracer in _tracers().items():
        otel = importlib.import_module("opentelemetry.instrumentation.grpc")
        variants[name] = intercepted(otel.aio_client_interceptors(tracer))
    kit = None if streams else _imported("grpc_client_kit.interceptors")
    if kit is not None:
        configured = kit.build_interceptors(
            timeout=kit.TimeoutConfig(default=5.0),
            retry=kit.RetryConfig(max_attempts=3),
            circuit_breaker=kit.CircuitBreakerConfig(),
        )
        variants["grpc-client-kit"] = intercepted(configured)
    return variants


def _by_hand() -> Callable[[Call], Call] | None:
    """Return what puts tenacity and pybreaker around a stub."""
    pybreaker, repeat = _imported("pybreaker"), _repeat()
    if pybreaker is None or repeat is None:
        return None
    return lambda call: repeat(pybreaker.CircuitBreaker()(call))  # type: ignore[no-any-return]


def _by_hand_aio() -> Callable[[Call], Call] | None:
    pybreaker, repeat = _imported("pybreaker"), _repeat()
    if pybreaker is None or repeat is None:
        return None

    def around(multicallable: Call) -> Call:
        breaker = pybreaker.CircuitBreaker()

        async def call(request: Any, *, timeout: float) -> Any:  # noqa: ASYNC109 - gRPC's own
            with breaker.calling():
                return await multicallable(request, timeout=timeout)

        return repeat(call)  # type: ignore[no-any-return]

    return around


def _repeat() -> Callable[[Call], Any] | None:
    """Return tenacity's decorator, for functions and coroutine functions."""
    tenacity = _imported("tenacity")
    if tenacity is None:
        return None
    decorator: Callable[[Call], Any] = tenacity.retry(
        retry=tenacity.retry_if_exception(_unavailable),
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=1.0),
        reraise=True,
    )
    return decorator


def _unavailable(error: BaseException) -> bool:
    return isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.UNAVAILABLE


def _tracers() -> dict[str, Any]:
    """Return an OpenTelemetry tracer that does nothing, and one that hands spans on in batches."""
    if _imported("opentelemetry.instrumentation.grpc") is None:
        return {}
    trace = importlib.import_module("opentelemetry.sdk.trace")
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    api = importlib.import_module("opentelemetry.trace")

    class Nowhere(export.SpanExporter):  # type: ignore[misc,name-defined]
        """Takes spans and does nothing with them."""

        def export(self, spans: object) -> Any:
            """Do nothing."""
            return export.SpanExportResult.SUCCESS

    provider = trace.TracerProvider()
    provider.add_span_processor(export.BatchSpanProcessor(Nowhere()))
    return {
        "OpenTelemetry, API only": api.NoOpTracerProvider(),
        "OpenTelemetry, SDK tracer": provider,
    }


_MISSING: set[str] = set()


def _imported(name: str) -> Any:
    """Return a module, or None, and say once that it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if name not in _MISSING:
            print(f"{name} is not installed, and left out", file=sys.stderr)
        _MISSING.add(name)
        return None
