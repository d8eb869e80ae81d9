"""The subcommands of `ninelives`, and how an error ends one: a line, and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from enum import IntEnum
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SUBCOMMANDS = {
    "authorize": "Say whether rules allow something, and why.",
    "audit": "Verify, read, export and prune the audit.",
    "call": "Run a command of a control plane.",
    "check": "Say what is wrong with a configuration.",
    "commands": "List the commands of a control plane.",
    "completion": "Print what completes command lines in a shell.",
    "demo": "Watch policies at work, and tune them.",
    "events": "List what policies did, or follow it as it happens.",
    "lines": "Run commands that come as lines of JSON.",
    "mcp": "Serve MCP to an agent, for a control plane that runs.",
    "profiles": "List the profiles: control planes by name.",
    "prometheus": "Write rules, alerts and a dashboard for Prometheus and Grafana.",
    "recorder": "Read what a flight recorder has left behind.",
    "simulate": "Try stacks on a simulated server.",
    "token": "Make, list and remove tokens.",
    "top": "Watch all stacks, those in trouble first.",
}
"""Modules of this package, each with a click command named `cli`, and what to say of them."""

DEBUG = "NINELIVES_DEBUG"
"""Set it to see the traceback of what nobody foresaw."""


class Exit(IntEnum):
    """How the process ends."""

    OK = 0
    FAILED = 1
    INVALID = 2
    NOT_FOUND = 3
    DENIED = 4
    CONFLICT = 5
    UNAVAILABLE = 6
    INTERRUPTED = 130


class Failure(click.ClickException):
    """An error that has an exit code of its own."""

    def __init__(self, message: str, code: Exit) -> None:
        """Hold both."""
        super().__init__(message)
        self.code = code


class Summaries(click.Group):
    """A group that says what its subcommands do without making them."""

    def summaries(self, ctx: click.Context) -> Mapping[str, str]:
        """Return what there is to say, by name."""
        raise NotImplementedError

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names."""
        return sorted(self.summaries(ctx))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of all."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(self.summaries(ctx).items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin so, and options."""
        found = sorted(self.summaries(ctx).items())
        return [
            *(
                CompletionItem(name, help=said)
                for name, said in found
                if name.startswith(incomplete)
            ),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]


class LazyGroup(Summaries):
    """Imports a subcommand when it is asked for, so that `--help` is quick."""

    def summaries(self, ctx: click.Context) -> Mapping[str, str]:
        """Return what stands in `SUBCOMMANDS`."""
        return SUBCOMMANDS

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one of them."""
        if cmd_name not in SUBCOMMANDS:
            return None
        module = importlib.import_module(f"ninelives_control.cli.{cmd_name}")
        found: click.Command = module.cli
        return found


_EPILOG = """\b
It ends with
  0    done
  1    failed
  2    not valid: an option, an argument, a file
  3    not found: a command, a stack, a policy, a parameter
  4    not allowed, or not known who you are
  5    in conflict: it has changed in the meantime
  6    not available: no control plane there, or not now
  130  interrupted
"""


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG
)
@click.version_option(package_name="ninelives-grpc")
def ninelives() -> None:
    """Command the stacks of a running process."""


def run(args: Sequence[str]) -> int:  # noqa: PLR0911 - one return a way to end
    """Run a command line, and return the exit code; an error is one line on stderr."""
    try:
        code = ninelives.main(list(args), prog_name="ninelives", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return Exit.INVALID
    except Failure as error:
        return _failed(error.format_message(), error.code)
    except click.ClickException as error:
        return _failed(error.format_message(), error.exit_code)
    except click.Abort:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough; Python would complain of it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        text = f"{type(error).__name__}: {error}; set {DEBUG}=1 to see where"
        return _failed(text, Exit.FAILED)
    return code if isinstance(code, int) else Exit.OK


def _failed(text: str, code: int) -> int:
    click.echo(f"error: {' '.join(text.split())}", err=True)
    return code
