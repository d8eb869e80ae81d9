"""What becomes of each command, written down in the audit; and the caller told if it can not be."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import TYPE_CHECKING

from ninelives_control.audit.canonical import WHOLE, canonical
from ninelives_control.audit.chain import Status
from ninelives_control.audit.early import set_mark
from ninelives_control.audit.floods import Floods
from ninelives_control.errors import AuditError, Code, CommandError
from ninelives_control.identity.identity import host_in

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ninelives_control.audit.log import Attempt, AuditLog
    from ninelives_grpc.clock import Clock

_LOGGER = logging.getLogger("ninelives_control")
_NOT_RUN = "so the command did not run; the log of the control plane says why"
_MOST_CALLERS = 100
"""Callers who ask too often that are told apart at a time; the rest have rows together."""
_HAS_RUN = "but the command has run; look at the state before you repeat it"


class Journal:
    """Keeps the audit of a dispatcher.

    Each method raises a `CommandError`, `audit_unavailable`, when the row cannot be written.
    """

    def __init__(self, audit: AuditLog, clock: Clock) -> None:
        """Write to this."""
        self._audit = audit
        self._floods = Floods(self._limited, clock, _MOST_CALLERS)

    def refused(self, attempt: Attempt, error: CommandError) -> CommandError:
        """Write down that a command did not run, and return what the caller is told.

        Of those that are too many, one row a second for each caller stands for all.
        """
        if error.code is Code.RATE_LIMITED:
            set_mark()  # also of one that is only counted
            self._floods.add(attempt.identity or host_in(attempt.peer), attempt)
            return error
        attempt = dataclasses.replace(attempt, rule=error.rule)
        self._write(attempt, Status.REFUSED, _NOT_RUN, reason=error.code)
        return error

    def settle(self) -> None:
        """Write down what was counted of those that were too many; called at any attempt."""
        self._floods.settle()

    def close(self) -> None:
        """Write down all that was counted."""
        self._floods.close()

    def intended(self, attempt: Attempt) -> None:
        """Write down that a command is about to run."""
        self._write(attempt, Status.INTENDED, _NOT_RUN)

    def repeated(self, attempt: Attempt) -> None:
        """Write down that the result of a command was told again."""
        self._write(attempt, Status.REPEATED, _NOT_RUN)

    def failed(self, attempt: Attempt, error: CommandError) -> CommandError:
        """Write down that a command failed, and return what the caller is told."""
        self._write(attempt, Status.FAILED, _HAS_RUN, reason=error.code)
        return error

    def succeeded(self, attempt: Attempt, result: BaseModel) -> None:
        """Write down that a command succeeded, with the old and new value if it tells them."""
        told = [name for name in ("old", "new") if hasattr(result, name)]
        values = {name: canonical(getattr(result, name), WHOLE) for name in told}
        self._write(attempt, Status.SUCCEEDED, _HAS_RUN, **values)

    def _limited(self, attempt: Attempt, count: int) -> None:
        attempt = dataclasses.replace(attempt, arguments=json.dumps({"attempts": count}))
        self._write(attempt, Status.REFUSED, _NOT_RUN, reason=Code.RATE_LIMITED)

    def _write(
        self,
        attempt: Attempt,
        status: Status,
        consequence: str,
        *,
        old: str = "",
        new: str = "",
        reason: str = "",
    ) -> None:
        set_mark()
        try:
            self._audit.append(attempt, status, old=old, new=new, reason=reason)
        except AuditError as error:
            _LOGGER.error(  # noqa: TRY400 - the error says it all
                "command %s (%s), %s: %s", attempt.command, attempt.id, status, error
            )
            message = f"the audit cannot be written, {consequence}"
            raise CommandError(Code.AUDIT_UNAVAILABLE, message) from None
