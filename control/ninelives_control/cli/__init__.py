"""The command line, `ninelives`: each subcommand is a module, imported when it is asked for."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        from ninelives_control.cli.group import run  # noqa: PLC0415 - may not be installed
    except ModuleNotFoundError as error:
        from ninelives_grpc.errors import MissingExtraError  # noqa: PLC0415 - slow to import

        missing = MissingExtraError("control", f"the command line, for {error.name},")
        sys.stderr.write(f"error: {missing}\n")
        sys.exit(1)
    sys.exit(run(sys.argv[1:]))
