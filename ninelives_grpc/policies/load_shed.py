"""Refuse a share of the calls while the process is short of memory, CPU or time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from ninelives_grpc.events import (
    LoadShedDegraded,
    LoadShedRecovered,
    LoadShedRecovering,
    LoadShedRefused,
)
from ninelives_grpc.parameters import option, parameter, policy
from ninelives_grpc.policies.gate import PERMIT, Refusal, Verdict
from ninelives_grpc.policies.policy import Policy
from ninelives_grpc.policies.shedding import Shedding
from ninelives_grpc.pressure import Cpu, LoopLag, Memory, Sensor, Stall
from ninelives_grpc.pressure.watch import Watch
from ninelives_grpc.shares.governor import Condition, Governor

if TYPE_CHECKING:
    from ninelives_grpc.call import Call
    from ninelives_grpc.events import Event
    from ninelives_grpc.parameters import Value
    from ninelives_grpc.policies.policy import Address

LIMITS: Mapping[str, str] = {
    "memory": "",
    "memory_stall": "memory_stall_limit",
    "cpu_stall": "cpu_stall_limit",
    "cpu": "cpu_limit",
    "loop_lag": "lag_limit",
}
"""The sources by name, and the parameter that says what is a pressure of 1."""
_QUIET = 1.0
"""Seconds without a call after which nothing is read any more, until the next."""


@policy
class LoadShed(Policy):
    """Refuse calls while the process is short of something, until there is enough of it again.

    Sensors say how near a limit is, a few times a second, off the path of calls; the greatest
    pressure counts. The share of the calls that is served is halved when it passes
    `degrade_above`, and again above `critical_above`; it rises slowly while the pressure is below
    `recover_below`. Those calls are served that matter most, see `prioritize`, and among equals
    chance decides.

    It belongs on servers, outside of limits. It acts within tenths of a second, and not on a burst
    that comes faster: put a limit behind it.

    Args:
        sources: What to go by: `memory` (default), `memory_stall`, `cpu_stall`, `cpu`, `loop_lag`.
            What the system does not tell is left out.
        memory_limit: `memory`: bytes that this process may hold; None takes the limit of its
            control groups, or what it holds and what is left on the machine.
        memory_stall_limit: `memory_stall`: share of the last ten seconds in which somebody waited
            for memory (PSI) that counts as a pressure of 1.
        cpu_stall_limit: `cpu_stall`: the same for CPU.
        cpu_limit: `cpu`: use of the CPU time that this process may use that counts as 1.
        lag_limit: `loop_lag`: seconds that a callback waits in the server's asyncio loop that count
            as 1.
        interval: Seconds between two readings.
        degrade_above: Pressure above which the share is cut.
        critical_above: Pressure above which it is cut again and again.
        recover_below: Pressure below which it rises.
        cut: What a cut leaves of the share.
        further_cut: What is left of it when the pressure has not yielded for `patience`.
        patience: Seconds after a cut to wait for that.
        cut_interval: Seconds between two cuts at least.
        rise: What the share gains a second.
        min_share: Least share, by which it finds out how the process does.
        sensors: Others to go by; see `ninelives_grpc.pressure`.

    Raises:
        ConfigError: A value is outside its bounds; names the field and the bound.
    """

    sources: Collection[str] = option(default=("memory",))
    memory_limit: int | None = parameter(
        default=None, low=1, high=1 << 50, unit="bytes", doc="Memory this process may hold."
    )
    memory_stall_limit: float = parameter(
        default=0.2, low=0.001, high=1.0, unit="ratio", doc="Waiting for memory that counts as 1."
    )
    cpu_stall_limit: float = parameter(
        default=0.8, low=0.001, high=1.0, unit="ratio", doc="Waiting for CPU that counts as 1."
    )
    cpu_limit: float = parameter(
        default=1.25, low=0.01, high=100.0, unit="ratio", doc="Use of CPU that counts as 1."
    )
    lag_limit: float = parameter(
        default=0.25, low=0.001, high=60.0, unit="seconds", doc="Lag of the loop that counts as 1."
    )
    interval: float = parameter(
        default=0.1, low=0.005, high=60.0, unit="seconds", doc="Time between two readings."
    )
    degrade_above: float = parameter(
        default=0.7, low=0.0, high=10.0, unit="ratio", doc="Pressure above which it cuts."
    )
    critical_above: float = parameter(
        default=0.9, low=0.0, high=10.0, unit="ratio", doc="Pressure above which it cuts again."
    )
    recover_below: float = parameter(
        default=0.65, low=0.0, high=10.0, unit="ratio", doc="Pressure below which it rises."
    )
    cut: float = parameter(
        default=0.5, low=0.0, high=1.0, unit="ratio", doc="What a cut leaves of the share."
    )
    further_cut: float = parameter(
        default=0.8, low=0.0, high=1.0, unit="ratio", doc="The same, when pressure does not yield."
    )
    patience: float = parameter(
        default=5.0, low=0.0, high=3600.0, unit="seconds", doc="Time to wait for it to yield."
    )
    cut_interval: float = parameter(
        default=1.0, low=0.01, high=3600.0, unit="seconds", doc="Time between two cuts."
    )
    rise: float = parameter(
        default=0.05, low=0.0001, high=100.0, unit="per second", doc="Gain of the share."
    )
    min_share: float = parameter(
        default=0.02, low=0.0001, high=1.0, unit="ratio", doc="Least share that is served."
    )
    sensors: Collection[Sensor] = option(default=())

    def live(self, address: Address) -> LoadShedGate:
        """Start by serving all, and read nothing before the first call."""
        return LoadShedGate(self, address)

    def conflict(self) -> str:
        """Say which values do not go together."""
        unknown = (
            [self.sources]
            if isinstance(self.sources, str) or not isinstance(self.sources, Collection)
            else [source for source in self.sources if source not in LIMITS]
        )
        if unknown:
            return f"sources must be a list of {', '.join(LIMITS)}, not {unknown[0]!r}"
        if not isinstance(self.sensors, Collection):
            return f"sensors must be a list, not {self.sensors!r}"
        strange = [each for each in self.sensors if not isinstance(each, Sensor)]
        if strange:
            return f"sensors have a name and read(), other than {strange[0]!r}"
        if not self.recover_below <= self.degrade_above <= self.critical_above:
            return (
                f"recover_below {self.recover_below:g}, degrade_above {self.degrade_above:g} and "
                f"critical_above {self.critical_above:g} must be in this order"
            )
        return ""


class LoadShedGate(Shedding[LoadShed]):
    """Hears the readings of its sensors, and has a governor say what share to serve.

    Attributes:
        pressure: The greatest of the last readings.
        source: Whose it was, or "".
    """

    def __init__(self, policy: LoadShed, address: Address) -> None:
        super().__init__(policy, address)
        self.pressure = 0.0
        self.source = ""
        self._governor = Governor(self._settings)
        self._lag = LoopLag() if "loop_lag" in policy.sources else None
        self._cpu = Cpu() if "cpu" in policy.sources else None
        built_in = [self._sensor(source) for source in dict.fromkeys(policy.sources)]
        self._watch = Watch([*built_in, *policy.sensors])
        self._watched = not self._watch.sensors
        self._used = False
        self._quiet_since = 0.0
        # Whether a call has nothing to do but to say that it was there.
        self._open = False

    def start_afresh(self) -> None:
        """Read afresh from the next call on: there is no thread any more that does."""
        super().start_afresh()
        self._watched = not self._watch.sensors
        self._open = False

    def unplug(self) -> None:
        """Read no sensor any more, as before a server that is made up: they know nothing of it."""
        self._watch, self._watched = Watch(()), True

    @property
    def blind(self) -> bool:
        """Whether this system tells nothing of what it is to go by."""
        told_by_all = {"cpu", "loop_lag"}
        return not self.policy.sensors and not any(
            source in told_by_all or self._sensor(source).read() is not None
            for source in self.policy.sources
        )

    @property
    def share(self) -> float:
        """Share of the calls that is served."""
        return self._governor.share

    def admit(self, call: Call, now: float, deadline: float | None) -> Verdict:
        """Let the call through, or refuse it for the sake of the process."""
        self._used = True
        if self._open:
            return PERMIT
        if self._lag is not None:
            self._lag.follow_running_loop()
        if not self._watched:
            self._begin(now)
        share = self._governor.share
        if share >= 1.0 or self._passes(call, share):
            return PERMIT
        return self._refuse(call, share, now)

    def would_refuse(self, call: Call | None, now: float) -> bool:
        """Tell whether some are refused."""
        return self._governor.share < 1.0

    def adopt(self, old: LoadShed) -> None:
        """Read at once, and not at the end of an interval that has become shorter."""
        if self._watched and self._watch.sensors and self.policy.interval < old.interval:
            self._read()

    def hear(self, readings: Mapping[str, float]) -> float | None:
        """Take readings; returns the seconds until the next, or None when nobody calls."""
        now = self._now()
        self.feel({name: self._scaled(name, value) for name, value in readings.items()}, now)
        with self._lock:
            if self._used:
                self._used, self._quiet_since = False, now
            elif self._governor.share >= 1.0 and now - self._quiet_since >= _QUIET:
                self._watched = self._open = False
                return None
        return self.policy.interval

    def feel(self, pressures: Mapping[str, float], now: float) -> None:
        """Have the governor learn of pressures by source, 1 being the limit of each."""
        source = max(pressures, key=pressures.__getitem__, default="")
        pressure = pressures[source] if source else 0.0
        governor = self._governor
        with self._lock:
            before = governor.condition
            governor.feel(pressure, now)
            self.pressure, self.source = pressure, source
            known = self._lag is None or self._lag.follows
            self._open = self._watched and known and governor.share >= 1.0
            if governor.share >= 1.0:
                self._arrived = 0
            event = self._event(now) if governor.condition is not before else None
        if event is not None:
            self._emitter.emit(event)

    def state(self, now: float) -> dict[str, Value]:
        """Return the share that is served, and why."""
        with self._lock:
            return {
                "share": self._governor.share,
                "condition": str(self._governor.condition),
                "pressure": self.pressure,
                "source": self.source,
                "refused": self.refused,
            }

    def _settings(self) -> LoadShed:
        return self.policy

    def _sensor(self, source: str) -> Sensor:
        if source == "memory":
            return Memory(lambda: self.policy.memory_limit)
        if source == "cpu":
            assert self._cpu is not None
            return self._cpu
        if source == "loop_lag":
            assert self._lag is not None
            return self._lag
        return Stall(source.removesuffix("_stall"))

    def _scaled(self, source: str, value: float) -> float:
        limit = LIMITS.get(source)
        return value / float(getattr(self.policy, limit)) if limit else value

    def _begin(self, now: float) -> None:
        """Have the sensors read from now on."""
        with self._lock:
            if self._watched:
                return
            self._watched = True
            self._quiet_since = now
        self._read()

    def _read(self) -> None:
        if self._cpu is not None:
            self._cpu.begin()
        try:
            self._watch.begin(self)
        except RuntimeError:
            # No thread can be started now. The call goes on, and the next one tries again.
            self._watched = False

    def _event(self, now: float) -> Event:
        kinds = {
            Condition.DEGRADED: LoadShedDegraded,
            Condition.RECOVERING: LoadShedRecovering,
            Condition.NORMAL: LoadShedRecovered,
        }
        return kinds[self._governor.condition](
            stack=self.stack,
            policy=self.name,
            at=now,
            source=self.source,
            pressure=self.pressure,
            share=self._governor.share,
        )

    def _refuse(self, call: Call, share: float, now: float) -> Refusal:
        self._count(LoadShedRefused)
        if self._emitter.sink is not None:
            self._emitter.tell(
                LoadShedRefused,
                *self._about(call, now, str(self._governor.condition)),
                self.source,
                self.pressure,
                share,
            )
        policy = self.policy
        details = f"load shed {self.path} serves {share:.0%} of the calls: "
        details += f"{self.source} is at {self.pressure:.0%}" if self.source else "it recovers"
        # By then the share has doubled, or has been cut again.
        retry_after = min(min(share, 1.0 - share) / policy.rise, policy.patience)
        return Refusal(self.name, details, retry_after=retry_after)
