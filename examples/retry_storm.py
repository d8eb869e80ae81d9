"""What retries do to a server most of which is gone for five seconds: without a budget, and with.

Twenty clients and their server are simulated, so that it takes a moment. `Retry` has a budget also
when nobody says so; one that costs nothing stands for a loop around the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc import Registry, Retry, RetryBudget, Stack, Timeout
from ninelives_grpc.simulation import Made, Phase, Scenario, Server, Traffic, simulate

if TYPE_CHECKING:
    from ninelives_grpc.clock import Clock
    from ninelives_grpc.stacks.algebra import Expression

USUAL = Phase(seconds=5.0, load=0.7)
GONE = Phase(seconds=5.0, load=0.7, workers=2)


def no_retries() -> Expression:
    """Give up after a quarter of a second."""
    return Timeout(0.25)


def loop() -> Expression:
    """Try four times."""
    unlimited = RetryBudget(cost=0.0)
    return Retry(4, initial_backoff=0.05, idempotent=True, budget=unlimited) + Timeout(0.25)


def budget() -> Expression:
    """Try four times, as long as successes pay for it."""
    return Retry(4, initial_backoff=0.05, idempotent=True) + Timeout(0.25)


def main() -> None:
    """Print how often each call was tried, and what was answered once all was well again."""
    for policies in (no_retries, loop, budget):

        def client(clock: Clock) -> Stack:
            return Stack("client", policies(), registry=Registry(), clock=clock)  # noqa: B023

        storm = Scenario(
            name="storm",
            server=Server(workers=8, skips_expired=True),
            phases=(USUAL, GONE, USUAL),
            traffic=Traffic(deadline=1.0, clients=20),
            client=Made(client),
        )
        result = simulate(storm, seed=1)
        tried, after = result.amplification(5.0, 10.0), result.goodput(11.0, 15.0)
        name = policies.__name__
        print(f"{name}: {tried:.1f} attempts a call; a second later {after:.1f} are answered")


if __name__ == "__main__":
    main()
