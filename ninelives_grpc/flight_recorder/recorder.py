"""Keep the last events and the state of every stack in a file of fixed size.

The file is mapped into memory: what is written there stays when the process dies, however it does.
"""

from __future__ import annotations

import logging
import mmap
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ninelives_grpc.errors import ConfigError
from ninelives_grpc.flight_recorder.hooks import Hooks
from ninelives_grpc.flight_recorder.layout import Header, packed
from ninelives_grpc.flight_recorder.state import event_data, state_data
from ninelives_grpc.forking import afresh_in_children
from ninelives_grpc.registry import default_registry
from ninelives_grpc.sinks.sink import LazySink

if TYPE_CHECKING:
    from ninelives_grpc.events import Event
    from ninelives_grpc.events.event import Pending, Values
    from ninelives_grpc.registry import Registry

_LOGGER = logging.getLogger("ninelives_grpc")
_SLOT = 1024
_SHORTEST, _LONGEST = 0.01, 1.0


class FlightRecorder(LazySink):
    """Records the stacks of a registry from `start` to `close`.

    with FlightRecorder("/var/tmp/payments.flight"):
        serve()

    The path of a call only appends to a queue; a thread writes. A forked child does not go on with
    it: give it a recorder of its own.

    Args:
        path: The file; one that is there is kept as `path.old`.
        events: How many of the last events it holds: 1 KiB each.
        state_size: Bytes for the state of all stacks; two of them are kept.
        interval: Seconds between two writes; nothing in the file is older when the process dies.
        registry: The stacks; by default `default_registry`.
        hooks: Whether to write a dated copy of the file on an unhandled exception and on SIGUSR2.
            Whoever handled these before still does.

    Attributes:
        lost: Events that came too many at once to be written.
        failed: Writes that failed.

    Raises:
        ConfigError: The file cannot be made, or a number makes no sense.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        events: int = 4096,
        state_size: int = 1 << 18,
        interval: float = 0.5,
        registry: Registry | None = None,
        hooks: bool = True,
    ) -> None:
        """Hold the settings; `start` begins."""
        self.path = Path(path)
        if events < 1 or state_size < _SLOT or not _SHORTEST <= interval <= _LONGEST:
            msg = (
                f"events must be at least 1, state_size at least {_SLOT} and interval from 0.01 to "
                f"1 s, not {events}, {state_size} and {interval:g}"
            )
            raise ConfigError(msg, path="FlightRecorder")
        self.lost = 0
        self.failed = 0
        self._registry = default_registry if registry is None else registry
        self._interval = interval
        self._header = Header(os.getpid(), time.time(), state_size, events, _SLOT)
        self._hooks = Hooks(self.dump, self._ask) if hooks else None
        self._queue: deque[Pending] = deque()
        self._asked = False
        self._map: mmap.mmap | None = None
        self._thread: threading.Thread | None = None
        self._woken = threading.Event()
        self._lock = threading.RLock()
        self._numbers = [0, 0]
        afresh_in_children(self)

    @property
    def dropped(self) -> int:  # type: ignore[override]
        """Events that are in no file, for figures of sinks."""
        return self.lost

    def start(self) -> Self:
        """Make the file, and begin to record.

        Raises:
            ConfigError: The file cannot be made.
        """
        self._header = self._header._replace(pid=os.getpid(), started=time.time())
        try:
            if self.path.is_file():
                self.path.replace(self.path.with_name(f"{self.path.name}.old"))
            self._map = _mapped(self.path, self._header)
        except OSError as error:
            msg = f"cannot be made: {error.strerror}; choose a place that can be written"
            raise ConfigError(msg, path=str(self.path)) from None
        self._woken.clear()
        self.flush()
        self._registry.attach(self)
        if self._hooks is not None:
            self._hooks.install()
        self._thread = threading.Thread(
            target=self._run, name="ninelives-flight-recorder", daemon=True
        )
        self._thread.start()
        return self

    def take(self, kind: type[Event], values: Values) -> None:
        """Take an event; a thread builds it, and writes it half a second later at most."""
        queue = self._queue
        queue.append((kind, values))
        if len(queue) > self._header.slots:
            # Only the last ones fit. Another thread may have taken it meanwhile.
            try:
                queue.popleft()
            except IndexError:
                return
            self.lost += 1

    def flush(self) -> None:
        """Write what has come, and the state of all stacks, now."""
        with self._lock:
            if self._map is None:
                return
            try:
                self._write(self._map)
            except Exception:  # the process must not suffer from its recorder
                self.failed += 1
                if self.failed == 1:
                    _LOGGER.exception("the flight recorder %s could not write", self.path)

    def dump(self, to: Path | str | None = None) -> Path:
        """Write everything, and copy the file.

        Args:
            to: The copy; by default the path of the file with the time behind it.

        Raises:
            OSError: The copy cannot be made.
        """
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        copy = self.path.with_name(f"{self.path.name}.{moment}") if to is None else Path(to)
        with self._lock:
            self.flush()
            data = self.path.read_bytes() if self._map is None else self._map[:]
        part = copy.with_name(f"{copy.name}.part")
        part.write_bytes(data)
        part.replace(copy)
        return copy

    def close(self) -> None:
        """Write the last of it, and let go of the file, which stays; may be called twice."""
        self._registry.detach(self)
        if self._hooks is not None:
            self._hooks.remove()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._woken.set()
            thread.join()
        with self._lock:
            self.flush()
            if self._map is not None:
                self._map.close()
                self._map = None

    def start_afresh(self) -> None:
        """Stop: the file belongs to the parent."""
        self._lock = threading.RLock()
        self._woken = threading.Event()
        self._queue = deque()
        self._map = None
        self._thread = None
        self._registry.detach(self)
        if self._hooks is not None:
            self._hooks.remove()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _ask(self) -> None:
        """Have the thread make a copy; a signal handler must not do it itself."""
        self._asked = True
        self._woken.set()

    def _run(self) -> None:
        while self._thread is threading.current_thread():
            self._woken.wait(self._interval)
            self._woken.clear()
            self.flush()
            if self._asked:
                self._asked = False
                try:
                    _LOGGER.warning("the flight recorder was copied to %s", self.dump())
                except OSError:
                    _LOGGER.exception("the flight recorder could not be copied")

    def _write(self, memory: mmap.mmap) -> None:
        header, now = self._header, time.time()
        taken = [self._queue.popleft() for _ in range(len(self._queue))]
        for kind, values in taken:
            self._numbers[1] += 1
            number = self._numbers[1]
            data = event_data(kind.from_values(values), header.slot_size)
            _put(memory, header.slot_at(number), packed(number, now, data))
        self._numbers[0] += 1
        number = self._numbers[0]
        data = state_data(self._registry, header.state_size, lost=self.lost)
        _put(memory, header.state_at(number), packed(number, time.time(), data))


def _put(memory: mmap.mmap, at: int, data: bytes) -> None:
    memory[at : at + len(data)] = data


def _mapped(path: Path, header: Header) -> mmap.mmap:
    """Make a file with room for everything, and map it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        # A hole would end the process by SIGBUS when the disk is full.
        os.posix_fallocate(file, 0, header.size)
        memory = mmap.mmap(file, header.size)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(file)
    _put(memory, 0, header.to_bytes())
    return memory
