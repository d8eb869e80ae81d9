"""What goes wrong in the demo, and when; and what became of it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ninelives_grpc import events
from ninelives_grpc.observer.recorder import REFUSED
from ninelives_grpc.policies.budget import RetryBudgetFlow
from ninelives_grpc.sinks import MemorySink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ninelives_control.demo.backend import Faults
    from ninelives_control.demo.operator import Operator
    from ninelives_control.demo.sampler import Sampler
    from ninelives_control.demo.screen import Screen
    from ninelives_control.demo.world import World
    from ninelives_grpc.events import Event

TICK = 0.5
LENGTH = 20.0
RATE = "shop-server/rate_limit/rate"
LOW_RATE, HIGH_RATE = 20.0, 1000.0


@dataclass(frozen=True, slots=True)
class Act:
    """Something that happens in the story."""

    at: float
    text: str
    do: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the story was to show, and whether it did."""

    shown: bool
    text: str


class Story:
    """The demo from its beginning; it can be told again and again."""

    def __init__(self, world: World, operator: Operator, screen: Screen, sampler: Sampler) -> None:
        """Tell it about a world, on a screen."""
        self._world = world
        self._operator = operator
        self._screen = screen
        self._sampler = sampler
        self._events = MemorySink(size=10_000)
        self._told = 0
        self._began = time.monotonic()
        self._begin_time = self._began
        self._refusals: dict[str, tuple[float, int]] = {}
        world.registry.attach(self._events)

    def tell(self) -> None:
        """Let it happen, once."""
        self._began = time.monotonic()
        acts = list(self._acts())
        while (elapsed := time.monotonic() - self._began) < LENGTH:
            while acts and elapsed >= acts[0].at:
                self._perform(acts.pop(0))
            self._report_events()
            self._screen.update(self._sampler.rows(), self._faults())
            time.sleep(TICK)

    def _acts(self) -> Iterator[Act]:
        shop, reviews, world = self._world.shop, self._world.reviews, self._world
        yield Act(0.0, "all is well", lambda: None)
        yield Act(3.0, "the shop begins to fail: half of its calls", _set(shop.faults, 0.5, 0.0))
        yield Act(6.0, "the shop is well again, but slow", _set(shop.faults, 0.0, 0.05))
        yield Act(8.0, "the shop is well again", _set(shop.faults, 0.0, 0.0))
        yield Act(8.5, "the reviews backend dies", lambda: world.do(reviews.kill()))
        yield Act(12.0, "the reviews backend is started again", lambda: world.do(reviews.start()))
        yield Act(13.5, "an operator lowers the rate limit of the shop", self._lower)
        yield Act(16.5, "an operator raises it again", self._raise)
        yield Act(18.5, "all is well", lambda: self._note("after"))

    def _perform(self, act: Act) -> None:
        self._screen.tell(self._now(), act.text)
        act.do()

    def _lower(self) -> None:
        self._note("before")
        self._change(LOW_RATE, "show what a limit does")
        self._note("low")

    def _raise(self) -> None:
        self._note("high")
        self._change(HIGH_RATE, "enough of that")

    def _change(self, rate: float, reason: str) -> None:
        changed = self._operator.set_parameter(RATE, rate, reason)
        self._screen.tell(self._now(), f"set_parameter over gRPC: {changed}")

    def _now(self) -> float:
        return time.monotonic() - self._begin_time

    def _note(self, moment: str) -> None:
        """Remember how many calls the shop's server has refused by now."""
        totals = self._world.registry.stack("shop-server").recorder.totals().calls
        refused = sum(count for ending, count in totals.items() if ending.result == REFUSED)
        self._refusals[moment] = (time.monotonic(), refused)

    def _report_events(self) -> None:
        """Say which circuits have changed, and that parameters have."""
        for number, event in self._events.numbered(after=self._told):
            self._told = number
            if isinstance(event, events.CircuitOpened):
                text = f"circuit {event.stack} opened: {event.failure_rate:.0%} failed"
            elif isinstance(event, events.CircuitClosed):
                text = f"circuit {event.stack} closed"
            elif isinstance(event, events.CircuitHalfOpened):
                text = f"circuit {event.stack} lets a few probes through"
            else:
                continue
            self._screen.tell(event.at - self._begin_time, text)

    def _faults(self) -> str:
        parts = []
        for backend in (self._world.shop, self._world.reviews):
            state = backend.faults.describe() if backend.alive else "dead"
            parts.append(f"{backend.name}: {state}")
        return "   ".join(parts)

    def findings(self) -> list[Finding]:
        """Say what it has shown."""
        seen: Counter[tuple[str, type[Event]]] = Counter(
            (event.stack, type(event)) for event in self._events.events
        )
        return [self._circuit(seen), *self._retries(seen), self._effect()]

    def _circuit(self, seen: Counter[tuple[str, type[Event]]]) -> Finding:
        opened = seen["reviews", events.CircuitOpened]
        closed = seen["reviews", events.CircuitClosed]
        answered = seen["reviews", events.Responded]
        return Finding(
            bool(opened and closed and answered),
            f"the circuit of reviews opened {opened} times and closed {closed} times; "
            f"{answered} calls got a local answer meanwhile",
        )

    def _retries(self, seen: Counter[tuple[str, type[Event]]]) -> Iterator[Finding]:
        stack = self._world.registry.stack("shop")
        budget = stack.policy("retry_budget")
        assert isinstance(budget, RetryBudgetFlow)
        calls = stack.recorder.totals().calls.total()
        retries = seen["shop", events.RetryAttempt]
        # What it started with above the threshold, and what successes can have paid in since.
        policy = budget.policy
        allowed = policy.capacity * (1 - policy.threshold) + policy.ratio * (calls + retries)
        yield Finding(
            0 < budget.withdrawn <= allowed,
            f"the shop's clients retried {retries} times in {calls} calls, "
            f"{1 + retries / max(calls, 1):.2f} attempts a call; their budget allowed "
            f"{allowed:.0f} and refused {budget.refused}",
        )

    def _effect(self) -> Finding:
        if "after" not in self._refusals:
            return Finding(shown=False, text="the rate limit was not changed")
        low, high = self._refused("low", "high"), self._refused("high", "after")
        return Finding(
            low > 1 and high < low / 2,
            f"{RATE} went from {HIGH_RATE:g} to {LOW_RATE:g} and back: the server refused "
            f"{low:.0f} calls a second meanwhile, {high:.0f} afterwards",
        )

    def _refused(self, start: str, end: str) -> float:
        """Return the refusals a second between two moments."""
        (began, before), (ended, after) = self._refusals[start], self._refusals[end]
        return (after - before) / max(ended - began, 1e-3)


def _set(faults: Faults, error_rate: float, delay: float) -> Callable[[], None]:
    def change() -> None:
        faults.error_rate, faults.delay = error_rate, delay

    return change
