"""Run commands that come as lines of JSON, for programs that start this one."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, BinaryIO

import click

from ninelives_control.cli.connection import connection_options
from ninelives_control.cli.group import Exit

if TYPE_CHECKING:
    from ninelives_control.transports.grpc.connection import Connection

_HELP = """Run commands that come as lines of JSON, and answer each by a line, in order.

\\b
{"id": 1, "cmd": "get_parameter", "args": {"path": "shop/retry/max_attempts"}}
{"id": 1, "ok": true, "result": {...}}
{"id": 1, "ok": false, "error": {"code": "not_found", "message": "...", "field": "path"}}

Only "cmd" must be there; "auth" is a token for that line alone. A line may have 1 MiB. "watch"
is answered by the state, and then by {"id", "event"} for each event, until "cancel" comes with
the same id, or the input ends. What is wrong with a line is its answer; the rest goes on.
"""


@click.command("lines", help=_HELP)
@connection_options
def cli(connection: Connection) -> int:
    """Run commands that come as lines of JSON."""
    from ninelives_control.transports.lines.bridge import serve  # noqa: PLC0415 - slow to import

    lines = _Lines(sys.stdin.buffer)
    before = signal.signal(signal.SIGINT, lines.interrupt)
    try:
        serve(connection, lines, _Answers(sys.stdout.buffer))
    finally:
        signal.signal(signal.SIGINT, before)
    return Exit.INTERRUPTED if lines.interrupted else Exit.OK


class _Lines:
    """Standard input, which ends with Ctrl-C as well: the command that runs is answered first."""

    def __init__(self, source: BinaryIO) -> None:
        self.interrupted = False
        self._source = source
        self._reading = False

    def readline(self, limit: int, /) -> bytes:
        try:
            self._reading = True
            return b"" if self.interrupted else self._source.readline(limit)
        except KeyboardInterrupt:
            return b""
        finally:
            self._reading = False

    def interrupt(self, *_: object) -> None:
        self.interrupted = True
        # Raised in the midst of gRPC, it may be lost there, or leave a lock behind.
        if self._reading:
            self._reading = False
            raise KeyboardInterrupt


class _Answers:
    """Standard output; when nobody reads it any more, nothing more is read either."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target

    def write(self, line: bytes, /) -> None:
        try:
            rest = memoryview(line)
            while rest:
                # All of it, unless PYTHONUNBUFFERED is set.
                rest = rest[self._target.write(rest) :]
            self._target.flush()
        except OSError:
            # Events are written by another thread, while the main one waits for a line.
            if threading.current_thread() is not threading.main_thread() and _CAN_WAKE:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            raise

    def flush(self) -> None:
        """Do nothing: each line is sent at once."""


_CAN_WAKE = hasattr(signal, "pthread_kill")
