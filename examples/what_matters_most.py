"""Serve what matters most when there is too much to do: calls say how much they matter."""

from __future__ import annotations

import threading
from concurrent import futures

import grpc

from ninelives_grpc import Bulkhead, Stack, prioritize, server_interceptor, wrap_channel
from ninelives_grpc.events import Event
from ninelives_grpc.sinks import Sink


class Queued(Sink):
    """Counts the calls that have lined up."""

    def __init__(self) -> None:
        """Begin with none."""
        self.calls = threading.Semaphore(0)

    def emit(self, event: Event) -> None:
        """Note one more."""
        if event.name == "BulkheadQueued":
            self.calls.release()


def main() -> None:
    """Keep a server busy with one call, and send it three more than can wait for their turn."""
    begun, go_on = threading.Event(), threading.Event()
    served: list[str] = []

    def work(request: bytes, _: grpc.ServicerContext) -> bytes:
        served.append(request.decode())
        begun.set()
        go_on.wait(10)
        return request

    # One call at a time, and two may wait: the one that matters more comes first.
    stack = Stack("shop", Bulkhead(1, max_queue=2, max_wait=10.0, order="priority"))
    queued = Queued()
    stack.attach(queued)
    server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=[server_interceptor(stack)])
    handlers = {"Work": grpc.unary_unary_rpc_method_handler(work)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    # Any stack will do: a wrapped channel says what `prioritize` has said.
    calls = Stack("calls", Bulkhead(9))
    with wrap_channel(grpc.insecure_channel(f"127.0.0.1:{port}"), calls) as channel:
        call = channel.unary_unary("/shop.Shop/Work")
        first = call.future(b"first")
        begun.wait(10)
        waiting = {}
        for what, priority in (("report", "background"), ("page", "normal"), ("login", "high")):
            with prioritize(priority):
                waiting[what] = call.future(what.encode())
            queued.calls.acquire(timeout=10)
        print("report:", waiting.pop("report").code().name)
        go_on.set()
        for answer in (first, *waiting.values()):
            answer.result(10)
    server.stop(None).wait()
    print("served:", ", ".join(served))


if __name__ == "__main__":
    main()
