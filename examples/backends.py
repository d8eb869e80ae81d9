"""gRPC servers for the examples to call: they fail, or take their time, as servers do."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc

Price = Callable[[bytes, grpc.ServicerContext], bytes]


def flaky_server(failures: int = 2, name: bytes = b"") -> contextlib.AbstractContextManager[str]:
    """Serve `/shop.Shop/Price`; the first calls fail with UNAVAILABLE. Yields the address."""
    calls = itertools.count(1)

    def price(request: bytes, context: grpc.ServicerContext) -> bytes:
        if next(calls) <= failures:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return name + request + b" costs 3.90"

    return _served(price)


def slow_server(seconds: float = 0.3) -> contextlib.AbstractContextManager[str]:
    """Serve `/shop.Shop/Price`; every third call takes its time. Yields the address."""
    calls = itertools.count(1)

    def price(request: bytes, _: grpc.ServicerContext) -> bytes:
        if next(calls) % 3 == 0:
            time.sleep(seconds)
        return request + b" costs 3.90"

    return _served(price)


@contextlib.contextmanager
def _served(price: Price) -> Iterator[str]:
    handlers = {"Price": grpc.unary_unary_rpc_method_handler(price)}
    server = grpc.server(futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)
