"""How machines over queues end: everybody who waits goes, in both ways, and nothing is held."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from ninelives_grpc.outcome import succeeded
from ninelives_grpc.policies.gate import PERMIT, Permit


def end_all(machine):
    """Have half of those who wait leave, the others be told, and all who run end."""
    machine.now += 10.0
    for waiter in machine.waiting[::2]:
        machine.gate.abandon(waiter.place, machine.now)
    for waiter in machine.waiting[1::2]:
        # Everybody's time is over: there is an answer now, and it is the last.
        verdict = machine.gate.claim(waiter.place, waiter.call, machine.now)
        machine.running += isinstance(verdict, Permit)
    for _ in range(machine.running):
        machine.gate.settle(PERMIT, succeeded(0.0), machine.now)
    assert machine.gate.in_flight == 0
