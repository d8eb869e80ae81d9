"""What somebody changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ninelives_grpc.events.event import Event

if TYPE_CHECKING:
    from ninelives_grpc.parameters import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterChanged(Event):
    """A parameter has a new value; `reason` is what whoever changed it said."""

    parameter: str
    old: Value
    new: Value
    revision: int
    by: str

    def why(self) -> str:
        """Say from what to what, by whom and why."""
        who = f" by {self.by}" if self.by else ""
        said = f": {self.reason}" if self.reason else ""
        return f"{self.parameter} changed from {self.old} to {self.new}{who}{said}"
