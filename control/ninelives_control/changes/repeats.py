"""Tell a repetition from a second wish: idempotency keys, and the results that belong to them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ninelives_control.errors import Code, CommandError

if TYPE_CHECKING:
    from pydantic import BaseModel

MAX_KEYS = 10_000
"""Keys that are known at a time; beyond them, the one that was used first is forgotten."""
_FIELD = "idempotency_key"


@dataclass(slots=True)
class _Known:
    command: str
    arguments: str
    result: BaseModel | None = None


class Repeats:
    """Remembers results by who asked and with which key, as long as the process lives."""

    def __init__(self) -> None:
        """Begin without any."""
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, key: tuple[str, str], command: str, arguments: str) -> BaseModel | None:
        """Return the result of the first time, or None if this is it.

        Whoever gets None calls `end` or `forget`.

        Args:
            key: The name of who asks, and the word.
            command: The name of the command.
            arguments: Its arguments as JSON.

        Raises:
            CommandError: The key was used for something else, or the first time goes on still.
        """
        with self._lock:
            known = self._known.get(key)
            if known is None:
                self._known[key] = _Known(command, arguments)
                while len(self._known) > MAX_KEYS:
                    self._known.popitem(last=False)
                return None
        if (known.command, known.arguments) != (command, arguments):
            message = f"{_FIELD} {key[1]!r} was used for something else; take another one"
            raise CommandError(Code.INVALID_ARGUMENT, message, field=_FIELD)
        if known.result is None:
            message = f"the command with {_FIELD} {key[1]!r} still runs; ask again for its result"
            raise CommandError(Code.CONFLICT, message, field=_FIELD)
        return known.result

    def end(self, key: tuple[str, str], result: BaseModel) -> None:
        """Remember the result."""
        with self._lock:
            if key in self._known:
                self._known[key].result = result

    def forget(self, key: tuple[str, str]) -> None:
        """Forget a key whose command has failed: it may be tried again."""
        with self._lock:
            self._known.pop(key, None)
