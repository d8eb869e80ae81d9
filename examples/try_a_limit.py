"""See what a limit does for a server under a rush, without a server and without waiting for it."""

from pathlib import Path

from ninelives_grpc.simulation import load, simulate, stack_source

rush = load(Path(__file__).with_name("rush.toml"))
stacks = {
    "nothing": None,
    "bulkhead": stack_source(
        {"expression": "bulkhead", "bulkhead": {"max_concurrent": 200}}, "bulkhead"
    ),
    "concurrency_limit": stack_source({"expression": "concurrency_limit"}, "limit"),
}

for name, stack in stacks.items():
    result = simulate(rush.with_stacks(stack=stack), seed=1)
    mark = rush.marks[0]
    goodput = result.measure(mark)
    verdict = "reached" if mark.reached(goodput) else "missed"
    print(f"{name}: {goodput:.1f} of what is possible, {mark.wanted()} is {verdict}")
