"""Give each tenant a rate of its own on a server, by a header, so that none can use up the rest."""

from __future__ import annotations

from concurrent import futures

import grpc

from ninelives_grpc import RateLimit, Stack, server_interceptor


def price(request: bytes, _: grpc.ServicerContext) -> bytes:
    """Answer."""
    return request + b" costs 3.90"


def main() -> None:
    """Serve two tenants, one of whom wants more than its share."""
    # One call a minute, and two at once after a quiet time.
    quota = RateLimit(1 / 60, burst=2, scope="metadata:x-tenant")
    stack = Stack("shop-server", quota)
    server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[server_interceptor(stack)])
    handlers = {"Price": grpc.unary_unary_rpc_method_handler(price)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/shop.Shop/Price")
        for tenant in ("greedy", "greedy", "greedy", "modest"):
            try:
                print(tenant, call(b"tea", metadata=(("x-tenant", tenant),)))
            except grpc.RpcError as error:
                seconds = int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) / 1000
                print(tenant, error.code().name, f"come back in {seconds / 60:.0f} min")
    server.stop(None).wait()


if __name__ == "__main__":
    main()
