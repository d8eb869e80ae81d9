"""The quick start of the README."""

from __future__ import annotations

from backends import flaky_server


def main(address: str) -> None:
    """Call a backend that fails twice, and change a parameter meanwhile."""
    # README
    import grpc

    from ninelives_grpc import Bulkhead, CircuitBreaker, Retry, Stack, Timeout, wrap_channel

    stack = Stack("prices", Timeout(2.0) + Retry(3) + CircuitBreaker() + Bulkhead(64))
    channel = wrap_channel(grpc.insecure_channel(address), stack)

    price = channel.unary_unary("/shop.Shop/Price")
    print(price(b"tea"))  # the backend failed twice, and nobody noticed
    print(stack.describe())

    stack.parameters["retry/max_attempts"].set(5)  # holds from the next call on
    print(stack.parameters["retry/max_attempts"])
    # END

    channel.close()


if __name__ == "__main__":
    with flaky_server() as server_address:
        main(server_address)
