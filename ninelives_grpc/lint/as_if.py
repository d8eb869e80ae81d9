"""Look at running policies as if they had other values."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ninelives_grpc.policies.policy import Policy


class AsIf:
    """Shows running policies as if they had other snapshots."""

    def __init__(self, instead: Mapping[str, Policy]) -> None:
        """Take the snapshots by `stack/policy`."""
        self._instead = instead

    def __call__(self, live: Any) -> Any:
        """Return a running policy with its other snapshot, if there is one."""
        snapshot = self._instead.get(live.path)
        budget = getattr(live, "budget", None)
        shown = budget and self(budget)
        if snapshot is None and shown is budget:
            return live
        seen = copy.copy(live)
        seen.policy = live.policy if snapshot is None else snapshot
        if shown is not budget:
            seen.budget = shown
        return seen
