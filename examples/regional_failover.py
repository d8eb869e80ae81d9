"""Ask the region next door when the own one fails: the callers notice nothing."""

from __future__ import annotations

import grpc
from backends import flaky_server

from ninelives_grpc import CircuitBreaker, Retry, Stack, Target, Timeout, wrap_channel


def main() -> None:
    """Call a region that is down, with another one to fall back on."""
    with flaky_server(failures=1000) as here, flaky_server(0, name=b"north: ") as there:
        # Retries and the breaker are for the own region; the time limit covers both.
        own = Retry(2, initial_backoff=0.01) + CircuitBreaker(consecutive_failures=2)
        with grpc.insecure_channel(there) as north:
            stack = Stack("shop", Timeout(5.0) + (own | Target(north)))
            with wrap_channel(grpc.insecure_channel(here), stack) as channel:
                call = channel.unary_unary("/shop.Shop/Price")
                for product in (b"tea", b"cake"):
                    print(call(product))
        print("own region:", stack.policy("circuit_breaker").state(stack.clock.now())["state"])


if __name__ == "__main__":
    main()
