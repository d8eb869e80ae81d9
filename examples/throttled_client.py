"""Leave a server time for work: clients that send less while it says that it has too much to do.

Its limit refuses what it can not do; but a refusal costs it a tenth of the work of a call, and ten
times as many calls come as it can do. Both are simulated, so that it takes a moment.
"""

from __future__ import annotations

from ninelives_grpc.simulation import (
    Phase,
    Scenario,
    Server,
    Service,
    Traffic,
    simulate,
    stack_source,
)

SERVER = stack_source({"expression": "bulkhead", "bulkhead": {"max_concurrent": 8}}, "server")
CLIENTS = {
    "all is sent": None,
    "throttle": stack_source({"expression": "throttle"}, "client"),
    "throttle as in the SRE book": stack_source(
        {"expression": "throttle", "throttle": {"algorithm": "sre"}}, "client"
    ),
}


def main() -> None:
    """Print what is answered under overload and, with half of what can be done, after it."""
    for name, client in CLIENTS.items():
        rush = Scenario(
            name="rush",
            service=Service(mean=0.02),
            server=Server(workers=4, refusal=0.002),
            traffic=Traffic(deadline=0.25, clients=20),
            phases=(Phase(seconds=4.0, load=10.0), Phase(seconds=4.0, load=0.5)),
            stack=SERVER,
            client=client,
        )
        result = simulate(rush, seed=1)
        during, after = result.goodput(2.0, 4.0), result.goodput(6.0, 8.0)
        print(f"{name}: {during:.1f} of what is possible during the rush, {after:.1f} after it")


if __name__ == "__main__":
    main()
