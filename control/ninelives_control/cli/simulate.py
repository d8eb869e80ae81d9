"""Try stacks on a simulated server: scenarios, whole suites, random servers, recorded traffic."""

from __future__ import annotations

import dataclasses
import os
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ninelives_control.cli.group import Exit, Failure
from ninelives_control.cli.show import Form, form_option, show, show_table
from ninelives_grpc.errors import ConfigError, MissingExtraError
from ninelives_grpc.simulation.plot import check_plot, plot
from ninelives_grpc.simulation.processes import quiet
from ninelives_grpc.simulation.random_servers import random_servers
from ninelives_grpc.simulation.reading import load, shipped
from ninelives_grpc.simulation.recorded import replay
from ninelives_grpc.simulation.report import Summary, summaries
from ninelives_grpc.simulation.scenario import Scenario
from ninelives_grpc.simulation.source import Stacks, file_source
from ninelives_grpc.simulation.suite import DEFAULT, NOTHING, Row, candidates, run_suite
from ninelives_grpc.simulation.world import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CURRENT, CANDIDATE = "current", "candidate"
_FILE = click.Path(path_type=Path)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for.

    Attributes:
        scenarios: Names or files.
        stack: Configuration of the server, in place of the scenario's.
        candidate: Another, to compare it with.
        client: Configuration of each client.
        suite: Collection of shipped scenarios, or None.
        servers: How many random servers.
        seeds: Where chance begins.
        recorded: Recorded traffic, or None.
        picture: Where to draw, or None.
        processes: How many to use.
    """

    scenarios: tuple[str, ...]
    stack: Path | None
    candidate: Path | None
    client: Path | None
    suite: str | None
    servers: int
    seeds: tuple[int, ...]
    recorded: Path | None
    picture: Path | None
    processes: int


@click.command("simulate")
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO]...")
@click.option("--stack", type=_FILE, help="Configuration of the server, as it is now.")
@click.option("--candidate", type=_FILE, help="Another one, to see beside it.")
@click.option("--client", type=_FILE, help="Configuration of each client.")
@click.option("--suite", help="All scenarios of a suite, such as overload, with all algorithms.")
@click.option(
    "--random", "servers", type=click.IntRange(1, 10_000), help="Servers drawn at random."
)
@click.option(
    "--seed", "seeds", type=int, multiple=True, default=(1, 2, 3), show_default=True,
    help="Where chance begins; the median of several counts.",
)  # fmt: skip
@click.option("--recorded", type=_FILE, help="Recorded calls: JSON lines, or a flight recorder's.")
@click.option("--plot", "picture", type=_FILE, help="Draw it over time into a .svg or .png file.")
@click.option(
    "--processes", type=click.IntRange(1, 256), default=os.cpu_count() or 1, show_default=True,
    help="Simulations at once.",
)  # fmt: skip
@click.option("--check", "checks", is_flag=True, help="End with 1 when a mark is missed.")
@form_option
def cli(*, form: str, checks: bool, servers: int | None, **given: Any) -> int:
    """Try stacks on a simulated server, in virtual time.

    A SCENARIO is a TOML file, or the name of one that comes with ninelives, such as a_step_2x. It
    says what the server can do, who calls, and what goes wrong. The policies are those that run in
    programs; the same seed gives the same result.
    """
    wanted = Wanted(servers=servers or 0, **given)
    try:
        if wanted.suite is not None or wanted.servers:
            missed = _compare(wanted, form)
        else:
            missed = _try(wanted, form)
    except (ConfigError, MissingExtraError) as error:
        raise Failure(str(error), Exit.INVALID) from None
    return Exit.FAILED if checks and missed else Exit.OK


def _try(wanted: Wanted, form: str) -> bool:
    """Simulate single scenarios, and tell whether one misses a mark under its last stack."""
    if not wanted.scenarios and wanted.recorded is None:
        msg = f"name a scenario, or ask for a --suite; these come with ninelives: {_names()}"
        raise click.UsageError(msg)
    if wanted.picture is not None:
        if len(wanted.scenarios) > 1:
            raise click.UsageError("a picture is of one scenario: name one")
        check_plot(wanted.picture)
    pairs = [
        pair for scenario in _scenarios(wanted) for pair in _under_stacks(scenario, wanted).items()
    ]
    found = summaries(
        pairs,
        seeds=wanted.seeds,
        processes=wanted.processes,
        progress=_tell if len(pairs) > 1 else quiet,
    )
    if wanted.picture is not None:
        drawn = {name: simulate(scenario, wanted.seeds[0]) for name, scenario in pairs}
        plot(drawn, wanted.picture)
    if form == Form.JSON:
        show({"seeds": list(wanted.seeds), "results": [dataclasses.asdict(s) for s in found]}, form)
    else:
        _print(found, [scenario.title for _, scenario in pairs], wanted.seeds)
    last = pairs[-1][0]
    return any(not mark.reached for each in found if each.stack == last for mark in each.marks)


def _scenarios(wanted: Wanted) -> list[Scenario]:
    recorded = wanted.recorded
    found = [load(name, recorded=recorded is not None) for name in wanted.scenarios]
    if recorded is None:
        return found
    return [replay(each, recorded) for each in found or [Scenario(name=recorded.name)]]


def _under_stacks(scenario: Scenario, wanted: Wanted) -> dict[str, Scenario]:
    """Return a scenario as it is now, and as it would be."""
    if wanted.client is not None:
        scenario = scenario.with_stacks(client=file_source(wanted.client))
    if wanted.stack is not None:
        scenario = scenario.with_stacks(stack=file_source(wanted.stack))
    found = {NOTHING if scenario.stack is None else CURRENT: scenario}
    if wanted.candidate is not None:
        found[CANDIDATE] = scenario.with_stacks(stack=file_source(wanted.candidate))
    return found


def _compare(wanted: Wanted, form: str) -> bool:
    """Simulate a suite or random servers, and tell whether the default misses a mark."""
    if wanted.picture is not None or wanted.recorded is not None:
        raise click.UsageError("--plot and --recorded go with single scenarios")
    if wanted.scenarios or (wanted.suite is not None and wanted.servers):
        raise click.UsageError("name scenarios, or ask for a --suite, or for --random servers")
    if wanted.servers:
        scenarios = random_servers(wanted.servers, wanted.seeds[0])
        seeds: tuple[int, ...] = wanted.seeds[:1]
    else:
        scenarios, seeds = [load(name) for name in _suite(wanted.suite or "")], wanted.seeds
    if wanted.client is not None:
        client = file_source(wanted.client)
        scenarios = [each.with_stacks(client=client) for each in scenarios]
    rows = run_suite(
        scenarios,
        _stacks(wanted),
        seeds=seeds,
        processes=wanted.processes,
        progress=_tell,
    )
    if form == Form.JSON:
        show({"seeds": list(seeds), "rows": [_plain(row) for row in rows]}, form)
    elif wanted.servers:
        _print_servers(rows)
    else:
        _print_rows(rows)
    return any(row.reached(name) is False for row in rows for name in _judged(row))


def _stacks(wanted: Wanted) -> Callable[[Scenario], dict[str, Stacks | None]]:
    """Return what a suite compares: the stacks that were named, or all algorithms."""
    named = {
        name: file_source(path)
        for name, path in ((CURRENT, wanted.stack), (CANDIDATE, wanted.candidate))
        if path is not None
    }
    return (lambda _: dict(named)) if named else candidates


def _judged(row: Row) -> list[str]:
    """Return whose marks count: those of the default, or of the stacks that were named."""
    if row.mark.needs is not None:
        return [row.mark.needs] if row.mark.needs in row.values else []
    return [name for name in row.values if name in {DEFAULT, CURRENT, CANDIDATE}]


def _suite(name: str) -> list[str]:
    found = shipped(name)
    if not found:
        known = sorted({suite for each in shipped() for suite in load(each).suites})
        raise Failure(f"there is no suite {name!r}; there are: {', '.join(known)}", Exit.NOT_FOUND)
    return found


def _names() -> str:
    return ", ".join(shipped())


def _plain(row: Row) -> dict[str, object]:
    return {
        "name": row.scenario.name,
        "of": row.mark.about(),
        "wanted": row.mark.wanted(),
        "best": row.mark.best,
        "needs": row.mark.needs,
        "values": row.values,
        "reached": {name: row.reached(name) for name in row.values},
    }


def _print(found: Sequence[Summary], titles: Sequence[str], seeds: Sequence[int]) -> None:
    """Print each scenario, with its stacks side by side."""
    for name in dict.fromkeys(each.scenario for each in found):
        beside = [each for each in found if each.scenario == name]
        title = titles[found.index(beside[0])]
        click.echo(f"{name}: {title}" if title else name)
        lines = [_lines(each) for each in beside]
        rows = [
            {"": what} | {each.stack: line[what] for each, line in zip(beside, lines, strict=True)}
            for what in lines[0]
        ]
        show_table(rows)
        click.echo()
    click.echo(f"medians of the seeds {', '.join(map(str, seeds))}")


def _lines(summary: Summary) -> dict[str, str]:
    totals, latency = summary.totals, summary.latency
    lines = {what: str(count) for what, count in dataclasses.asdict(totals).items()}
    lines["goodput"] = f"{summary.goodput:.3f}"
    if len(summary.phases) > 1:
        lines["by phase"] = " ".join(f"{each:.3f}" for each in summary.phases)
    if len(summary.callers) > 1:
        for name, served in summary.callers.items():
            lines[f"served {name}"] = f"{served:.3f}"
    lines["latency p50"] = f"{latency.p50 * 1e3:.1f} ms"
    lines["latency p99"] = f"{latency.p99 * 1e3:.1f} ms"
    lines["amplification"] = f"{summary.amplification:.3f}"
    for mark in summary.marks:
        reached = "reached" if mark.reached else "missed"
        lines[f"{mark.of} {mark.wanted}"] = f"{mark.value:.3f} {reached}"
    return lines


def _print_rows(rows: Sequence[Row]) -> None:
    """Print a line for each mark; what misses it is marked with a star."""
    lines = []
    for row in rows:
        best = "-" if row.mark.best is None else f"{row.mark.best:g}"
        values = {
            name: f"{value:.3f}{'*' if row.reached(name) is False else ''}"
            for name, value in row.values.items()
        }
        meant = f" ({row.mark.needs})" if row.mark.needs else ""
        about = f"{row.scenario.name}: {row.mark.about()}"
        lines.append({"scenario": about, "mark": row.mark.wanted() + meant, "best": best, **values})
    show_table(lines)
    missed = [row for row in rows if any(row.reached(name) is False for name in _judged(row))]
    click.echo("\n* misses the mark")
    click.echo(f"{len(rows) - len(missed)} of {len(rows)} marks are reached by what they are for")


def _print_servers(rows: Sequence[Row]) -> None:
    """Print how each does on average and at worst, and where that is."""
    lines = []
    for name in rows[0].values:
        worst = min(rows, key=lambda row: row.values[name])
        lines.append(
            {
                "stack": name,
                "mean": f"{statistics.fmean(row.values[name] for row in rows):.3f}",
                "worst": f"{worst.values[name]:.3f}",
                "of": worst.scenario.title,
            }
        )
    show_table(lines)


def _tell(done: int, of: int) -> None:
    """Say on stderr how far it is: always where somebody looks, else twenty times."""
    if sys.stderr.isatty():
        click.echo(f"\r{done} of {of} simulations", nl=done == of, err=True)
    elif done * 20 // of != (done - 1) * 20 // of:
        click.echo(f"{done} of {of} simulations", err=True)
