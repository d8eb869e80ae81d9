"""Asks a law again and again, and sets one parameter to what it says.

A loop is a running policy that no call passes: it has an address in its stack, its settings and the
constants of its law are parameters, and its state is told with that of the others. It does not wait
for anything: `tick` is called by a `LoopRunner`, or by a simulator.
"""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ninelives_grpc.errors import ConfigError, RevisionError
from ninelives_grpc.laws import news
from ninelives_grpc.laws.law import HORIZONS, CustomLaw, Law, RunningLaw, between
from ninelives_grpc.laws.reach import out_of_reach, reach
from ninelives_grpc.laws.readings import Readings
from ninelives_grpc.policies.policy import Live, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.laws.law import ControlLaw
    from ninelives_grpc.laws.metrics import Gauge, Metrics
    from ninelives_grpc.parameters import Adaptive, Change, Value
    from ninelives_grpc.stacks.stack import Stack

_LOGGER = logging.getLogger("ninelives_grpc")


class FeedbackLoop(Live[Law]):
    """Reads the metrics of a stack, asks a law, and sets a parameter.

        loop = FeedbackLoop(AimdLaw(latency=0.2), stack.parameters["bulkhead/max_concurrent"],
                            interval=5.0, bounds=(4, 200))
        registry.add_loop(loop)

    The value is kept within `bounds` and within those of the parameter. A value that somebody else
    has set stays for `hold` seconds; then the law goes on from there. When there are no calls, or
    too few, the loop pauses and says so. Errors of the law are logged once in a row and counted.

    Args:
        law: A `Law`, or any object with `calculate(metrics, current)`.
        handle: The parameter, which must be a number.
        interval: Seconds between two looks; by default the law's.
        cooldown: Seconds after a change in which it only looks; by default the law's.
        bounds: Least and greatest value that it may set; by default the law's.
        name: Its address within the stack; by default that of the law.
        gauge: A function that is called at each look, for laws that go by what it returns, such as
            `pressure.Memory().read`; None is "not known". It must not block.
        source: The stack whose calls it goes by; by default that of the parameter, which knows
            nothing of calls that come to it through a stack around it.

    Attributes:
        handle: The parameter.
        due: When it is to be asked next.
        adjusted: How often it has changed the value.
        errors: How often the law failed.
        error: What it raised last, or "".
        paused: Why it pauses, or "".
        reason: What the last change came from, or "".

    Raises:
        ConfigError: The parameter is no number, a setting is outside its bounds, or the law needs
            a gauge.
    """

    role = Role.LOOP

    def __init__(
        self,
        law: Law | ControlLaw,
        handle: Adaptive[Any],
        *,
        interval: float | None = None,
        cooldown: float | None = None,
        bounds: tuple[float | None, float | None] | None = None,
        name: str = "",
        gauge: Gauge | None = None,
        source: Stack | None = None,
    ) -> None:
        """Begin when a registry takes it in."""
        if handle.spec.type not in {int, float}:
            msg = f"{handle.path} is a {handle.spec.type_name}: a loop moves numbers only"
            raise ConfigError(msg, path="FeedbackLoop.handle")
        low, high = bounds or (None, None)
        given = {"interval": interval, "cooldown": cooldown, "low": low, "high": high}
        declared = law if isinstance(law, Law) else CustomLaw(law=law)
        values: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        settings = replace(declared, **values) if values else declared
        if settings.needs_gauge and gauge is None:
            msg = f"{type(settings).__name__} goes by a gauge: give it one, gauge=function"
            raise ConfigError(msg, path="FeedbackLoop.gauge")
        super().__init__(settings, handle.live.beside(name or settings.name))
        problem = out_of_reach(settings, handle.spec)
        if problem:
            raise ConfigError(problem, path=handle.path)
        self.handle = handle
        self.gauge = gauge
        self._source = source
        self.running: ControlLaw = settings.start()
        self.changed: Callable[[], None] = _nobody
        self.due = 0.0
        self.adjusted = self.errors = self.lost = 0
        self.error = self.paused = self.reason = ""
        self._applied: Value = None
        self._exact = 0.0
        self._readings: Readings | None = None
        self._metrics: Metrics | None = None
        self._asked: float | None = None
        self._failing = self._resting = self._blind = False
        self._paused_at = self._set_at = self._taken_at = -math.inf
        # Reentrant, as a sink may remove the loop from inside a look.
        self._ticking = threading.RLock()

    def start_afresh(self) -> None:
        """Let nobody be at work."""
        super().start_afresh()
        self._ticking = threading.RLock()

    def begin(self, stack: Stack, name: str) -> None:
        """Take a place in the stack of the parameter, and look at what happens there from now on.

        Registries do that, see `Registry.add_loop`.
        """
        now = stack.clock.now()
        self.name = name
        self._count = self._emitter.counter_of(name)
        gauge = None if self.gauge is None else self._read_gauge
        self._readings = Readings(self._source or stack, self.handle.live, gauge, now)
        self._applied = self.handle.get()
        self._exact = float(self._applied or 0.0)
        self._asked = None
        # It may have been at work before, and what it knows is of then.
        self._resting = True
        self.due = now + self.policy.interval

    def end(self) -> None:
        """Look at nothing any more, and set nothing once this has returned."""
        with self._ticking:
            if self._readings is not None:
                self._readings.close()
                self._readings = None

    @property
    def now(self) -> float:
        """The time on the stack's clock."""
        return self._now()

    def adopt(self, old: Law) -> None:
        """Give the law its new settings; what it has learned stays."""
        if isinstance(self.running, RunningLaw):
            self.running.settings = self.policy
        if self.policy.interval != old.interval:
            self.due += self.policy.interval - old.interval
        self.changed()

    def tick(self, now: float) -> Change | None:
        """Look, ask the law, and set the value; returns what was changed, if anything was.

        It never raises for what the law does. One thread at a time: a second one does nothing.

        Args:
            now: The time, on the stack's clock; `due` is when it makes sense.
        """
        if not self._ticking.acquire(blocking=False):
            return None
        try:
            self.due = now + self.policy.interval
            errors = self.errors
            change = None if self._readings is None else self._tick(self._readings, now)
            self._failing = self.errors > errors
            return change
        finally:
            self._ticking.release()

    def _tick(self, readings: Readings, now: float) -> Change | None:
        settings, asked, self._asked = self.policy, self._asked, now
        revision = self.handle.revision
        value: Value = self.handle.get()
        if not settings.enabled:
            self._rest(readings, value, now)
            return None
        if self._resting:
            self._forget()
        current = self._current(value, now)
        longest = settings.stale_after * settings.interval
        self._blind = False
        self._metrics = metrics = readings.read(now, HORIZONS.get(settings.window))
        late = asked is not None and now - asked > longest + settings.interval
        problem = "late" if late else self._problem(metrics, value, now)
        if problem in {"few_calls", "no_gauge"} and now - readings.since < longest:
            return None
        readings.restart(now)
        if problem:
            self._pause(problem, metrics, now)
            return None
        self._resume(now)
        new = self._ask(metrics, current, now)
        if new is None or now < self._set_at + settings.cooldown:
            return None
        return self._set(new, value, revision, metrics)

    def _problem(self, metrics: Metrics, value: Value, now: float) -> str:
        """Say why the law can not be asked, or ""."""
        if value is None:
            return "no_value"
        if now < self._taken_at + self.policy.hold:
            return "changed"
        if self._blind or (self.policy.needs_gauge and metrics.gauge is None):
            return "no_gauge"
        if not getattr(self.running, "learns_from_calls", True):
            return ""
        settings = self.policy
        if metrics.age > settings.stale_after * settings.interval:
            return "no_calls"
        return "few_calls" if metrics.calls < settings.minimum_calls else ""

    def _current(self, value: Value, now: float) -> float:
        """Return the value to go on from, and see whether somebody else has set it."""
        if value != self._applied:
            self._applied = value
            self._exact = float(value or 0.0)
            self._taken_at = now
        return self._exact

    def _ask(self, metrics: Metrics, current: float, now: float) -> float | None:
        try:
            return _number(self.running.calculate(metrics, current), "law")
        except Exception as error:  # noqa: BLE001 - a law of the application
            self._fail(error, now)
            return None

    def _read_gauge(self) -> float | None:
        assert self.gauge is not None
        try:
            return _number(self.gauge(), "gauge")
        except Exception as error:  # noqa: BLE001 - a gauge of the application
            self._blind = True
            self._fail(error, self.now)
            return None

    def _set(self, new: float, value: Value, revision: int, metrics: Metrics) -> Change | None:
        settings, spec = self.policy, self.handle.spec
        exact = between(new, *self.bounds())
        wanted = round(exact) if spec.type is int else exact
        assert isinstance(value, int | float)
        # What is said twice is meant, however little it is.
        small = exact != self._exact and abs(wanted - value) < settings.deadband * abs(value)
        if wanted == value or small:
            self._exact = exact
            return None
        reason = getattr(self.running, "reason", "")
        try:
            change = self.handle.set(
                wanted,
                expected_revision=revision,
                by=f"law:{self.name}",
                reason=f"{reason} ({metrics})" if reason else str(metrics),
            )
        except RevisionError:
            self.lost += 1
            return None
        except ConfigError as error:
            self._fail(error, metrics.at)
            return None
        self._applied, self._exact, self.reason = change.new, exact, reason
        self._set_at = metrics.at
        self.adjusted += 1
        self._emitter.emit(news.adjusted(self, change, metrics))
        return change

    def bounds(self, settings: Law | None = None) -> tuple[float, float]:
        """Return the least and the greatest value that it may set, now or with other settings."""
        return reach(settings or self.policy, self.handle.spec, self.handle.live.policy)

    def _rest(self, readings: Readings, value: Value, now: float) -> None:
        """Do nothing, as it is not enabled."""
        readings.skip(now)
        self._applied, self._exact = value, float(value or 0.0)
        self._resting = True
        self.paused = ""

    def _forget(self) -> None:
        self._resting = False
        if isinstance(self.running, RunningLaw):
            self.running.forget()

    def _pause(self, reason: str, metrics: Metrics, now: float) -> None:
        if self.paused == reason:
            return
        if not self.paused:
            self._paused_at = now
        self.paused = reason
        self._emitter.emit(news.paused(self, metrics))

    def _resume(self, now: float) -> None:
        if not self.paused:
            return
        reason, self.paused = self.paused, ""
        self._forget()
        self._emitter.emit(news.resumed(self, reason, now - self._paused_at, now))

    def _fail(self, error: Exception, now: float) -> None:
        self.errors += 1
        self.error = f"{type(error).__name__}: {error}"
        if self._failing:
            return
        self._failing = True
        _LOGGER.error("the law of %s failed, and is asked again", self.path, exc_info=error)
        self._emitter.emit(news.failed(self, now))

    def state(self, now: float) -> dict[str, Value]:
        """Return what it moves, what it goes by, and what the law has learned."""
        state = news.state_of(self, self._metrics, now)
        return state | self.running.state() if isinstance(self.running, RunningLaw) else state


def _number(said: float | None, who: str) -> float | None:
    """Return what a law or a gauge says, if that can be a value."""
    if said is not None and not math.isfinite(said):
        msg = f"the {who} says {said}, which is no value"
        raise ValueError(msg)
    return said


def _nobody() -> None:
    """Tell nobody of a change."""
