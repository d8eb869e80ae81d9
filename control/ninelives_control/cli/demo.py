"""Run the demo."""

from __future__ import annotations

import os

import click

from ninelives_control.cli.group import Exit, Failure


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
    # They import gRPC, which reads that once.
    from ninelives_control.demo.run import run  # noqa: PLC0415
    from ninelives_control.errors import AddressError  # noqa: PLC0415

    if port is not None:
        grpc_port = http_port = port
    try:
        shown = run(once=once, grpc_port=grpc_port, http_port=http_port)
    except AddressError as error:
        message = f"127.0.0.1 port {error.port} is taken; end what uses it, or give --port 0"
        raise Failure(message, Exit.UNAVAILABLE) from None
    if not shown:
        raise Failure("the story was not told as it should be, see above", Exit.FAILED)
