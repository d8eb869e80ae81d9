"""Refusals of what never became a command, in the audit as well, but no more than it can bear.

A transport turns away what comes from a page of another origin, is too large, or is nothing that it
knows. The first of a kind is written down at once, and those like it that follow as one row a
second, with their number: a flood costs a row a second, and not a disk.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ninelives_control.audit.canonical import canonical_arguments
from ninelives_control.audit.chain import Status
from ninelives_control.audit.floods import Floods
from ninelives_control.audit.log import Attempt
from ninelives_control.errors import AuditError, shortened
from ninelives_control.identity.identity import host_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ninelives_control.audit.log import AuditLog
    from ninelives_control.errors import Code
    from ninelives_grpc.clock import Clock

_LOGGER = logging.getLogger("ninelives_control")
MOST_KINDS = 50
"""Kinds that are told apart within a second; those beyond count as one."""
_LONGEST = 200


class Mark:
    """Whether something about a request has been written down.

    Attributes:
        written: Whether.
    """

    def __init__(self, outer: Mark | None) -> None:
        """Begin with nothing written; what is, counts for the outer one too."""
        self.written = False
        self._outer = outer

    def set(self) -> None:
        """Say that something has been written down."""
        self.written = True
        if self._outer is not None:
            self._outer.set()


_MARK: ContextVar[Mark | None] = ContextVar("ninelives_mark", default=None)


@contextlib.contextmanager
def marked() -> Iterator[Mark]:
    """Find out whether what happens within is written down, in threads and tasks of it too."""
    mark = Mark(_MARK.get())
    token = _MARK.set(mark)
    try:
        yield mark
    finally:
        _MARK.reset(token)


def set_mark() -> None:
    """Say that something about the present request is written down."""
    mark = _MARK.get()
    if mark is not None:
        mark.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyRefusal:
    """What was turned away.

    Attributes:
        transport: By which way it came.
        request: What was asked for, as far as that is known, such as `GET /metrics`.
        answer: What the client was told, in the words of its protocol, such as `421`.
        code: The code that fits best.
        peer: Address of the client.
    """

    transport: str
    request: str
    answer: str
    code: Code
    peer: str

    @property
    def kind(self) -> tuple[str, str, str]:
        """What those have in common that are counted together."""
        return (self.transport, self.answer, host_in(self.peer))


class EarlyRefusals:
    """Writes them down, those that are only counted as well once their second is over.

    Args:
        audit: Where.
        clock: What tells when a second is over.
    """

    def __init__(self, audit: AuditLog, clock: Clock) -> None:
        """Begin with none."""
        self._audit = audit
        self._clock = clock
        self._floods = Floods(self._write, clock, MOST_KINDS)
        self._lock = threading.Lock()
        self._alarms: dict[tuple[str, str, str], Callable[[], None]] = {}
        self._worker: ThreadPoolExecutor | None = None
        self._closed = False

    def add(self, refusal: EarlyRefusal) -> None:
        """Write one down, or count it; when the audit can not be written, that is logged."""
        set_mark()
        if self._closed:
            self._write(refusal, 1)
            return
        kind = refusal.kind
        due = self._floods.add(kind, refusal)
        if due is not None:
            with self._lock:
                self._alarms[kind] = self._clock.at(due, lambda: self._due(kind))

    def close(self) -> None:
        """Write down what was counted only, and count no more."""
        with self._lock:
            self._closed = True
            worker, self._worker = self._worker, None
            alarms, self._alarms = self._alarms, {}
        for call_off in alarms.values():
            call_off()
        if worker is not None:
            worker.shutdown()
        self._floods.close()

    def _due(self, kind: tuple[str, str, str]) -> None:
        """Hand over to a thread that may block, which that of the clock must not."""
        with self._lock:
            self._alarms.pop(kind, None)
            if self._closed:
                return
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, thread_name_prefix="ninelives-refusals")
            self._worker.submit(self._floods.settle)

    def _write(self, refusal: EarlyRefusal, count: int) -> None:
        arguments = {
            "request": shortened(refusal.request, _LONGEST),
            "answer": refusal.answer,
            "count": count,
        }
        attempt = Attempt(
            id=uuid.uuid4().hex,
            transport=refusal.transport,
            command=refusal.transport,
            arguments=canonical_arguments(arguments),
            peer=refusal.peer,
        )
        try:
            self._audit.append(attempt, Status.REFUSED, reason=refusal.code)
        except AuditError as error:
            _LOGGER.error("%s was refused: %s", refusal.transport, error)  # noqa: TRY400 - no trace
