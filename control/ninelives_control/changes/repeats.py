"""Tell a repetition from a second wish: idempotency keys, and the results that belong to them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import SecretBytes, SecretStr

from ninelives_control.errors import Code, CommandError

if TYPE_CHECKING:
    from pydantic import BaseModel

MAX_KEYS = 10_000
"""Keys that are known at a time; beyond them, the one that was used first is forgotten."""
MAX_SIZE = 2**23
"""Characters of their results together, written out; likewise."""
_FIELD = "idempotency_key"


@dataclass(slots=True)
class _Known:
    wish: bytes
    result: BaseModel | None = None
    size: int = 0


class Repeats:
    """Remembers results by who asked and with which key, as long as the process lives."""

    def __init__(self) -> None:
        """Begin without any."""
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def begin(self, key: tuple[str, str], command: str, arguments: BaseModel) -> BaseModel | None:
        """Return the result of the first time, or None if this is it.

        Whoever gets None calls `end`, if there is a result, and `forget` in any case.

        Args:
            key: The name of who asks, and the word.
            command: The name of the command.
            arguments: Its arguments, of which a digest is kept: there may be secrets in them.

        Raises:
            CommandError: The key was used for something else, or the first time goes on still.
        """
        told = json.dumps([command, arguments.model_dump()], default=_unmasked)
        wish = hashlib.sha256(told.encode()).digest()
        with self._lock:
            known = self._known.get(key)
            if known is None:
                self._known[key] = _Known(wish)
                self._trim()
                return None
        if known.wish != wish:
            message = f"{_FIELD} {key[1]!r} was used for something else; take another one"
            raise CommandError(Code.INVALID_ARGUMENT, message, field=_FIELD)
        if known.result is None:
            message = f"the command with {_FIELD} {key[1]!r} still runs; ask again for its result"
            raise CommandError(Code.CONFLICT, message, field=_FIELD)
        return known.result

    def end(self, key: tuple[str, str], result: BaseModel) -> None:
        """Remember the result."""
        size = len(str(result))
        with self._lock:
            known = self._known[key]
            known.result, known.size = result, size
            self._size += size
            self._trim()

    def forget(self, key: tuple[str, str]) -> None:
        """Forget a key whose command has no result: it may be tried again."""
        with self._lock:
            known = self._known.get(key)
            if known is not None and known.result is None:
                del self._known[key]

    def _trim(self) -> None:
        while len(self._known) > MAX_KEYS or self._size > MAX_SIZE:
            ended = (key for key, known in self._known.items() if known.result is not None)
            oldest = next(ended, None)
            if oldest is None:
                return
            self._size -= self._known.pop(oldest).size


def _unmasked(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr | SecretBytes) else repr(value)
