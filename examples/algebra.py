"""The algebra of policies, on functions: what wraps, what falls back, what races."""

from __future__ import annotations

import asyncio


async def main() -> None:
    """Compose policies, and call a function through one of the stacks."""
    # README
    from ninelives_grpc import CircuitBreaker, Respond, Retry, Stack, Timeout

    print(Timeout(2) + Retry())  # one timeout for all attempts
    print(Retry() + Timeout(2))  # a timeout for each
    print(Retry() + CircuitBreaker() | Respond(b"from the cache"))  # answered when all fail
    print(Timeout(1) + (Retry() & Retry()))  # both at once, and the first success wins
    print(Timeout(1) | Retry() & Retry() + Timeout(1))  # + binds before &, and & before |
    # END
    stack = Stack("race", Timeout(1) + (Retry() & Retry()))
    print(await stack.acall(asyncio.sleep, 0, "the first"))


if __name__ == "__main__":
    asyncio.run(main())
