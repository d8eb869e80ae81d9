"""A bare sync channel and a protected one beside it, for tests that compare what they do.

Interceptors are compared with one of gRPC's kind that does nothing: what its machinery loses is
not ours to give back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ninelives_grpc import client_interceptors, wrap_channel

from . import idle
from .backend import RpcKind
from .clients import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from ninelives_grpc import Stack

    Pair = tuple[grpc.Channel, grpc.Channel]
    """The bare channel and the protected one."""


class PassingOn(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """An interceptor that does nothing."""

    def _pass_on(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details, request)

    intercept_unary_unary = intercept_unary_stream = _pass_on  # type: ignore[assignment]
    intercept_stream_unary = intercept_stream_stream = _pass_on  # type: ignore[assignment]


def intercepted(bare: grpc.Channel, stack: Stack) -> grpc.Channel:
    return grpc.intercept_channel(bare, *client_interceptors(stack))


BARE: dict[str, Callable[[grpc.Channel], grpc.Channel]] = {
    "wrap": lambda channel: channel,
    "interceptor": lambda channel: grpc.intercept_channel(channel, PassingOn()),
}
PROTECTED: dict[str, Callable[[grpc.Channel, Stack], grpc.Channel]] = {
    "wrap": wrap_channel,
    "interceptor": intercepted,
}

every_way = pytest.mark.parametrize("way", PROTECTED)
every_kind = pytest.mark.parametrize("kind", RpcKind)
request_streams = pytest.mark.parametrize("kind", [RpcKind.STREAM_UNARY, RpcKind.STREAM_STREAM])
response_streams = pytest.mark.parametrize("kind", [RpcKind.UNARY_STREAM, RpcKind.STREAM_STREAM])
unary_responses = pytest.mark.parametrize("kind", [RpcKind.UNARY_UNARY, RpcKind.STREAM_UNARY])
stacks = idle.stacks(*idle.USUAL)
one_attempt = idle.stacks("one-attempt")


def connect(
    way: str,
    policies: Callable[[], Any],
    target: str,
    opened: ExitStack,
    new_stack: Callable[..., Stack],
) -> Callable[..., Pair]:
    """Make pairs of channels; `make` takes an address and what `grpc.insecure_channel` takes.

    To be made a fixture by the modules that need it.
    """

    def make(to: str = target, **options: Any) -> Pair:
        stack = new_stack(policies())
        return of(way, stack, opened, lambda: grpc.insecure_channel(to, **options))

    return make


def of(way: str, stack: Stack, opened: ExitStack, new: Callable[[], grpc.Channel]) -> Pair:
    """Return a channel with nothing and one with the stack, to be closed at the end."""
    bare, inner = opened.enter_context(new()), opened.enter_context(new())
    return BARE[way](bare), PROTECTED[way](inner, stack)


def method_of(channel: grpc.Channel, kind: RpcKind, **options: Any) -> Any:
    """Return the method of a kind; `options` are those of gRPC, such as serializers."""
    return getattr(channel, kind)(kind.path, **options)


def requests_of(kind: RpcKind) -> Any:
    """Return what a method of a kind takes, afresh."""
    return iter(REQUESTS) if kind.streams_requests else REQUESTS[0]


def start(channel: grpc.Channel, kind: RpcKind, requests: Any = None, **options: Any) -> Any:
    """Start a call, and return its call object; `options` are those of gRPC."""
    method = method_of(channel, kind)
    requests = requests_of(kind) if requests is None else requests
    return (method if kind.streams_responses else method.future)(requests, **options)


def take(call: Any, kind: RpcKind) -> Any:
    """Wait for what a call returns."""
    return list(call) if kind.streams_responses else call.result()


def in_every_style(
    channel: grpc.Channel,
    kind: RpcKind,
    requests: Callable[[], Any],
    method: Any = None,
    **how: Any,
) -> list[Any]:
    """Make a call in every way that there is for a kind, and tell what came of each."""
    method = method_of(channel, kind) if method is None else method
    if kind.streams_responses:
        return [told(lambda: list(method(requests(), **how)))]
    return [
        told(lambda: method(requests(), **how)),
        told(lambda: method.with_call(requests(), **how)[0]),
        told(lambda: method.future(requests(), **how).result()),
    ]


def told(work: Callable[..., Any], *args: Any) -> Any:
    """Return what comes of it, in a form that can be compared."""
    try:
        return work(*args)
    except Exception as error:  # noqa: BLE001 - the test compares it
        return error_told(error)


def error_told(error: BaseException) -> tuple[Any, ...]:
    """Return what an error says, in a form that can be compared."""
    if not isinstance(error, grpc.RpcError):
        return type(error), str(error)
    assert isinstance(error, grpc.Call)
    assert isinstance(error, grpc.Future)
    return (
        error.code(),
        error.details(),
        metadata_told(error.initial_metadata()),
        metadata_told(error.trailing_metadata()),
    )


def metadata_told(metadata: Any) -> list[tuple[str, str | bytes]] | None:
    """Return the pairs of metadata, in a form that can be compared."""
    return None if metadata is None else [tuple(pair) for pair in metadata]
