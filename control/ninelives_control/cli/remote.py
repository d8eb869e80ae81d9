"""Ask a control plane over gRPC."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import grpc

from ninelives_control.cli.group import Exit, Failure
from ninelives_control.errors import Code
from ninelives_control.transports.grpc_errors import told
from ninelives_control.transports.messages import plain_struct, put_struct
from ninelives_control.v1.control_pb2 import ExecuteRequest
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_EXITS = {
    Code.INVALID_ARGUMENT: Exit.INVALID,
    Code.NOT_FOUND: Exit.NOT_FOUND,
    Code.UNKNOWN_COMMAND: Exit.NOT_FOUND,
    Code.UNAUTHENTICATED: Exit.DENIED,
    Code.PERMISSION_DENIED: Exit.DENIED,
    Code.CONFLICT: Exit.CONFLICT,
    Code.UNAVAILABLE: Exit.UNAVAILABLE,
    Code.AUDIT_UNAVAILABLE: Exit.UNAVAILABLE,
    Code.INTERNAL: Exit.FAILED,
}
_OUT_OF_REACH = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def connection_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add what it takes to reach a control plane to a subcommand."""
    for option in (
        click.option("--timeout", default=10.0, show_default=True, help="Seconds to wait."),
        click.option(
            "--token-file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="A file that holds the token.",
        ),
        click.option("--token", envvar="NINELIVES_TOKEN", help="The token to show."),
        click.option(
            "--address",
            default="127.0.0.1:50090",
            show_default=True,
            envvar="NINELIVES_ADDRESS",
            help="Where it listens for gRPC.",
        ),
    ):
        function = option(function)
    return function


def token_of(token: str | None, file: Path | None) -> str:
    """Return the token that the options say, "" if they say none.

    Raises:
        UsageError: It cannot be one.
    """
    if file is not None:
        token = file.read_text(encoding="utf-8", errors="replace")
    token = (token or "").strip()
    if not (token.isascii() and token.isprintable()):
        raise click.UsageError("the token has characters that no token has; copy it again")
    return token


def execute(
    command: str,
    arguments: Mapping[str, object],
    *,
    address: str,
    token: str | None,
    token_file: Path | None,
    timeout: float,
) -> dict[str, object]:
    """Run a command of a control plane, and return its result.

    Raises:
        Failure: It did not run, or failed, or cannot be reached.
    """
    metadata = metadata_of(token, token_file)
    request = ExecuteRequest(command=command)
    put_struct(request.arguments, arguments)
    with grpc.insecure_channel(address) as channel:
        try:
            answer = ControlServiceStub(channel).Execute(
                request, metadata=metadata, timeout=timeout
            )
        except grpc.RpcError as error:
            raise failure(error, address) from None
    return plain_struct(answer.result)


def metadata_of(token: str | None, file: Path | None) -> tuple[tuple[str, str], ...]:
    """Return the metadata that shows the token of the options, if they say one.

    Raises:
        UsageError: It cannot be one.
    """
    shown = token_of(token, file)
    return (("authorization", f"Bearer {shown}"),) if shown else ()


def failure(error: grpc.RpcError, address: str) -> Failure:
    """Return what to tell of an error of gRPC, and how to end."""
    assert isinstance(error, grpc.Call)
    answer = told(error)
    if answer is not None:
        return Failure(answer.message, _EXITS[answer.code])
    if error.code() in _OUT_OF_REACH:
        text = f"no control plane can be reached at {address}: {error.details()}"
        return Failure(text, Exit.UNAVAILABLE)
    return Failure(f"{error.code().name}: {error.details()}", Exit.FAILED)
