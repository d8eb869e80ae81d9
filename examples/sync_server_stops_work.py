"""A sync handler stops when its client has gone: it asks, as gRPC has no way to stop a thread."""

from __future__ import annotations

import threading
from concurrent import futures

import grpc

from ninelives_grpc import Bulkhead, Stack, TimedOut, Timeout, current_call, server_interceptor


def main() -> None:
    """Start work that nobody waits for any more, and see it end."""
    begun, stopped = threading.Event(), threading.Event()

    def count(*_: object) -> bytes:
        call = current_call()
        assert call is not None
        begun.set()
        try:
            while True:
                # A step of the work, and then a look whether anybody waits for it.
                stopped.wait(0.001)
                call.check()
        except TimedOut as error:
            print("stopped:", error.details())
            stopped.set()
            raise

    stack = Stack("shop-server", Timeout(60.0) + Bulkhead(1))
    server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[server_interceptor(stack)])
    handlers = {"Count": grpc.unary_unary_rpc_method_handler(count)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        running = channel.unary_unary("/shop.Shop/Count").future(b"stars")
        begun.wait(10)
        running.cancel()
        stopped.wait(10)
    server.stop(None).wait()
    print("at work:", stack.policy("bulkhead").state(stack.clock.now())["in_flight"])


if __name__ == "__main__":
    main()
