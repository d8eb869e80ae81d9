"""A client's deadline holds for the calls that its server makes in turn.

The client gives A five seconds. A asks B, and would give it a minute; B is told what is left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc

from ninelives_grpc import Stack, Timeout, server_interceptor, shield, wrap_channel


@contextlib.contextmanager
def service(answer: Callable[[bytes, grpc.ServicerContext], bytes], stack: Stack) -> Iterator[str]:
    """Serve `/shop.Shop/Price` by a function; yields the address."""
    server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[server_interceptor(stack)])
    handlers = {"Price": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


PATIENCE = 5.0
"""Seconds that the client waits."""


def answer_b(request: bytes, context: grpc.ServicerContext) -> bytes:
    """Say how much time there is."""
    left = context.time_remaining()
    return request + (b" seconds" if left <= PATIENCE else b" a minute")


def main() -> None:
    """Call A, which calls B."""
    with service(answer_b, Stack("b", Timeout(100.0))) as b:
        to_b = wrap_channel(grpc.insecure_channel(b), Stack("a-to-b", Timeout(60.0)))
        ask_b = to_b.unary_unary("/shop.Shop/Price")

        def answer_a(request: bytes, _: grpc.ServicerContext) -> bytes:
            with shield():
                # What has to be finished whether or not anybody waits for it.
                shielded = ask_b(b"the log: B has")
            return ask_b(request + b": B has") + b"; " + shielded

        with (
            to_b,
            service(answer_a, Stack("a", Timeout(100.0))) as a,
            grpc.insecure_channel(a) as channel,
        ):
            print(channel.unary_unary("/shop.Shop/Price")(b"tea", timeout=PATIENCE))


if __name__ == "__main__":
    main()
