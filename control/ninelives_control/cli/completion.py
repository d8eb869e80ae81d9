"""Print what completes command lines in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ninelives_control.cli.group import ninelives

_VARIABLE = "_NINELIVES_COMPLETE"
"""Click looks there for what it is asked, by the name of the program."""


_HELP = """Print what completes command lines in a shell, with names and addresses of what runs.

\b
bash: eval "$(ninelives completion bash)"    in ~/.bashrc
zsh:  eval "$(ninelives completion zsh)"     in ~/.zshrc
fish: ninelives completion fish | source     in ~/.config/fish/config.fish
"""


@click.command("completion", help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def cli(shell: str) -> None:
    """Print what completes command lines in a shell."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ninelives, {}, "ninelives", _VARIABLE).source())
