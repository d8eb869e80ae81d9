"""Run the demo."""

from __future__ import annotations

import os

import click


@click.command("demo")
@click.option("--once", is_flag=True, help="Tell the story once, in about 20 s, and sum it up.")
@click.option(
    "--grpc-port", default=50090, show_default=True, help="Port for gRPC; 0 is any that is free."
)
@click.option(
    "--http-port", default=8090, show_default=True, help="Port for HTTP; 0 is any that is free."
)
@click.option("--port", type=int, help="Both ports at once: `--port 0` avoids any clash.")
def cli(*, once: bool, grpc_port: int, http_port: int, port: int | None) -> None:
    """Watch policies at work in a small shop whose backends fail and recover, and tune them.

    Nothing needs to be installed or running. End it with Ctrl-C.
    """
    # gRPC reports every lost connection on standard error, and here that is part of the show.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from ninelives_control.demo.run import run  # noqa: PLC0415 - it takes its time to import

    if port is not None:
        grpc_port = http_port = port
    if not run(once=once, grpc_port=grpc_port, http_port=http_port):
        raise SystemExit(1)
