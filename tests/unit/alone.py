"""A policy that runs outside of any stack, and is told the time."""

from ninelives_grpc.events import Emitter
from ninelives_grpc.policies.policy import Address
from ninelives_grpc.testing import MemorySink


def alone(policy, *, now=lambda: 0.0, sink=None):
    emitter = Emitter("stack")
    emitter.attach(sink)
    address = Address(stack="stack", policy=policy.default_name(), emitter=emitter, now=now)
    return policy.live(address)


def alone_with_events(policy, *, now=lambda: 0.0):
    sink = MemorySink(routine=True)
    return alone(policy, now=now, sink=sink), sink


def names(sink):
    return [event.name for event in sink.events]
