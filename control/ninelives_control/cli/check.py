"""Say what is wrong with a configuration, and what could be better, before a program loads it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ninelives_control.cli.group import Exit
from ninelives_control.cli.places import line_of, line_said
from ninelives_control.cli.show import Form, form_option
from ninelives_grpc.config import apply_environment, read, schema
from ninelives_grpc.config.builder import Builder
from ninelives_grpc.errors import ConfigError
from ninelives_grpc.policies.respond import Respond

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ninelives_grpc.lint import Finding
    from ninelives_grpc.stacks.stack import Stack

_HANDED_IN = {"no policy or stack named": "policy", "no gauge named": "gauge"}
"""How errors begin about names that a program may hand in, and the option that says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something for which a program would refuse the file.

    Attributes:
        line: Where, counted from 1, or None.
        field: What, such as "stacks.payments.timeout.seconds", an environment variable, or "".
        message: What is wrong, and what is allowed.
    """

    line: int | None
    field: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was found in one file."""

    file: str
    problems: list[Problem]
    findings: list[Finding]
    stacks: int


@click.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="End with 1 when only the linter finds something.")
@click.option(
    "--policy", "given", multiple=True, help="A NAME in expressions that the program hands in."
)
@click.option("--gauge", "gauges", multiple=True, help="A NAME of a gauge that it hands in.")
@click.option("--schema", "show_schema", is_flag=True, help="Print the JSON schema of such a file.")
@form_option
def cli(
    file: Path | None,
    given: tuple[str, ...],
    gauges: tuple[str, ...],
    form: str,
    *,
    strict: bool,
    show_schema: bool,
) -> int:
    """Say what is wrong with FILE, a configuration in TOML or JSON.

    Environment variables such as NINELIVES_PAYMENTS__RETRY__MAX_ATTEMPTS win over the file, as they
    do when a program loads it. Ends with 0, or with 2 when something is wrong.
    """
    if show_schema:
        click.echo(json.dumps(schema(), indent=2))
        return Exit.OK
    if file is None:
        msg = "name a file, or ask for --schema"
        raise click.UsageError(msg)
    report = check(file, given, gauges)
    if form == Form.JSON:
        click.echo(json.dumps(dataclasses.asdict(report), indent=2))
    else:
        _print(report)
    if report.problems:
        return Exit.INVALID
    return Exit.FAILED if strict and report.findings else Exit.OK


def check(file: Path, given: tuple[str, ...] = (), gauges: tuple[str, ...] = ()) -> Report:
    """Build what a file says, without keeping it, and report what was found."""
    try:
        data = read(file)
    except ConfigError as error:
        problem = Problem(line=line_said(error.message), field="", message=error.message)
        return Report(file=str(file), problems=[problem], findings=[], stacks=0)
    policies = {name: Respond(None) for name in given}
    builder = Builder(data, str(file), policies, dict.fromkeys(gauges, float))
    found = builder.problems
    if not found.found:
        with found.noted():
            apply_environment(builder.stacks.values())
    problems = [_problem(file, error) for error in found.found]
    return Report(
        file=str(file),
        problems=problems,
        findings=[] if problems else _findings(builder.stacks.values()),
        stacks=len(builder.stacks),
    )


def _findings(stacks: Iterable[Stack]) -> list[Finding]:
    """Return each once: a stack that stands in another one is looked at twice."""
    return list(dict.fromkeys(finding for stack in stacks for finding in stack.lint()))


def _problem(file: Path, error: ConfigError) -> Problem:
    field = error.path.removeprefix(str(file)).lstrip(":. ")
    text = file.read_text(encoding="utf-8")
    line = line_of(text, field, toml=file.suffix == ".toml")
    message = error.message
    for beginning, option in _HANDED_IN.items():
        if message.startswith(beginning):
            message += f" (--{option} NAME if the program hands it in)"
    return Problem(line=line, field=field, message=message)


def _print(report: Report) -> None:
    """Print a line for each thing, in the form that editors understand."""
    for problem in report.problems:
        place = report.file if problem.line is None else f"{report.file}:{problem.line}"
        field = f"{problem.field}: " if problem.field else ""
        click.echo(f"{place}: {field}{problem.message}")
    for finding in report.findings:
        click.echo(f"{report.file}: {finding}")
    if not report.problems and not report.findings:
        click.echo(f"ok: {report.stacks} stack{'' if report.stacks == 1 else 's'}")
