"""Write rules, alerts and a dashboard for Prometheus and Grafana."""

from __future__ import annotations

from pathlib import Path

import click

from ninelives_control.cli.group import Exit, Failure
from ninelives_control.prometheus import files


@click.command("prometheus")
@click.option(
    "--write",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write them into this folder; without it, their names are listed.",
)
def cli(folder: Path | None) -> None:
    """Write recording rules and alerts for Prometheus, and a dashboard for Grafana."""
    for name, text in files().items():
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text, encoding="utf-8")
            except OSError as error:
                raise Failure(f"{folder / name}: {error.strerror}", Exit.FAILED) from None
        click.echo(name if folder is None else str(folder / name))
