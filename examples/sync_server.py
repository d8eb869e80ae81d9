"""A sync server that lets two calls run at once and refuses the third, saying when to come back."""

from __future__ import annotations

import threading
from concurrent import futures

import grpc

from ninelives_grpc import Bulkhead, RateLimit, Stack, Timeout, server_interceptor


def main() -> None:
    """Serve, fill the server up, and call it once more."""
    entered, leave = threading.Semaphore(0), threading.Event()

    def slow(request: bytes, _: grpc.ServicerContext) -> bytes:
        entered.release()
        leave.wait(10)
        return request

    stack = Stack("shop-server", Timeout(5.0) + RateLimit(1000, 50) + Bulkhead(2))
    server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=[server_interceptor(stack)])
    handlers = {"Slow": grpc.unary_unary_rpc_method_handler(slow)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/shop.Shop/Slow")
        running = [call.future(b"first"), call.future(b"second")]
        for _ in running:
            entered.acquire()
        try:
            call(b"third")
        except grpc.RpcError as error:
            print(error.code().name, error.details())
        leave.set()
        print([future.result() for future in running])
    server.stop(None).wait()


if __name__ == "__main__":
    main()
