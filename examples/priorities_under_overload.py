"""Serve what matters most under overload: the queue of a server's workers knows the classes."""

from __future__ import annotations

import threading
from collections import Counter

import grpc

from ninelives_grpc import (
    AdmissionExecutor,
    AdmissionQueue,
    Bulkhead,
    Stack,
    prioritize,
    server_interceptor,
    wrap_channel,
)
from ninelives_grpc.events import Event
from ninelives_grpc.sinks import Sink

CLASSES = ("critical", "high", "normal", "background")


class Arrived(Sink):
    """Counts the calls that have lined up, or were refused as they came."""

    def __init__(self) -> None:
        """Begin with none."""
        self.calls = threading.Semaphore(0)

    def emit(self, event: Event) -> None:
        """Note one more."""
        if event.name == "AdmissionQueued" or event.reason == "queue_full":
            self.calls.release()


def main() -> None:
    """Send forty calls to a server that is busy, and has room for twenty of them in its queue."""
    begun, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def work(request: bytes, _: grpc.ServicerContext) -> bytes:
        if request == b"first":
            begun.set()
            go_on.wait(10)
        else:
            order.append(request.decode())
        return request

    # As many calls run as the executor has workers. Twenty may wait; by default it is a thousand.
    stack = Stack("shop", AdmissionQueue(max_queue=20, default_wait=30.0))
    arrived = Arrived()
    stack.attach(arrived)
    server = grpc.server(AdmissionExecutor(1), interceptors=[server_interceptor(stack)])
    handlers = {"Work": grpc.unary_unary_rpc_method_handler(work)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    with wrap_channel(
        grpc.insecure_channel(f"127.0.0.1:{port}"), Stack("calls", Bulkhead(99))
    ) as channel:
        call = channel.unary_unary("/shop.Shop/Work")
        first = call.future(b"first")
        begun.wait(10)
        calls = []
        for number in range(40):
            name = CLASSES[3 - number % 4]
            with prioritize(name):
                calls.append((name, call.future(name.encode())))
            arrived.calls.acquire(timeout=10)
        go_on.set()
        first.result(10)
        ended = Counter((name, answer.code().name) for name, answer in calls)
    server.stop(None).wait()
    for name in CLASSES:
        print(f"{name}: {ended[name, 'OK']} of 10 served")
    print("in this order:", ", ".join(dict.fromkeys(order)))


if __name__ == "__main__":
    main()
