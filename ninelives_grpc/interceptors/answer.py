"""A call that was answered here: what `Respond` gives to those who hold a call object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ninelives_grpc.ended import EndedCall
from ninelives_grpc.outcome import Code

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import grpc

T = TypeVar("T")


class LocalAnswer(EndedCall, Generic[T]):
    """A sync call that ended well without a server: `Call`, `Future` and iterator."""

    def __init__(self, value: Any, *, streaming: bool = False) -> None:
        """Hold a message, or an iterable of messages."""
        self._value = value
        self._messages: Iterator[T] = iter(value if streaming else ())
        self._streaming = streaming

    def code(self) -> grpc.StatusCode:
        """Return OK."""
        return Code.OK

    def details(self) -> str:
        """Say that it was answered here."""
        return "answered locally"

    def debug_error_string(self) -> str:
        """Return nothing: there was no error."""
        return ""

    def trailing_metadata(self) -> tuple[()]:
        """Return nothing: no server has answered."""
        return ()

    def result(self, timeout: float | None = None) -> Any:
        """Return the message; a stream has none, as in gRPC."""
        return None if self._streaming else self._value

    def exception(self, timeout: float | None = None) -> None:
        """Return None: it ended well."""

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        """Return None: it ended well."""
        return None

    def __iter__(self) -> Self:
        """Go through the messages."""
        return self

    def __next__(self) -> T:
        """Return the next message."""
        return next(self._messages)
