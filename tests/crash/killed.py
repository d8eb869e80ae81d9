"""A process with a control plane, to be killed: `killed.py FOLDER`.

It has a stack for each client, writes its two ports, and ends with its standard input.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ninelives_control import ControlPlane, Limits
from ninelives_grpc import Bulkhead, Stack

CLIENTS = 50


def main() -> None:
    """Serve until standard input ends, or sooner."""
    folder = Path(sys.argv[1])
    for number in range(CLIENTS):
        Stack(f"stack{number}", Bulkhead(1))
    plane = ControlPlane(
        grpc_port=0,
        http_port=0,
        tokens=folder / "tokens.json",
        audit=folder / "audit.sqlite",
        parameters=folder / "parameters.sqlite",
        limits=Limits(
            commands_per_second=1e6,
            burst=1e6,
            changes_per_second=1e6,
            changes_burst=1e6,
            concurrent=CLIENTS,
        ),
    )
    with plane:
        sys.stdout.write(f"{plane.grpc_port} {plane.http_port}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
