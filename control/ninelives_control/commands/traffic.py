"""The calls of a window, as commands tell them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from ninelives_control.model import Result
from ninelives_grpc.windows.sliding import HORIZONS

if TYPE_CHECKING:
    from ninelives_grpc.observer.traffic import Traffic as Recorded

WINDOWS = tuple(int(horizon) for horizon in HORIZONS)


def _window(seconds: int) -> int:
    if seconds not in WINDOWS:
        allowed = {"windows": ", ".join(str(window) for window in WINDOWS)}
        raise PydanticCustomError("window", "must be one of {windows}", allowed)
    return seconds


Window = Annotated[int, AfterValidator(_window), Field(json_schema_extra={"enum": list(WINDOWS)})]
"""Seconds that a window covers."""


class Traffic(Result):
    """The calls that ended in a window."""

    seconds: float = Field(
        description="What is counted: up to a slot more than asked for, less for a young stack."
    )
    calls: int = Field(description="Calls that ended in it.")
    successes: int = Field(description="Calls that were answered.")
    failures: int = Field(description="Calls that failed.")
    refusals: int = Field(description="Calls that a policy refused.")
    ignored: int = Field(description="Calls cancelled, aborted, or turned away by the backend.")
    attempts: int = Field(description="Attempts that backends got, repetitions included.")
    answered: int = Field(description="Attempts that backends answered well.")
    success_rate: float = Field(description="What callers saw: successes of calls, 0 to 1.")
    backend_success_rate: float = Field(description="What backends did: answered of attempts.")
    error_rate: float = Field(description="Failures and refusals of calls, but for ignored ones.")
    calls_per_second: float = Field(description="Calls that ended in a second, on average.")
    p50: float | None = Field(description="Seconds that half of the calls did not exceed.")
    p90: float | None = Field(description="Seconds that 90 % of the calls did not exceed.")
    p95: float | None = Field(description="Seconds that 95 % of the calls did not exceed.")
    p99: float | None = Field(description="Seconds that 99 % of the calls did not exceed.")


def told(traffic: Recorded) -> Traffic:
    """Return the numbers that were recorded in the form in which they are told."""
    return Traffic(**{name: getattr(traffic, name) for name in Traffic.model_fields})
