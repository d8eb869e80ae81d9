"""Give each tenant a rate of its own, and change it while calls run: what was used up stays so.

On a clock of its own, so that its seconds pass in a moment. `rate` is a parameter like any other:
`ninelives call set_parameter shop/rate_limit/rate 40` does the same to a server that runs.
"""

from __future__ import annotations

from collections import Counter
from concurrent import futures

import grpc

from ninelives_grpc import RateLimit, Registry, Stack, server_interceptor
from ninelives_grpc.testing import VirtualClock

CLOCK = VirtualClock(0.0)
WANTED = {"greedy": 50, "modest": 15}
"""Calls a second."""


def price(request: bytes, _: grpc.ServicerContext) -> bytes:
    """Answer."""
    return request + b" costs 3.90"


def second(call: grpc.UnaryUnaryMultiCallable[bytes, bytes]) -> str:
    """Let a second pass in which each tenant makes as many calls as it wants."""
    served: Counter[str] = Counter()
    due = sorted(
        (number / wanted, tenant) for tenant, wanted in WANTED.items() for number in range(wanted)
    )
    now = 0.0
    for at, tenant in due:
        CLOCK.advance(at - now)
        now = at
        try:
            call(b"tea", metadata=(("x-tenant", tenant),))
            served[tenant] += 1
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
    CLOCK.advance(1.0 - now)
    return ", ".join(f"{tenant} {served[tenant]} of {WANTED[tenant]}" for tenant in WANTED)


def main() -> None:
    """Serve two tenants, and let each have twice as much after a while, and then less."""
    limit = RateLimit(20.0, burst=5, scope="metadata:x-tenant")
    stack = Stack("shop", limit, registry=Registry(), clock=CLOCK)
    server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[server_interceptor(stack)])
    handlers = {"Price": grpc.unary_unary_rpc_method_handler(price)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    rate = stack.parameters["rate_limit/rate"]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/shop.Shop/Price")
        for allowed in (20.0, 40.0, 10.0):
            rate.set(allowed)
            print(f"{allowed:.0f}/s each: {second(call)}")
    server.stop(None).wait()


if __name__ == "__main__":
    main()
