"""A request stream that can be sent again, as long as what was sent fits the buffer."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ninelives_grpc.call import Call

T = TypeVar("T")

MAX_BYTES = 256 * 1024
MAX_MESSAGES = 1000


def size_of(message: object) -> int:
    """Return about how many bytes a message holds in memory or on the wire."""
    byte_size = getattr(message, "ByteSize", None)
    if callable(byte_size):
        return int(byte_size())
    return len(message) if isinstance(message, bytes | str) else sys.getsizeof(message)


class Buffer(Generic[T]):
    """Messages that were sent, kept until the call is committed.

    When they outgrow the buffer, the call is marked as committed: it can not be repeated any more.
    """

    def __init__(self, call: Call) -> None:
        """Keep what is sent for this call."""
        self.messages: list[T] = []
        self._call = call
        self._bytes = 0

    def keep(self, message: T) -> None:
        """Keep one more."""
        self.messages.append(message)
        self._bytes += size_of(message)
        if self._bytes > MAX_BYTES or len(self.messages) > MAX_MESSAGES:
            self._call.committed = True


class Replay(Generic[T]):
    """Hands the messages of one iterator to one attempt after the other.

    gRPC reads requests in a thread of its own for each attempt. That of an abandoned attempt may
    still be waiting inside the application's iterator: what it gets there goes to the buffer, and so
    to the attempt that is under way.
    """

    def __init__(self, source: Iterator[T], call: Call) -> None:
        """Read from `source`, once."""
        self._source = source
        self._call = call
        self._buffer: Buffer[T] = Buffer(call)
        self._dropped = 0
        self._changed = threading.Condition()
        self._pulling = False
        self._ended: BaseException | None = None

    def close(self) -> None:
        """End all attempts that wait for a message: the call is over."""
        with self._changed:
            if self._ended is None:
                self._ended = StopIteration()
            self._changed.notify_all()

    def attempt(self) -> Iterator[T]:
        """Return the messages from the first one on, for one attempt."""
        position = 0
        while True:
            with self._changed:
                message = self._take(position)
                position += 1
            if message is _END:
                if self._ended is not None and not isinstance(self._ended, StopIteration):
                    raise self._ended
                return
            yield message  # type: ignore[misc]

    def _take(self, position: int) -> T | object:
        """Return the message at a position, from the buffer or the source; the lock is held."""
        while True:
            kept = self._buffer.messages
            if position - self._dropped < len(kept):
                message = kept[position - self._dropped]
                if self._call.committed:
                    # Nobody will ask for it again.
                    del kept[: position - self._dropped + 1]
                    self._dropped = position + 1
                return message
            if self._ended is not None:
                return _END
            if self._pulling:
                self._changed.wait()
            else:
                self._pull()

    def _pull(self) -> None:
        """Ask the source for one message, without the lock: it may take its time."""
        self._pulling = True
        self._changed.release()
        try:
            message, ended = next(self._source), None
        except BaseException as error:  # noqa: BLE001 - it belongs to every attempt
            ended = error
        finally:
            self._changed.acquire()
            self._pulling = False
            self._changed.notify_all()
        if ended is None:
            self._buffer.keep(message)
            return
        if self._ended is None:
            self._ended = ended
        if not isinstance(ended, StopIteration):
            # The stream can not be had again.
            self._call.committed = True


_END = object()
