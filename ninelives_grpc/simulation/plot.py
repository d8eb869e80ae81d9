"""Draw what came of simulations: goodput, latency, limit and refusals over time."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ninelives_grpc.errors import ConfigError, MissingExtraError
from ninelives_grpc.simulation.result import latency_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ninelives_grpc.simulation.result import Result
    from ninelives_grpc.simulation.tally import Sample

_POINTS = 100
_SAME = 1e-6
"""Seconds between samples that are of the same time."""
_COLOURS = ("#1f6fb2", "#d9662b", "#3a9a5b", "#8a5bb0")
_FORMATS = (".svg", ".png")


def check_plot(path: Path) -> None:
    """Make sure that a picture can be drawn, before anything is simulated for it.

    Raises:
        ConfigError: The name ends in neither `.svg` nor `.png`.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix not in _FORMATS:
        raise ConfigError("must end in .svg or .png", path=str(path))
    _canvas()


def plot(results: Mapping[str, Result], path: Path) -> None:
    """Draw simulations of one scenario beside each other into a file.

    Args:
        results: By the name that each has in the picture.
        path: A `.svg` or `.png` file.

    Raises:
        ConfigError: The file can not be written, or has another ending.
        MissingExtraError: matplotlib is not installed.
    """
    check_plot(path)
    figure_of, canvas_of = _canvas()
    figure: Any = figure_of(figsize=(9.0, 9.5), layout="constrained")
    canvas_of(figure)
    goodput, latency, limit, refusals = figure.subplots(4, 1, sharex=True)
    for (name, result), colour in zip(results.items(), _COLOURS, strict=False):
        times, slots = _slots(result)
        line = {"color": colour, "label": name, "linewidth": 1.4}
        goodput.plot(times, [_rate(slot, "good") for slot in slots], **line)
        latencies = [latency_of(result.latencies[a.answers : b.answers]) for a, b in slots]
        latency.plot(times, [each.p99 * 1e3 for each in latencies], **line)
        latency.plot(times, [each.p50 * 1e3 for each in latencies], color=colour, linewidth=0.7)
        limits = [slot[1].limit for slot in slots]
        if any(each is not None for each in limits):
            limit.plot(times, [float("nan") if each is None else each for each in limits], **line)
        refusals.plot(times, [_rate(slot, "refused") for slot in slots], **line)
    _label(goodput, latency, limit, refusals, next(iter(results.values())))
    try:
        figure.savefig(path)
    except OSError as error:
        raise ConfigError(f"can not be written: {error.strerror}", path=str(path)) from None


def _label(goodput: Any, latency: Any, limit: Any, refusals: Any, result: Result) -> None:
    """Say what each picture shows, and draw what was offered and possible."""
    scenario = result.scenario
    times, slots = _slots(result)
    offered = [_rate(slot, "offered") for slot in slots]
    goodput.plot(times, offered, color="#999999", linewidth=0.8, label="offered")
    steps = [at for at, _ in result.capacities]
    goodput.step(
        steps,
        [each for _, each in result.capacities],
        where="post",
        color="#444444",
        linestyle=":",
        label="capacity",
    )
    goodput.set_title(scenario.title or scenario.name)
    goodput.set_ylabel("in time, a second")
    latency.set_ylabel("p99 and p50, ms")
    limit.set_ylabel("limit, calls")
    refusals.set_ylabel("refused, a second")
    refusals.set_xlabel("seconds")
    highest = max(max(each for _, each in result.capacities) * 1.6, 1.0)
    goodput.set_ylim(0.0, highest)
    goodput.set_xlim(0.0, scenario.seconds)
    goodput.legend(loc="upper right", fontsize="small")
    for axes in (goodput, latency, limit, refusals):
        axes.grid(visible=True, linewidth=0.3)


def _slots(result: Result) -> tuple[list[float], list[tuple[Sample, Sample]]]:
    """Return the samples in pairs, of which there are not too many, and their times."""
    end = result.scenario.seconds
    samples = [sample for sample in result.samples if sample.at <= end + _SAME]
    step = max(1, len(samples) // _POINTS)
    slots = [pair for pair in pairwise(samples[::step]) if pair[1].at - pair[0].at > _SAME]
    return [after.at for _, after in slots], slots


def _rate(slot: tuple[Sample, Sample], what: str) -> float:
    before, after = slot
    calls = sum(getattr(after.counts, what)) - sum(getattr(before.counts, what))
    rate: float = calls / (after.at - before.at)
    return rate


def _canvas() -> tuple[Any, Any]:
    """Find matplotlib, which draws to a file without any window system."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - optional
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ModuleNotFoundError:
        raise MissingExtraError("plot", "a picture of a simulation") from None
    return Figure, FigureCanvasAgg
