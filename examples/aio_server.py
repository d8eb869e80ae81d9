"""An asyncio server and client: a handler that takes too long is cancelled, and answered for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from ninelives_grpc import Bulkhead, Retry, Stack, Timeout, aio


async def price(request: bytes, _: Any) -> bytes:
    """Answer at once, or much too late."""
    if request == b"caviar":
        await asyncio.sleep(60)
    return request + b" costs 3.90"


async def browse(request: bytes, _: Any) -> AsyncIterator[bytes]:
    """Answer with a stream."""
    for number in (1, 2, 3):
        yield request + b" %d" % number


async def main() -> None:
    """Serve and call."""
    server_stack = Stack("aio-server", Timeout(0.2) + Bulkhead(100))
    server = grpc.aio.server(interceptors=[aio.server_interceptor(server_stack)])
    handlers = {
        "Price": grpc.unary_unary_rpc_method_handler(price),
        "Browse": grpc.unary_stream_rpc_method_handler(browse),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    client_stack = Stack("aio-client", Timeout(2.0) + Retry(3))
    interceptors = aio.client_interceptors(client_stack)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", interceptors=interceptors) as channel:
        print(await channel.unary_unary("/shop.Shop/Price")(b"tea"))
        print([message async for message in channel.unary_stream("/shop.Shop/Browse")(b"tea")])
        try:
            await channel.unary_unary("/shop.Shop/Price")(b"caviar")
        except grpc.aio.AioRpcError as error:
            print(error.code().name)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
