"""The same stacks around functions that are no RPCs, sync and asyncio."""

from __future__ import annotations

import asyncio

from ninelives_grpc import CircuitBreaker, Refused, Respond, Retry, Stack

flaky = Stack("disk", Retry(3, initial_backoff=0.01, on=OSError) | Respond("from the cache"))
remote = Stack(
    "remote", CircuitBreaker(consecutive_failures=2, open_duration=60, max_open_duration=60)
)


@flaky
def read(name: str) -> str:
    """Fail, as disks do."""
    raise OSError(name)


@remote
async def fetch() -> str:
    """Fail, as networks do."""
    raise ConnectionError("no route")


async def main() -> None:
    """Call both."""
    print(read("prices"))
    for _ in range(3):
        try:
            await fetch()
        except Refused as refused:
            print("refused:", refused.details())
        except ConnectionError as error:
            print("failed:", error)


if __name__ == "__main__":
    asyncio.run(main())
