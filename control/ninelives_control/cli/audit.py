"""Verify, read, export and prune the audit, and make keys to sign it with."""

from __future__ import annotations

import dataclasses
import getpass
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ninelives_control.audit import verification
from ninelives_control.audit.chain import Anchor
from ninelives_control.audit.exports import Export, line_of
from ninelives_control.audit.log import AuditFile, AuditLog, EntryFilter, Outcome, changes_of
from ninelives_control.cli.group import Exit, Failure
from ninelives_control.cli.show import Form, form_option, show_table
from ninelives_control.errors import AuditError
from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ninelives_control.audit.chain import Verification
    from ninelives_control.audit.log import Entry
    from ninelives_control.audit.verification import SignedRows

_COLUMNS = ("seq", "time", "identity", "command", "status", "old", "new", "reason", "arguments")
_SQLITE = b"SQLite format 3\0"
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _AnchorType(click.ParamType[Anchor]):
    name = "SEQ:HASH"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> Anchor:
        try:
            return Anchor.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _MomentType(click.ParamType[datetime]):
    name = "TIME"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail(f"must be a time such as 2026-11-27T14:02:11Z, not {value!r}", param, ctx)
        return moment


class _AgeType(click.ParamType[timedelta]):
    name = "AGE"

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([0-9]{1,5})([dhm])", value)
        if found is None:
            self.fail(f"must be days, hours or minutes, such as 90d, not {value!r}", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


def _key_option(function: Callable[..., None]) -> Callable[..., None]:
    text = "A file that holds the secret it was sealed with."
    return click.option("--key-file", type=_FILE, help=text)(function)


@click.group("audit")
def cli() -> None:
    """Verify and read the audit, in which every command is written down."""


@cli.command("key")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def make_key(file: Path) -> None:
    """Make a key to sign audits with, FILE, and the one to verify them with, FILE.pub."""
    from ninelives_control.audit import heads  # noqa: PLC0415 - it takes a while to import

    try:
        public = heads.make_key(file)
    except OSError as error:
        raise Failure(f"{error.filename or file}: {error.strerror}", Exit.INVALID) from None
    click.echo(f"{file} is for ControlPlane(audit_signing_key=…), and for nobody else to read")
    click.echo(f"{public} is for `ninelives audit verify --public-key`, and for everybody")


@cli.command("verify")
@click.argument("files", type=_FILE, nargs=-1, required=True, metavar="FILE…")
@click.option(
    "--anchor", "anchors", type=_AnchorType(), multiple=True, help="A row known to have been there."
)
@_key_option
@click.option(
    "--public-key",
    "public_keys",
    type=_FILE,
    multiple=True,
    help="A key that its ends were signed with: finds rows cut off or written anew.",
)
@click.option("--heads", type=_FILE, help="The signed ends; by default the last FILE with .heads.")
def verify(
    files: tuple[Path, ...],
    anchors: tuple[Anchor, ...],
    key_file: Path | None,
    public_keys: tuple[Path, ...],
    heads: Path | None,
) -> None:
    """Walk along the chain of FILE, and name the first row that does not fit.

    FILE is an audit or an export of one; several are parts of one chain, oldest first.
    """
    key = _secret(key_file)
    parts = [AuditFile(file) if _is_sqlite(file) else Export(file) for file in files]
    try:
        signed = _signed(files[-1], public_keys, heads)
        found = verification.verify(parts, key=key, anchors=anchors, signed=signed)
    except ConfigError as error:
        raise Failure(str(error), Exit.INVALID) from None
    except AuditError as error:
        raise Failure(str(error), Exit.FAILED) from None
    if found.finding is not None:
        names = ", ".join(str(file) for file in files)
        raise Failure(f"{names}: {found.finding.message}", Exit.FAILED)
    _tell(found, signed)


@cli.command("list")
@click.argument("file", type=_FILE)
@click.option("--identity", help="Name of who asked.")
@click.option("--command", help="Name of the command.")
@click.option("--path", help="Pattern of an address that it acted on, such as 'shop/**'.")
@click.option("--status", type=click.Choice([str(each) for each in Outcome]), help="How it ended.")
@click.option("--transport", help="By which way it came.")
@click.option("--since", type=_MomentType(), help="Not before then, in RFC 3339.")
@click.option("--until", type=_MomentType(), help="Before then, in RFC 3339.")
@click.option("--after", default=0, help="Leave out entries up to that number.")
@click.option("--limit", default=100, show_default=True, help="Entries to print at most.")
@form_option
def list_entries(
    file: Path,
    identity: str | None,
    command: str | None,
    path: str | None,
    status: str | None,
    transport: str | None,
    since: datetime | None,
    until: datetime | None,
    after: int,
    limit: int,
    form: str,
) -> None:
    """Print the entries of FILE, one a command, oldest first."""
    wanted = EntryFilter(
        identity=identity,
        command=command,
        path=path,
        status=None if status is None else Outcome(status),
        transport=transport,
        since=since,
        until=until,
    )
    try:
        entries = AuditFile(file).entries(after=after, limit=limit, wanted=wanted)
    except AuditError as error:
        raise Failure(str(error), Exit.FAILED) from None
    if form == Form.JSON:
        click.echo(json.dumps([_whole(entry) for entry in entries], indent=2))
    elif entries:
        rows = [dataclasses.asdict(entry) for entry in entries]
        show_table([{name: row[name] for name in _COLUMNS} for row in rows])


@cli.command("export")
@click.argument("file", type=_FILE)
def export(file: Path) -> None:
    """Print all rows of FILE as JSON lines, which `ninelives audit verify` reads too."""
    try:
        with AuditFile(file).opened() as part:
            for row in part.rows:
                click.echo(line_of(row))
    except AuditError as error:
        raise Failure(str(error), Exit.FAILED) from None


@cli.command("prune")
@click.argument("file", type=_FILE)
@click.option(
    "--keep", type=_AgeType(), required=True, help="Up to which age entries stay, such as 90d."
)
@click.option(
    "--to",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The file of JSON lines to move the older ones to.",
)
@_key_option
@click.option("--signing-key", type=_FILE, help="The private key that its ends are signed with.")
def prune(
    file: Path, keep: timedelta, to: Path, key_file: Path | None, signing_key: Path | None
) -> None:
    """Move old entries of FILE to another file; both go on to verify, also together.

    The control plane may be running meanwhile.
    """
    from ninelives_control.audit import heads, retention  # noqa: PLC0415 - takes a while to import

    if signing_key is None and heads.beside(file).exists():
        msg = f"the ends of {file} are signed: give the key by --signing-key"
        raise Failure(msg, Exit.INVALID)
    if not _is_sqlite(file):
        raise Failure(f"{file} is no audit; what was exported is not pruned", Exit.INVALID)
    try:
        signer = None if signing_key is None else heads.Signer(signing_key)
        signed = None if signer is None else heads.HeadFile(file, signer)
        log = AuditLog(file, key=_secret(key_file), heads=signed)
        try:
            gone = retention.prune(
                log,
                before=datetime.now(UTC) - keep,
                to=to,
                signed=signed,
                identity=getpass.getuser(),
            )
        finally:
            log.close()
    except FileExistsError:
        raise Failure(f"{to} is there already; name another file", Exit.INVALID) from None
    except ConfigError as error:
        raise Failure(str(error), Exit.INVALID) from None
    except AuditError as error:
        raise Failure(str(error), Exit.FAILED) from None
    if gone is None:
        click.echo("nothing is as old as that")
    else:
        click.echo(f"ok: {gone.rows} rows moved to {to}; anchor {gone.last}")


def _secret(key_file: Path | None) -> bytes | None:
    return None if key_file is None else key_file.read_bytes()


def _is_sqlite(file: Path) -> bool:
    with file.open("rb") as stream:
        begin = stream.read(len(_SQLITE))
    return begin == _SQLITE


def _signed(last: Path, keys: Sequence[Path], given: Path | None) -> SignedRows | None:
    """Return what was signed, checked with the public keys; None if that is not asked for."""
    if not keys:
        if given is not None:
            raise ConfigError("is of use with --public-key only", path="--heads")
        return None
    from ninelives_control.audit import heads  # noqa: PLC0415 - it takes a while to import

    file = given or heads.beside(last)
    found = heads.read(file, [heads.public_key(key) for key in keys])
    if not found:
        raise AuditError(f"the heads {file} are empty: nothing was signed")
    return verification.SignedRows(
        heads=[head.anchor for head in found],
        pruned=[head.anchor for head in found if head.kind == heads.Kind.PRUNED],
    )


def _tell(found: Verification, signed: SignedRows | None) -> None:
    if found.head is None:
        click.echo("ok: it is empty")
        return
    count = found.head.seq - (found.start.seq if found.start else 0)
    after = f" after row {found.start.seq}" if found.start else ""
    told = f"; {len(signed.heads)} signed heads" if signed else ""
    click.echo(f"ok: {count} rows{after}{told}; anchor {found.head}")
    for unfinished in found.unfinished:
        click.echo(f"no outcome is known of the command {unfinished}")


def _whole(entry: Entry) -> dict[str, object]:
    """Return an entry as JSON has it, with what it changed."""
    values = dataclasses.asdict(entry)
    changes = [dataclasses.asdict(change) for change in changes_of(entry)]
    return values | {"arguments": json.loads(entry.arguments), "changes": changes}
