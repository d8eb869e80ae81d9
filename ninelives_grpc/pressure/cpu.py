"""How much of the CPU time is used that the process may use."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ninelives_grpc.pressure import cgroup
from ninelives_grpc.pressure.kept_file import KeptFile
from ninelives_grpc.pressure.memory import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SHORTEST = 0.5
"""Seconds over which use is measured at least: below that it is what one call happens to take."""


class Cpu:
    """The CPU time of this process as a share of what its processors and its quota allow."""

    name = "cpu"

    def __init__(
        self,
        *,
        root: Path = ROOT,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        """Begin to measure.

        Args:
            root: The root of the file system, for tests.
            clock: Where time comes from.
            used: Returns the CPU seconds used so far.
        """
        self._clock = clock
        self._used = used
        self.begin()
        self._quotas = [KeptFile(path / "cpu.max") for path in cgroup.unified(root)]
        self._version_1 = [
            (KeptFile(path / "cpu.cfs_quota_us"), KeptFile(path / "cpu.cfs_period_us"))
            for path in cgroup.controlled(root, "cpu")
        ]

    def begin(self) -> None:
        """Begin to measure anew: what was used while nobody asked says nothing of now."""
        self._since = (self._clock(), self._used())
        self._share: float | None = None

    def read(self) -> float | None:
        """Return the share of the last half second or more, or None before there was one."""
        now, used = self._clock(), self._used()
        passed, spent = now - self._since[0], used - self._since[1]
        if spent < 0.0:
            # A forked child begins with none.
            self.begin()
        elif passed >= _SHORTEST:
            self._share = spent / passed / self._processors()
            self._since = (now, used)
        return self._share

    def _processors(self) -> float:
        quotas = [quota for quota in (_unified(file) for file in self._quotas) if quota]
        for quota, period in self._version_1:
            allowed, of = quota.number(), period.number()
            if allowed and of:
                quotas.append(allowed / of)
        return min([*quotas, float(_usable())])


def _unified(file: KeptFile) -> float | None:
    """Read `QUOTA PERIOD`, where the quota may be `max`."""
    words = (file.read() or b"").split()
    numbers = [int(word) for word in words if word.isdigit()]
    return numbers[0] / numbers[1] if len(numbers) == 2 and numbers[1] else None  # noqa: PLR2004


def _usable() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
