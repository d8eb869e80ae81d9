"""Serve commands on lines of JSON, such as those of an application's own standard input."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ninelives_control.audit.early import EarlyRefusal
from ninelives_control.errors import Code, CommandError
from ninelives_control.identity.identity import Credentials
from ninelives_control.transports.lines.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic import BaseModel

    from ninelives_control.router import Dispatcher
    from ninelives_control.transports.lines.session import Reader, Request, Writer
    from ninelives_control.watch import Watch

NAME = "lines"
_LOGGER = logging.getLogger("ninelives_control")


class JsonLines:
    """Serves commands that come as lines of JSON; `lines_session` has their form.

    JsonLines(plane.dispatcher).serve(sys.stdin.buffer, sys.stdout.buffer)

    Whoever shows no token in `auth` counts as a caller on the same machine. Nothing else may be
    printed where the answers go.

    Args:
        dispatcher: What runs the commands.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Hold it."""
        self._desk = _LocalDesk(dispatcher)

    def serve(self, reader: Reader, writer: Writer) -> None:
        """Answer each line in this thread; return after the last answer, when the input has ended.

        Raises:
            OSError: It can not be read, or nobody takes the answers any more.
        """
        Session(self._desk, reader, writer).run()


class _LocalDesk:
    """Hands commands to the dispatcher of this process."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def execute(self, request: Request) -> Mapping[str, Any]:
        result = self._dispatcher.execute(
            request.cmd, request.args, caller=_caller(request), transport=NAME
        )
        return _plain(result)

    def refuse(self, request: Request, error: CommandError) -> CommandError:
        if not request.names_a_command:
            refusal = EarlyRefusal(
                transport=NAME, request=request.cmd, answer="error", code=error.code, peer=""
            )
            self._dispatcher.note(refusal)
            return error
        return self._dispatcher.refuse(
            request.cmd, request.args, error, caller=_caller(request), transport=NAME
        )

    def watch(self, request: Request, notify: Callable[[], None]) -> _LocalWatch:
        return _LocalWatch(
            self._dispatcher.watch(
                request.args, caller=_caller(request), transport=NAME, notify=notify
            )
        )


class _LocalWatch:
    """Tells what happens in plain values."""

    def __init__(self, opened: Watch) -> None:
        self.first = _plain(opened.first)
        self._opened = opened

    def take(self) -> Sequence[Mapping[str, Any]]:
        return [_plain(message) for message in self._opened.take()]

    def close(self) -> None:
        self._opened.close()


def _caller(request: Request) -> Credentials:
    return Credentials(token=request.auth, loopback=True)


def _plain(result: BaseModel) -> Mapping[str, Any]:
    try:
        return result.model_dump(mode="json")
    except Exception as error:
        _LOGGER.exception("an answer could not be sent as a line")
        message = "the answer could not be sent; the log of the control plane says why"
        raise CommandError(Code.INTERNAL, message) from error
