"""Wait for what another thread or process brings about, and not a moment longer."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
PATIENCE = 20.0


def until(
    happened: Callable[[], T],
    what: Callable[[], object] | None = None,
    *,
    patience: float = PATIENCE,
    every: float = 0.02,
) -> T:
    """Ask until the answer is true, and return it; or fail, with what there was instead."""
    deadline = time.monotonic() + patience
    while not (found := happened()):
        assert time.monotonic() < deadline, None if what is None else what()
        threading.Event().wait(every)
    return found
