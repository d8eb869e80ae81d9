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
Key = tuple[str, str, str]
"""The name and role of who asks, and the word."""
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
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def known(self, key: Key | None, command: str, arguments: BaseModel) -> BaseModel | None:
        """Return the result if this is a repetition of what has ended well, or None."""
        known = None if key is None else self._known.get(key)
        if known is None or known.wish != _digest(command, arguments):
            return None
        return known.result

    def begin(self, key: Key, command: str, arguments: BaseModel) -> BaseModel | None:
        """Return the result of the first time, or None if this is it.

        Whoever gets None calls `end`, if there is a result, and `forget` in any case.

        Args:
            key: Who asks, and the word.
            command: The name of the command.
            arguments: Its arguments, of which a digest is kept: there may be secrets in them.

        Raises:
            CommandError: The key was used for something else, or the first time goes on still.
        """
        wish = _digest(command, arguments)
        with self._lock:
            known = self._known.get(key)
            if known is None:
                self._known[key] = _Known(wish)
                self._trim()
                return None
        if known.wish != wish:
            message = f"{_FIELD} {key[2]!r} was used for something else; take another one"
            raise CommandError(Code.INVALID_ARGUMENT, message, field=_FIELD)
        if known.result is None:
            message = f"the command with {_FIELD} {key[2]!r} still runs; ask again for its result"
            raise CommandError(Code.CONFLICT, message, field=_FIELD)
        return known.result

    def end(self, key: Key, result: BaseModel) -> None:
        """Remember the result."""
        size = len(str(result))
        with self._lock:
            known = self._known[key]
            known.result, known.size = result, size
            self._size += size
            self._trim()

    def forget(self, key: Key) -> None:
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


def _digest(command: str, arguments: BaseModel) -> bytes:
    told = json.dumps([command, arguments.model_dump()], default=_unmasked)
    return hashlib.sha256(told.encode()).digest()


def _unmasked(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr | SecretBytes) else repr(value)
