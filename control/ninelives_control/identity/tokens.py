"""The file of tokens: a name, a role and a hash each, never the token itself."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from ninelives_control.errors import Code, CommandError, finding
from ninelives_control.files import signature
from ninelives_control.identity.identity import Role
from ninelives_grpc.clock import rfc3339
from ninelives_grpc.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

_LOGGER = logging.getLogger("ninelives_control")
_PREFIX = "ninelives_"
_BITS = 256


class Token(BaseModel):
    """One entry of the file.

    Attributes:
        name: Who has it, as it stands in the audit.
        role: What that is there to do.
        sha256: The hash of the token in hexadecimal.
        created: When it was made, in RFC 3339.
        expires: When it ends to be one, or None if it never does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100)]
    role: Role
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    created: str
    expires: AwareDatetime | None = None


class TokenFile:
    """Tokens in a JSON file, which is read again whenever it has changed.

    Args:
        path: The file.
        now: Tells the time, which tokens may expire at.
    """

    def __init__(self, path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Read the file.

        Raises:
            ConfigError: It cannot be read or is broken; names the file and the entry.
        """
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        self._seen = signature(path)
        self._tokens = read(path)

    def find(self, token: str) -> Token | None:
        """Return the entry of a token, or None if it is unknown.

        Raises:
            CommandError: `unauthenticated`: it has expired; or `unavailable`: the file has become
                unreadable. Nobody is let in then.
        """
        shown = _hash(token)
        found = None
        for entry in self._current():
            # All of them, so that the time taken says nothing.
            if hmac.compare_digest(entry.sha256, shown):
                found = entry
        if found is not None and found.expires is not None and self._now() >= found.expires:
            ended = rfc3339(found.expires.astimezone(UTC), "seconds")
            message = f"the token expired at {ended}; make another by `ninelives token create`"
            raise CommandError(Code.UNAUTHENTICATED, message)
        return found

    def _current(self) -> Sequence[Token]:
        try:
            with self._lock:
                changed = signature(self._path)
                if changed != self._seen:
                    self._tokens = read(self._path)
                    self._seen = changed
                return self._tokens
        except ConfigError as error:
            _LOGGER.error("nobody can be authenticated: %s", error)  # noqa: TRY400 - no trace
            message = "tokens cannot be checked now; the log of the control plane says why"
            raise CommandError(Code.UNAVAILABLE, message) from None


def read(path: Path) -> tuple[Token, ...]:
    """Return the entries of a file.

    Raises:
        ConfigError: It cannot be read or is broken; names the file and the entry.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); `ninelives token create` makes one"
        raise ConfigError(reason, path=str(path)) from None
    except ValueError as error:
        raise ConfigError(f"is not JSON: {error}", path=str(path)) from None
    entries = data.get("tokens") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise ConfigError('must be {"tokens": [...]}', path=str(path))
    tokens: list[Token] = []
    for index, entry in enumerate(entries):
        tokens.append(_entry(entry, f"{path}: tokens[{index}]"))
        if tokens[-1].name in {token.name for token in tokens[:-1]}:
            msg = f"a second token named {tokens[-1].name!r}; each needs a name of its own"
            raise ConfigError(msg, path=f"{path}: tokens[{index}]")
    return tuple(tokens)


def create(path: Path, name: str, role: Role, lifetime: timedelta | None = None) -> str:
    """Make a token, put its hash into the file, and return it: it cannot be shown again.

    Args:
        path: The file, which is made if it is not there.
        name: Who gets it, as it will stand in the audit.
        role: What that may do.
        lifetime: How long it is one; None is for ever.

    Raises:
        ConfigError: The file is broken, or has a token of that name.
    """
    tokens = read(path) if path.exists() else ()
    token = _PREFIX + secrets.token_urlsafe(_BITS // 8)
    now = datetime.now(UTC).replace(microsecond=0)
    created = rfc3339(now, "seconds")
    if name in {entry.name for entry in tokens}:
        msg = f"there is a token named {name!r}; remove it, or take another name"
        raise ConfigError(msg, path=str(path))
    expires = None if lifetime is None else now + lifetime
    data = {
        "name": name,
        "role": role,
        "sha256": _hash(token),
        "created": created,
        "expires": expires,
    }
    _write(path, [*tokens, _entry(data, f"{path}: {name!r}")])
    return token


def remove(path: Path, name: str) -> None:
    """Take a token out of the file: from then on it is unknown.

    Raises:
        ConfigError: The file cannot be read or is broken.
        UnknownNameError: It has no token of that name.
    """
    tokens = read(path)
    kept = [token for token in tokens if token.name != name]
    if len(kept) == len(tokens):
        raise UnknownNameError("token", name, (token.name for token in tokens))
    _write(path, kept)


def _entry(data: object, place: str) -> Token:
    try:
        return Token.model_validate(data)
    except ValidationError as error:
        _, message = finding(error, "field", Token.model_fields)
        raise ConfigError(message, path=place) from None


def _write(path: Path, tokens: Sequence[Token]) -> None:
    """Put the whole file in place at once, readable by its owner only."""
    data = {"tokens": [token.model_dump(mode="json", exclude_none=True) for token in tokens]}
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A temporary file has mode 0600.
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(json.dumps(data, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", path=str(path)) from None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
