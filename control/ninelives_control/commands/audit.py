"""What was asked for before, by whom, and what came of it."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from ninelives_control.audit.canonical import canonical
from ninelives_control.audit.entries import Entry, EntryFilter, Outcome, changes_of
from ninelives_control.command import Context, Effect, command
from ninelives_control.commands.events import Moment
from ninelives_control.errors import AuditError, Code, CommandError, shortened
from ninelives_control.model import MAX_PAGE, MAX_TEXT, Arguments, ParameterValue, Result, Text

_MAX_NUMBER = 2**53


class GetAudit(Arguments):
    """Which entries to return: those that fit all that is given."""

    identity: Text | None = Field(default=None, description="Name of who asked; all.")
    command: Text | None = Field(default=None, description="Name of the command; all.")
    path: Text | None = Field(
        default=None,
        description="Pattern of an address that it was to act on or changed, such as `shop/**`.",
    )
    status: Outcome | None = Field(default=None, description="How it ended; all.")
    transport: Text | None = Field(default=None, description="By which way it came; all.")
    since: Moment | None = Field(default=None, description="Not before then, in RFC 3339.")
    until: Moment | None = Field(default=None, description="Before then, in RFC 3339.")
    after: int = Field(
        default=0, ge=0, le=_MAX_NUMBER, description="Only those after that `seq`; `next` before."
    )
    limit: int = Field(default=100, ge=1, le=MAX_PAGE, description="Entries to return at most.")


class AuditChange(Result):
    """A value that was changed."""

    path: str = Field(description="The address of what has it; empty where none was named.")
    old: ParameterValue = Field(description="The value before.")
    new: ParameterValue = Field(description="The value after.")


class AuditEntry(Result):
    """A command that was asked for."""

    seq: int = Field(description="Its number in the audit.")
    time: str = Field(description="When it was asked for, in RFC 3339, UTC.")
    id: str = Field(description="Its id.")
    identity: str = Field(description="Name of who asked; empty if unknown.")
    role: str = Field(description="Role of who asked; empty if unknown.")
    proof: str = Field(description="How it is known who asked, such as `token`.")
    transport: str = Field(description="By which way it came, such as `grpc`.")
    peer: str = Field(description="Address of who asked; empty in the process itself.")
    command: str = Field(description="Its name, as it was asked for.")
    arguments: str = Field(description="Its arguments in JSON, without secrets.")
    status: Outcome = Field(description="How it ended.")
    changes: list[AuditChange] = Field(description="What it changed.")
    reason: str = Field(description="The code of the error; empty where there was none.")
    rule: str = Field(description="The rule that allowed or refused it; empty where none did.")


class Audit(Result):
    """Entries of the audit, oldest first."""

    entries: list[AuditEntry] = Field(description="The first ones that fit.")
    next: int = Field(description="Pass it as `after` to go on from here.")
    more: bool = Field(description="Whether there may be more already.")


@command(Effect.READ)
def get_audit(arguments: GetAudit, context: Context) -> Audit:
    """Return what was asked for before, by whom, and what came of it, oldest first."""
    wanted = EntryFilter(
        identity=arguments.identity,
        command=arguments.command,
        path=arguments.path,
        status=arguments.status,
        transport=arguments.transport,
        since=_moment(arguments.since),
        until=_moment(arguments.until),
    )
    try:
        page = context.audit.page(after=arguments.after, limit=arguments.limit, wanted=wanted)
    except AuditError as error:
        raise CommandError(Code.AUDIT_UNAVAILABLE, str(error)) from None
    return Audit(entries=[_told(entry) for entry in page.entries], next=page.next, more=page.more)


def _told(entry: Entry) -> AuditEntry:
    return AuditEntry(
        seq=entry.seq,
        time=entry.time,
        id=entry.id,
        identity=entry.identity,
        role=entry.role,
        proof=entry.proof,
        transport=entry.transport,
        peer=entry.peer,
        command=entry.command,
        arguments=entry.arguments,
        status=entry.status,
        changes=[
            AuditChange(path=change.path, old=_plain(change.old), new=_plain(change.new))
            for change in changes_of(entry)
        ],
        reason=entry.reason,
        rule=entry.rule,
    )


def _plain(value: object) -> ParameterValue:
    """Return a value as it is; what is no plain value as the JSON of it."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return shortened(value if isinstance(value, str) else canonical(value), MAX_TEXT)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
