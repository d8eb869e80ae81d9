"""The ends of a chain, signed from time to time and kept beside it: `audit.sqlite.heads`.

Whoever can write the audit can make a chain anew that fits; but not one that ends with rows that
were signed, without the private key. Everybody can check that with the public one. Lines that were
cut off the file of heads show only against a copy: the log of the control plane has each line too.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import os
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from ninelives_control.audit.chain import Anchor
from ninelives_control.errors import AuditError
from ninelives_grpc.clock import rfc3339
from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

INTERVAL = 60.0
"""Seconds after which the end is signed, if it has moved."""
_CONTEXT = b"ninelives audit head 1\n"
"""Stands before what is signed, so that the key can not be made to sign anything else."""


class Kind(StrEnum):
    """What is said of a row."""

    HEAD = "head"
    """It was the last one."""
    PRUNED = "pruned"
    """All up to it was moved elsewhere, on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """A row that was there, and who says so.

    Attributes:
        kind: What is said of it.
        seq: Its number.
        hash: Its hash.
        time: When that was said, in RFC 3339, UTC.
        key: Which key has signed it: the beginning of a hash of the public one.
        signature: In base64.
    """

    kind: Kind
    seq: int
    hash: str
    time: str
    key: str
    signature: str

    @property
    def anchor(self) -> Anchor:
        """The row."""
        return Anchor(self.seq, self.hash)

    def __str__(self) -> str:
        """Show it as it stands in the file."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))


class Signer:
    """Signs with the private key of a file that `ninelives audit key` has made."""

    def __init__(self, path: Path) -> None:
        """Read the key.

        Raises:
            ConfigError: It is none; names the file.
        """
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", path=str(path)) from None
        except (TypeError, ValueError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            msg = "is no key for the audit; make one with `ninelives audit key`"
            raise ConfigError(msg, path=str(path))
        self._key = key
        self._id = _id(key.public_key())

    def sign(self, kind: Kind, row: Anchor, time: str) -> SignedHead:
        """Say of a row that it was there."""
        signature = self._key.sign(_content(kind, row, time))
        return SignedHead(
            kind=kind,
            seq=row.seq,
            hash=row.hash,
            time=time,
            key=self._id,
            signature=base64.b64encode(signature).decode(),
        )


class HeadFile:
    """The heads of an audit, to be added to."""

    def __init__(self, audit: Path, signer: Signer) -> None:
        """Use the file beside an audit."""
        self._path = beside(audit)
        self._signer = signer

    def add(self, row: Anchor, kind: Kind = Kind.HEAD) -> SignedHead:
        """Sign what is said of a row, and return when it is on the disk.

        Raises:
            OSError: It can not be written.
        """
        head = self._signer.sign(kind, row, rfc3339(datetime.now(UTC), "microseconds"))
        _append(self._path, head)
        return head


class Keeper:
    """Signs the end of an audit every so often, in a thread of its own, if it has moved."""

    def __init__(self, sign: Callable[[], object], interval: float = INTERVAL) -> None:
        """Call `sign()` every `interval` seconds."""
        self._sign = sign
        self._interval = interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ninelives-heads", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Call it no more."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self._sign()


def make_key(path: Path) -> Path:
    """Make a private key with mode 0600, and the public one beside it, whose path is returned.

    Raises:
        OSError: One of them is there already, or cannot be written.
    """
    key, public = Ed25519PrivateKey.generate(), path.with_name(f"{path.name}.pub")
    # Neither is made if one of them is there.
    if public.exists():
        raise FileExistsError(17, "File exists", str(public))
    _write_new(path, 0o600, key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    ))  # fmt: skip
    _write_new(public, 0o644, key.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    ))  # fmt: skip
    return public


def public_key(path: Path) -> Ed25519PublicKey:
    """Read a public key.

    Raises:
        ConfigError: It is none; names the file.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError):
        key = None
    if isinstance(key, Ed25519PublicKey):
        return key
    msg = "is no public key of an audit; `ninelives audit key FILE` makes one, FILE.pub"
    raise ConfigError(msg, path=str(path))


def beside(audit: Path) -> Path:
    """Return where the heads of an audit are."""
    return audit.with_name(f"{audit.name}.heads")


def read(path: Path, keys: Sequence[Ed25519PublicKey]) -> list[SignedHead]:
    """Return the heads of a file, all of which must be signed with one of these keys.

    Half a line, as a process leaves it that is cut short, is passed over.

    Raises:
        AuditError: The file cannot be read, or one of them is not; names its line.
    """
    known = {_id(key): key for key in keys}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        msg = f"the heads {path} cannot be read: {error.strerror}"
        raise AuditError(msg) from None
    return [
        head
        for number, line in enumerate(lines, 1)
        for head in _head(line, known, f"{path} line {number}")
    ]


def _append(path: Path, head: SignedHead) -> None:
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    with contextlib.closing(os.fdopen(file, "r+b", buffering=0)) as stream:
        size = os.fstat(file).st_size
        # A process that was cut short may have left half a line.
        torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        line = (b"\n" if torn else b"") + f"{head}\n".encode()
        if stream.write(line) != len(line):
            raise OSError(28, "No space left on device", str(path))
        os.fsync(file)


def _head(line: str, known: dict[str, Ed25519PublicKey], place: str) -> Iterator[SignedHead]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return
    try:
        head = SignedHead(**values)
        content = _content(Kind(head.kind), head.anchor, head.time)
        known[head.key].verify(base64.b64decode(head.signature, validate=True), content)
    except KeyError:
        raise AuditError(f"{place} is signed with another key than those given") from None
    except (TypeError, ValueError, InvalidSignature):
        raise AuditError(f"{place} was edited: the signature does not fit") from None
    yield head


def _content(kind: Kind, row: Anchor, time: str) -> bytes:
    return _CONTEXT + json.dumps([kind, row.seq, row.hash, time]).encode()


def _id(key: Ed25519PublicKey) -> str:
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def _write_new(path: Path, mode: int, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(file, "wb") as stream:
        stream.write(content)
