"""A circuit breaker that is told when, and how it went."""

from ninelives_grpc import CircuitBreaker, Method
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import failed, succeeded
from ninelives_grpc.policies.gate import Permit, Refusal
from tests.unit.alone import alone_with_events
from tests.unit.backend import StatusError

CALL = Call(Method("shop.v1.Payments/Get"), 0.0)


def feed(gate, outcomes, now=0.0, call=CALL):
    """Let calls through one after the other; return how many passed."""
    passed = 0
    for outcome in outcomes:
        permit = gate.admit(call, now, None)
        if isinstance(permit, Permit):
            gate.settle(permit, outcome, now)
            passed += 1
    return passed


def good(count=1, duration=0.0):
    return [succeeded(duration) for _ in range(count)]


def bad(count=1, duration=0.0, **settings):
    return [failed(StatusError(**settings), duration) for _ in range(count)]


def state(gate, now=0.0):
    return gate.state(now)["state"]


class Breaker:
    def __init__(self, **settings):
        self.gate, self.sink = alone_with_events(CircuitBreaker(**{"jitter": 0.0, **settings}))

    def probe(self, now):
        permit = self.gate.admit(CALL, now, None)
        assert isinstance(permit, Permit), permit.details
        return permit

    def refuses(self, now):
        return isinstance(self.gate.admit(CALL, now, None), Refusal)

    def succeed(self, permit, now, duration=0.0):
        self.gate.settle(permit, succeeded(duration), now)

    def fail(self, permit, now, **settings):
        self.gate.settle(permit, failed(StatusError(**settings), 0.0), now)

    def open(self, now=0.0):
        for _ in range(8):
            self.fail(self.probe(now), now)
        assert self.state(now) == "open"

    def close(self, now):
        for _ in range(3):
            self.succeed(self.probe(now), now)
        assert self.state(now) == "closed"

    def state(self, now):
        return self.gate.state(now)["state"]

    @property
    def durations(self):
        return [event.duration for event in self.sink.events if event.name == "CircuitOpened"]
