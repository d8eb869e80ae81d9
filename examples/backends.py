"""A gRPC server for the examples to call: it fails now and then, as servers do."""

from __future__ import annotations

import contextlib
import itertools
from concurrent import futures
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def flaky_server(failures: int = 2, name: bytes = b"") -> Iterator[str]:
    """Serve `/shop.Shop/Price`; the first calls fail with UNAVAILABLE. Yields the address."""
    calls = itertools.count(1)

    def price(request: bytes, context: grpc.ServicerContext) -> bytes:
        if next(calls) <= failures:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return name + request + b" costs 3.90"

    handlers = {"Price": grpc.unary_unary_rpc_method_handler(price)}
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)
