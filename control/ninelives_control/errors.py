"""What can go wrong with a command, and the sentence that its caller is told.

NinelivesError
├── CommandError      a command did not run, or failed: a code, and a sentence with the remedy
├── AuditError        the audit cannot be written or read
└── AddressError      an address cannot be listened on: names it and the remedy
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ninelives_control.audit.redaction import without_tokens
from ninelives_grpc.errors import ConfigError, NinelivesError, RevisionError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel, ValidationError

_LONGEST = 500
_MISSING = "missing"
_UNKNOWN_FIELD = ("extra_forbidden", "unexpected_keyword_argument")


class Code(StrEnum):
    """Why a command did not run or failed; every transport has a status of its own for each."""

    INVALID_ARGUMENT = "invalid_argument"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    UNAUTHENTICATED = "unauthenticated"
    PERMISSION_DENIED = "permission_denied"
    UNKNOWN_COMMAND = "unknown_command"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class CommandError(NinelivesError):
    """A command did not run, or failed.

    Attributes:
        code: What kind of error it is.
        message: One sentence with the place and the remedy.
        field: The argument at fault, or "".
        revision: The actual revision when the code is `conflict`, or None.
        rule: The rule that refused it when the code is `permission_denied`, or "".
        retry_after: Seconds to wait when the code is `rate_limited`, or None.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        field: str = "",
        revision: int | None = None,
        rule: str = "",
        retry_after: float | None = None,
    ) -> None:
        """Hold what the caller is told.

        What callers wrote may be in it, so it is shortened, and tokens in it are masked.
        """
        self.code = code
        self.message = shortened(without_tokens(message), _LONGEST)
        self.field = shortened(without_tokens(field), _LONGEST)
        self.revision = revision
        self.rule = rule
        self.retry_after = retry_after
        super().__init__(f"{code}: {self.message}")

    def told(self) -> dict[str, Any]:
        """Return what is told in JSON: the sentence, and what `ERROR_PROPERTIES` has."""
        told: dict[str, Any] = {
            "code": str(self.code),
            "message": self.message,
            "field": self.field,
        }
        if self.revision is not None:
            told["revision"] = self.revision
        if self.rule:
            told["rule"] = self.rule
        return told


ERROR_PROPERTIES = {
    "code": {"type": "string", "enum": [str(code) for code in Code]},
    "field": {"type": "string", "description": "The argument at fault, or empty."},
    "revision": {"type": "integer", "description": "The actual one, with conflict only."},
    "rule": {"type": "string", "description": "What refused it, with permission_denied only."},
}
"""JSON schemas of what is told of an error besides its sentence, wherever JSON is spoken."""


class AuditError(NinelivesError):
    """The audit cannot be written or read."""


class AddressError(NinelivesError):
    """An address cannot be listened on.

    Attributes:
        port: The port that was asked for; 0 if it is a Unix socket.
    """

    def __init__(self, message: str, *, port: int) -> None:
        """Name the address and the remedy."""
        super().__init__(message)
        self.port = port


def not_confirmed(command: str, answer: str) -> CommandError:
    """Return the error for a command that a person was asked about and did not agree to."""
    message = f"{command} was not confirmed ({answer}), so it did not run"
    return CommandError(Code.PERMISSION_DENIED, message)


def shortened(text: str, length: int) -> str:
    """Return the text, or its beginning if it is longer than `length`."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def translated(error: Exception, arguments: BaseModel | None) -> CommandError | None:
    """Turn what the data plane raised into what a caller is told; None if it was not on purpose."""
    fields = () if arguments is None else type(arguments).model_fields
    given = {name: getattr(arguments, name) for name in fields}
    match error:
        case CommandError():
            return error
        case RevisionError():
            field = "expected_revision" if "expected_revision" in given else ""
            return CommandError(Code.CONFLICT, str(error), field=field, revision=error.actual)
        case UnknownNameError():
            holds = [name for name, value in given.items() if _contains(value, error.name)]
            return CommandError(Code.NOT_FOUND, str(error), field=holds[0] if holds else "")
        case ConfigError():
            field = "value" if "value" in given else ""
            return CommandError(Code.INVALID_ARGUMENT, str(error), field=field)
    return None


def invalid(error: ValidationError, known: Iterable[str]) -> CommandError:
    """Turn what pydantic says of arguments into one sentence about the first of its findings."""
    field, message = finding(error, "argument", known)
    return CommandError(Code.INVALID_ARGUMENT, message, field=field)


def finding(error: ValidationError, what: str, known: Iterable[str]) -> tuple[str, str]:
    """Return the place of the first finding of pydantic, and a sentence about it."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] in _UNKNOWN_FIELD:
        return field, str(UnknownNameError(what, str(first["loc"][-1]), known))
    if first["type"] == _MISSING:
        return field, f"{field} is missing"
    # "Input should be less than 5" and "Value error, must be a name" become what follows a name.
    reason = re.sub(r"^\w+ should ", "must ", first["msg"]).removeprefix("Value error, ")
    return field, f"{field} {reason}".strip()


def _contains(value: object, name: str) -> bool:
    return isinstance(value, str) and name in {value, *value.split("/")}
