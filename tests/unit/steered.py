"""A stack that a loop steers, and readings made up for laws."""

import contextlib

import grpc

from ninelives_grpc import Bulkhead, FeedbackLoop, Registry, Stack
from ninelives_grpc.errors import LocalError
from ninelives_grpc.laws import Metrics
from ninelives_grpc.observer.traffic import Traffic
from ninelives_grpc.testing import MemorySink, VirtualClock

DOWN = LocalError("down", code=grpc.StatusCode.UNAVAILABLE)


class Steered:
    """A stack on a clock of its own, a loop over one of its parameters, and what they tell."""

    def __init__(self, law, expression=None, parameter="bulkhead/max_concurrent", **options):
        self.clock, self.sink = VirtualClock(), MemorySink()
        self.registry = options.pop("registry") if "registry" in options else Registry()
        self.stack = Stack(
            "s",
            Bulkhead(10) if expression is None else expression,
            registry=self.registry,
            clock=self.clock,
            sink=self.sink,
        )
        self.handle = self.stack.parameters[parameter]
        options.setdefault("interval", 1.0)
        self.loop = FeedbackLoop(law, self.handle, **options)
        self.registry.add_loop(self.loop, start=False)

    def calls(self, count=20, takes=0.01, failing=0):
        """Make so many calls, of which some fail."""
        for number in range(count):
            self.stack.call(lambda: self.clock.advance(takes)) if number >= failing else self._fail(
                takes
            )

    def _fail(self, takes):
        def failing():
            self.clock.advance(takes)
            raise DOWN

        with contextlib.suppress(LocalError):
            self.stack.call(failing)

    def tick(self):
        """Go to when the loop is due, and ask it."""
        self.clock.advance(max(0.0, self.loop.due - self.clock.now()))
        return self.loop.tick(self.clock.now())

    def told(self, *names):
        """Return the events of these kinds, or of the loop."""
        return [
            event
            for event in self.sink.events
            if (event.name in names if names else event.policy == self.loop.name)
        ]

    @property
    def state(self):
        """What the loop tells of itself."""
        return self.stack.policy_state(self.loop.name).values


class Says:
    """A law of an application, which says what it is told to, and remembers what it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def calculate(self, metrics, current):
        self.asked.append((metrics, current))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


def reading(
    at=0.0, calls=100, failures=0, refusals=0, seconds=1.0, p50=0.01, p99=None, mean=None, **others
):
    """Make up what a law is told."""
    ran = calls - refusals
    traffic = Traffic(
        seconds=seconds,
        calls=calls,
        successes=ran - failures,
        failures=failures,
        refusals=refusals,
        ignored=0,
        attempts=ran,
        answered=ran - failures,
        p50=p50 if ran else None,
        p90=p50 if ran else None,
        p95=p50 if ran else None,
        p99=(p99 or p50) if ran else None,
    )
    found = {"age": 0.0 if calls else at, "mean": mean or p50, **others}
    return Metrics(at=at, traffic=traffic, **found)
