"""Commands as lines of JSON, and what comes of them likewise: one after another, in order.

A line is `{"id", "cmd", "args", "auth"}`, of which only `cmd` must be there, and is answered by
`{"id", "ok": true, "result"}` or `{"id", "ok": false, "error": {"code", "message", "field"}}`, to
which `conflict` adds `revision`, and `permission_denied` adds `rule`. The next line is read when
this one is answered, so that what depends on it may follow at once.

`watch` is answered by the state, and then by `{"id", "event"}` for each event, and `{"id",
"dropped"}` where reading was too slow, between the answers to other lines; until the input ends,
or `cancel` comes with the same id. An error with that id ends it, too.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ninelives_control import plain_json
from ninelives_control.errors import Code, CommandError
from ninelives_grpc.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_LOGGER = logging.getLogger("ninelives_control")
LONGEST = 2**20
"""Bytes that a line may have."""
_LONGEST_ID = 200
_PART = 2**16
_WATCH, _CANCEL = "watch", "cancel"
"""What is asked for by lines only, whatever commands there are."""
_FIELDS = ("id", "cmd", "args", "auth")

Id = str | int | None


class Reader(Protocol):
    """Where lines come from, such as `sys.stdin.buffer`."""

    def readline(self, limit: int, /) -> bytes:
        """Return a line with its end, or so many bytes of it; b"" at the end."""


class Writer(Protocol):
    """Where lines go to, such as `sys.stdout.buffer`."""

    def write(self, line: bytes, /) -> object:
        """Write a line."""

    def flush(self) -> object:
        """Send what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a line asks for.

    Attributes:
        id: A word or number of the client's own, which comes back with each answer.
        cmd: The name of the command; "" if it can not be known.
        args: Its arguments.
        auth: The token that is shown, or None.
    """

    id: Id = None
    cmd: str = ""
    args: Mapping[str, object] = field(default_factory=dict)
    auth: str | None = field(default=None, repr=False)

    @property
    def names_a_command(self) -> bool:
        """Whether it is known which command is meant, and not something of lines only."""
        return self.cmd not in {"", _WATCH, _CANCEL}


class Followed(Protocol):
    """What a watch tells.

    Attributes:
        first: What it tells first.
    """

    first: Mapping[str, Any]

    def take(self) -> Sequence[Mapping[str, Any]]:
        """Return what has come since the last time, without waiting.

        Raises:
            CommandError: It has ended.
        """

    def close(self) -> None:
        """End it."""


class Desk(Protocol):
    """Where commands are handed in."""

    def execute(self, request: Request) -> Mapping[str, Any]:
        """Run a command and return its result.

        Raises:
            CommandError: It did not run, or failed.
        """

    def refuse(self, request: Request, error: CommandError) -> CommandError:
        """Return what to tell of a line that is not as it should be."""

    def watch(self, request: Request, notify: Callable[[], None]) -> Followed:
        """Begin to watch; calls `notify` from any thread when there is something to take.

        Raises:
            CommandError: It can not be watched.
        """


class Session:
    """Answers the lines of one reader; it is used once.

    Args:
        desk: Where commands are handed in.
        reader: Where lines come from.
        writer: Where answers go to, and nothing else may.
    """

    def __init__(self, desk: Desk, reader: Reader, writer: Writer) -> None:
        """Hold them."""
        self._desk = desk
        self._reader = reader
        self._writer = writer
        self._writing = threading.Lock()
        self._watches = _Watches(self._write)

    def run(self) -> None:
        """Answer each line; return after the last answer, when the input has ended.

        Raises:
            OSError: It can not be read, or nobody takes the answers any more.
        """
        try:
            for line in self._lines():
                self._answer(line)
                if self._watches.broken is not None:
                    break
        finally:
            self._watches.close()
        if self._watches.broken is not None:
            raise self._watches.broken

    def _lines(self) -> Iterator[bytes]:
        """Yield lines; of one that is too long the beginning, which is too long as well."""
        while line := self._reader.readline(LONGEST + len(b"\r\n")):
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = self._reader.readline(_PART)
            if line.strip():
                yield line

    def _answer(self, line: bytes) -> None:
        request, error = parse(line)
        try:
            if error is not None:
                raise self._desk.refuse(request, error)
            if request.cmd == _WATCH:
                self._watches.open(request, self._desk)
                return
            if request.cmd == _CANCEL:
                result = self._watches.cancel(request)
            else:
                result = self._desk.execute(request)
        except CommandError as refused:
            self._write(_failed(request.id, refused))
        else:
            self._write({"id": request.id, "ok": True, "result": result})

    def _write(self, answer: Mapping[str, Any]) -> None:
        try:
            line = json.dumps(answer, separators=(",", ":"), allow_nan=False)
        except (ValueError, TypeError, RecursionError):
            _LOGGER.exception("an answer could not be sent as a line")
            message = "the answer could not be sent; the log of the control plane says why"
            line = json.dumps(_failed(answer["id"], CommandError(Code.INTERNAL, message)))
        with self._writing:
            self._writer.write(line.encode() + b"\n")
            self._writer.flush()


class _Watches:
    """The watches of a session, told by one thread, which starts with the first."""

    def __init__(self, write: Callable[[Mapping[str, Any]], None]) -> None:
        self.broken: OSError | None = None
        self._write = write
        self._open: dict[Id, Followed] = {}
        # Held while events are written: after the answer to a cancel there are none.
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def open(self, request: Request, desk: Desk) -> None:
        if request.id is None:
            message = "a watch needs an id, by which it can be cancelled"
            raise CommandError(Code.INVALID_ARGUMENT, message, field="id")
        if request.id in self._open:
            message = f"there is a watch with the id {request.id!r}; cancel it, or take another id"
            raise CommandError(Code.CONFLICT, message, field="id")
        followed = desk.watch(request, self._woken.set)
        with self._lock:
            self._open[request.id] = followed
            self._write({"id": request.id, "ok": True, "result": followed.first})
        self._woken.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._tell, name="ninelives-lines", daemon=True)
            self._thread.start()

    def cancel(self, request: Request) -> Mapping[str, Any]:
        with self._lock:
            followed = self._open.pop(request.id, None)
        if followed is None:
            message = f"there is no watch with the id {request.id!r}"
            raise CommandError(Code.NOT_FOUND, message, field="id")
        followed.close()
        return {}

    def close(self) -> None:
        self._closed = True
        self._woken.set()
        if self._thread is not None:
            self._thread.join()
        for followed in self._open.values():
            followed.close()

    def _tell(self) -> None:
        while not self._closed:
            self._woken.wait()
            self._woken.clear()
            try:
                with self._lock:
                    for number, followed in tuple(self._open.items()):
                        self._tell_one(number, followed)
            except OSError as error:
                self.broken = error
                return

    def _tell_one(self, number: Id, followed: Followed) -> None:
        try:
            for message in followed.take():
                if message["dropped"]:
                    self._write({"id": number, "dropped": message["dropped"]})
                for event in message["events"]:
                    self._write({"id": number, "event": event})
        except CommandError as error:
            del self._open[number]
            followed.close()
            self._write(_failed(number, error))


def parse(line: bytes) -> tuple[Request, CommandError | None]:
    """Return what a line asks for, as far as it can be known, and what is wrong with it."""
    if len(line.removesuffix(b"\n").removesuffix(b"\r")) > LONGEST:
        message = f"the line has more than {LONGEST} bytes; send less at a time"
        return Request(), CommandError(Code.INVALID_ARGUMENT, message)
    try:
        data: object = plain_json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Request(), _wrong(f"the line is not UTF-8, at byte {error.start + 1}")
    except json.JSONDecodeError as error:
        return Request(), _wrong(f"the line is not JSON: {error.msg}, at character {error.pos + 1}")
    except ValueError as error:
        return Request(), _wrong(f"the line is not JSON that can be taken: {error}")
    if not isinstance(data, dict):
        return Request(), _wrong('the line must be an object, {"id", "cmd", "args", "auth"}')
    return _taken(data)


def _taken(data: dict[str, Any]) -> tuple[Request, CommandError | None]:
    """Take what is as it should be, and say the first thing that is not."""
    wrong = [_wrong(str(UnknownNameError("field", name, _FIELDS)), name) for name in data]
    wrong = [error for error in wrong if error.field not in _FIELDS]
    taken: dict[str, Any] = {}
    for name, allowed, said in (
        ("id", _is_id, f"a text of up to {_LONGEST_ID} characters, a whole number, or null"),
        ("cmd", _is_name, "the name of a command"),
        ("args", lambda value: isinstance(value, dict), "an object"),
        ("auth", lambda value: value is None or isinstance(value, str), "a token, or null"),
    ):
        if name in data and allowed(data[name]):
            taken[name] = data[name]
        elif name in data:
            wrong.append(_wrong(f"{name} must be {said}", name))
    if "cmd" not in data:
        wrong.append(_wrong("cmd is missing", "cmd"))
    return Request(**taken), wrong[0] if wrong else None


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_ID
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _wrong(message: str, name: str = "") -> CommandError:
    return CommandError(Code.INVALID_ARGUMENT, message, field=name)


def _failed(number: Id, error: CommandError) -> dict[str, Any]:
    return {"id": number, "ok": False, "error": error.told()}
