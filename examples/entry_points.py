"""Every way to put a stack between gRPC and the application."""

from __future__ import annotations

import asyncio
from concurrent import futures

from ninelives_grpc import Bulkhead, CircuitBreaker, RateLimit, Retry, Stack, Timeout


async def main(target: str) -> None:
    """Make channels and servers with a stack; `grpc.aio` wants to be in its loop."""
    stack = Stack("prices", Timeout(2.0) + Retry() + CircuitBreaker())
    protection = Stack("shop-server", RateLimit(1000, burst=50) + Bulkhead(64))
    # README
    import grpc

    from ninelives_grpc import aio, client_interceptors, server_interceptor, wrap_channel

    wrap_channel(grpc.insecure_channel(target), stack)  # the fastest
    wrap_channel(grpc.aio.insecure_channel(target), stack)
    grpc.intercept_channel(grpc.insecure_channel(target), *client_interceptors(stack))
    grpc.aio.insecure_channel(target, interceptors=aio.client_interceptors(stack))

    pool = futures.ThreadPoolExecutor(8)
    grpc.server(pool, interceptors=[server_interceptor(protection)])
    grpc.aio.server(interceptors=[aio.server_interceptor(protection)])
    # END
    print("timeout/seconds:", stack.parameters["timeout/seconds"].get())


if __name__ == "__main__":
    asyncio.run(main("localhost:50051"))
