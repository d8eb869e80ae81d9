"""A request stream that can be sent again, as long as what was sent fits the buffer."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Generic, Self, TypeVar

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
    """The messages of a stream by position, kept until the call is committed.

    When they outgrow the buffer, the call is marked as committed: it can not be repeated any more.

    Attributes:
        end: Position after the last message there is.
    """

    def __init__(self, call: Call) -> None:
        """Keep what is sent for this call."""
        self._call = call
        self._messages: list[T] = []
        self._start = 0
        self._bytes = 0
        self.end = 0

    def keep(self, message: T) -> None:
        """Keep one more."""
        self._messages.append(message)
        self.end += 1
        self._bytes += size_of(message)
        if self._bytes > MAX_BYTES or self.end > MAX_MESSAGES:
            self._call.committed = True

    def take(self, position: int) -> T:
        """Return a message; once nothing can be repeated, forget it and those before it."""
        index = position - self._start
        message = self._messages[index]
        if self._call.committed:
            del self._messages[: index + 1]
            self._start = position + 1
        return message


class Replay(Generic[T]):
    """Hands the messages of one iterator to one attempt after the other.

    gRPC reads requests in a thread of its own for each attempt. That of an attempt that has ended
    may still be waiting inside the application's iterator: what it gets there goes to the buffer,
    and so to the attempt that is under way.
    """

    def __init__(self, source: Iterator[T], call: Call) -> None:
        """Read from `source`, once."""
        self.call = call
        self.buffer: Buffer[T] = Buffer(call)
        self.changed = threading.Condition()
        self.ended: BaseException | None = None
        self._source = source
        self._pulling = False

    def attempt(self) -> ReplayAttempt[T]:
        """Return the messages from the first one on, for one attempt."""
        return ReplayAttempt(self)

    def close(self) -> None:
        """End all attempts that wait for a message: the call is over."""
        with self.changed:
            self.ended = self.ended or StopIteration()
            self.changed.notify_all()

    def pull(self) -> None:
        """Get another message, or wait while somebody else does; the lock is held."""
        if self._pulling:
            self.changed.wait()
            return
        self._pulling = True
        # Without the lock: the application's iterator may take its time.
        self.changed.release()
        ended: BaseException | None = None
        try:
            message = next(self._source)
        except StopIteration:
            # Not the one that was raised: its traceback leads back to the messages.
            ended = StopIteration()
        except BaseException as error:  # noqa: BLE001 - it belongs to every attempt
            ended = error
        finally:
            self.changed.acquire()
            self._pulling = False
            self.changed.notify_all()
        if ended is None:
            self.buffer.keep(message)
            return
        self.ended = self.ended or ended
        if not isinstance(ended, StopIteration):
            # The stream can not be had again.
            self.call.committed = True


class ReplayAttempt(Generic[T]):
    """The messages of a stream from the first one on; an iterator for gRPC."""

    def __init__(self, replay: Replay[T]) -> None:
        """Start with the first message."""
        self._replay = replay
        self._position = 0
        self._over = False

    def end(self) -> None:
        """Take no more messages: the attempt is over, and they are for the next one."""
        with self._replay.changed:
            self._over = True
            self._replay.changed.notify_all()

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> T:
        """Return the next message, from the buffer or the application."""
        replay = self._replay
        with replay.changed:
            while not self._over:
                if self._position < replay.buffer.end:
                    self._position += 1
                    return replay.buffer.take(self._position - 1)
                if isinstance(replay.ended, StopIteration):
                    break
                if replay.ended is not None:
                    raise replay.ended
                replay.pull()
        raise StopIteration
