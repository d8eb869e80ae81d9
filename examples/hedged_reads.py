"""Hedged reads over two replicas: when one is slow to answer, the other is asked as well."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc

from ninelives_grpc import Hedge, Stack, Timeout, wrap_channel
from ninelives_grpc.testing import MemorySink

# Each attempt goes to the next replica in turn.
ROUND_ROBIN = '{"loadBalancingConfig": [{"round_robin": {}}]}'


@contextlib.contextmanager
def replica(hangs: threading.Event | None = None) -> Iterator[str]:
    """Serve the shop; one that hangs says so, and gives no price. Yields the address."""

    def peer(*_: object) -> bytes:
        return b"%d" % port

    def price(request: bytes, context: grpc.ServicerContext) -> bytes:
        if hangs is not None:
            hangs.set()
            gone = threading.Event()
            context.add_callback(gone.set)
            gone.wait(10)
        return request + b" costs 3.90"

    handlers = {
        "Peer": grpc.unary_unary_rpc_method_handler(peer),
        "Price": grpc.unary_unary_rpc_method_handler(price),
    }
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


def main() -> None:
    """Read from two replicas, of which one hangs."""
    sink = MemorySink()
    # Without a delay of its own it hedges the slowest 5 % of calls, once it has seen 20.
    hedge = Hedge(delay=0.05, idempotent=["shop.Shop/Price"])
    stack = Stack("reads", Timeout(5.0) + hedge, sink=sink)
    asked = threading.Event()
    with replica(hangs=asked) as first, replica() as second:
        options = [("grpc.service_config", ROUND_ROBIN)]
        bare = grpc.insecure_channel(f"ipv4:{first},{second}", options=options)
        with wrap_channel(bare, stack) as channel:
            peer = channel.unary_unary("/shop.Shop/Peer")
            connected = {peer(b"", wait_for_ready=True)}
            while len(connected) < len((first, second)):
                connected.add(peer(b""))

            price = channel.unary_unary("/shop.Shop/Price")
            while not asked.is_set():
                answer = price(b"tea")
            print(answer)
    print([event.name for event in sink.events])


if __name__ == "__main__":
    main()
