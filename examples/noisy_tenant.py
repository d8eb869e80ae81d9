"""Keep one tenant from taking a server from the others: each has a line, served in turns."""

from __future__ import annotations

import threading
from collections import Counter

import grpc

from ninelives_grpc import AdmissionExecutor, AdmissionQueue, Stack, server_interceptor
from ninelives_grpc.events import Event
from ninelives_grpc.sinks import Sink


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
    """Let a noisy tenant fill the queue of a busy server before three others come."""
    begun, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def work(request: bytes, _: grpc.ServicerContext) -> bytes:
        if request == b"first":
            begun.set()
            go_on.wait(10)
        else:
            order.append(request.decode())
        return request

    queue = AdmissionQueue(max_queue=20, default_wait=30.0, fair_by="metadata:x-tenant")
    stack = Stack("shop", queue)
    arrived = Arrived()
    stack.attach(arrived)
    server = grpc.server(AdmissionExecutor(1), interceptors=[server_interceptor(stack)])
    handlers = {"Work": grpc.unary_unary_rpc_method_handler(work)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/shop.Shop/Work")
        first = call.future(b"first")
        begun.wait(10)
        calls = []
        for tenant in ["noisy"] * 30 + ["red", "green", "blue"] * 2:
            calls.append((tenant, call.future(tenant.encode(), metadata=(("x-tenant", tenant),))))
            arrived.calls.acquire(timeout=10)
        go_on.set()
        first.result(10)
        ended = Counter((tenant, answer.code().name) for tenant, answer in calls)
    server.stop(None).wait()
    for tenant, made in Counter(tenant for tenant, _ in calls).items():
        print(f"{tenant}: {ended[tenant, 'OK']} of {made} served")
    print("first:", ", ".join(order[:8]))


if __name__ == "__main__":
    main()
