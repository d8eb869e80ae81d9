"""Everything that can go wrong, in one tree.

NinelivesError
├── ConfigError(ValueError)            a setting is wrong: names the place and what is allowed
├── UnknownNameError(KeyError)         no such stack, policy or parameter: suggests the nearest
├── RevisionError                      the parameter has changed since it was read
├── MissingExtraError(ImportError)     an optional part is not installed: prints the pip command
└── LocalError(grpc.RpcError)          a call that ended here, not at the server
    ├── InjectedError                  a `Fault` made it up
    ├── Refused                        a policy said no, and the call never left
    └── TimedOut(TimeoutError)         our own time limit ran out

Under asyncio, `AioRefused` and `AioTimedOut` are raised: the same errors, which are also
`grpc.aio.AioRpcError`, so that `except grpc.aio.AioRpcError` goes on working.
"""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, NoReturn, Self

import grpc
from grpc.aio import AioRpcError, Metadata

from ninelives_grpc.ended import EndedCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Trailing metadata by which a server says when to retry (gRFC A6): whole milliseconds."""


class NinelivesError(Exception):
    """Anything that this library raises on purpose."""

    def __reduce__(self) -> tuple[Callable[..., NinelivesError], tuple[object, ...], object]:
        """Survive `copy` and `pickle`, which would call the constructor with the message."""
        return _rebuild, (type(self), self.args), self.__dict__


class ConfigError(NinelivesError, ValueError):
    """A setting is wrong.

    Attributes:
        path: Where it stands, as `stack/policy/parameter`, a file and field, or a class and field.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        """Say what is wrong and what is allowed."""
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message


class UnknownNameError(NinelivesError, KeyError):
    """There is nothing of that name; the message suggests the nearest names there are."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        """Say what was looked for, and what is there."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3)
        if near:
            hint = f"did you mean {' or '.join(near)}?"
        elif names:
            shown = ", ".join(names[:10])
            hint = f"there are: {shown}{', …' if len(names) > 10 else ''}"  # noqa: PLR2004
        else:
            hint = f"there is no {what} at all"
        super().__init__(f"no {what} named {name!r}; {hint}")
        self.name = name

    def __str__(self) -> str:
        """Show the sentence, which a `KeyError` would put in quotes."""
        return str(self.args[0])


class RevisionError(NinelivesError):
    """A compare-and-set found that the parameter had changed in the meantime.

    Attributes:
        expected: The revision that the caller had read.
        actual: The revision now.
    """

    def __init__(self, path: str, expected: int, actual: int) -> None:
        """Say which revision was expected and which was found."""
        super().__init__(
            f"{path} is at revision {actual}, not {expected}: read it again and decide anew"
        )
        self.expected = expected
        self.actual = actual


class MissingExtraError(NinelivesError, ImportError):
    """An optional part is not installed."""

    def __init__(self, extra: str, needed_for: str) -> None:
        """Name the extra and print the command that installs it."""
        super().__init__(f'{needed_for} needs: pip install "ninelives-grpc[{extra}]"')
        self.extra = extra


class LocalError(NinelivesError, grpc.RpcError, EndedCall):
    """A call that ended here, in every form gRPC gives an ended call: error, `Call` and `Future`.

    Attributes:
        stack: Name of the stack, or "" outside one.
        policy: Name of the policy within its stack.
        retry_after: Seconds after which a new call has a chance, or None when that is not known.
    """

    def __init__(
        self,
        details: str,
        *,
        code: grpc.StatusCode,
        stack: str = "",
        policy: str = "",
        retry_after: float | None = None,
    ) -> None:
        """Hold what gRPC will be asked for."""
        # Not `super()`: that may be `AioRpcError`, which wants other arguments.
        Exception.__init__(self, details)
        self.stack = stack
        self.policy = policy
        self.retry_after = retry_after
        self._status = code
        self._text = details

    def code(self) -> grpc.StatusCode:
        """Return the status code."""
        return self._status

    def details(self) -> str:
        """Return the one sentence that says what happened."""
        return self._text

    def debug_error_string(self) -> str:
        """Return the details: nothing more is known, as no server was asked."""
        return self._text

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:  # type: ignore[override]
        """Return the time to wait, in the form in which a server would have sent it."""
        return pushback_metadata(self.retry_after)

    def __str__(self) -> str:
        """Show code and details, and not the multi-line form of `AioRpcError`."""
        return f"{self._status.name}: {self._text}"

    def __repr__(self) -> str:
        """Show class, code and details."""
        return f"<{type(self).__name__} {self}>"

    def result(self, timeout: float | None = None) -> NoReturn:
        """Raise itself, at once."""
        raise self

    def exception(self, timeout: float | None = None) -> Self:
        """Return itself, at once."""
        return self

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        """Return the traceback, if it was raised."""
        return self.__traceback__

    def __iter__(self) -> Self:
        """Stand in for a response stream."""
        return self

    def __next__(self) -> NoReturn:
        """Raise itself in place of the first message."""
        raise self


class Refused(LocalError):
    """A policy said no, and the call never left.

    `code()` is UNAVAILABLE when the backend is thought to be down (circuit breaker) and
    RESOURCE_EXHAUSTED when there would be too many calls (bulkhead, rate limit). `__cause__` is
    the error behind the refusal when there is one, such as the failure that opened the circuit.
    """


class TimedOut(LocalError, TimeoutError):
    """Our own time limit ran out, on work that has no deadline in gRPC to enforce it."""

    def __init__(
        self,
        details: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.DEADLINE_EXCEEDED,
        stack: str = "",
        policy: str = "",
        retry_after: float | None = None,
    ) -> None:
        """Hold what gRPC will be asked for."""
        super().__init__(details, code=code, stack=stack, policy=policy, retry_after=retry_after)


class AioLocalError(LocalError, AioRpcError):
    """A `LocalError` that is a `grpc.aio.AioRpcError` as well, with metadata of its class."""

    def trailing_metadata(self) -> Metadata:  # type: ignore[override]
        """Return the time to wait, in the form in which a server would have sent it."""
        return Metadata(*pushback_metadata(self.retry_after))

    def initial_metadata(self) -> Metadata:  # type: ignore[override]
        """Return nothing: no server has answered."""
        return Metadata()


class InjectedError(AioLocalError):
    """A failure that a `Fault` has made up; classified as if the backend had sent it."""


class AioRefused(AioLocalError, Refused):
    """A `Refused` that is a `grpc.aio.AioRpcError` as well."""


class AioTimedOut(AioLocalError, TimedOut):
    """A `TimedOut` that is a `grpc.aio.AioRpcError` as well."""


def pushback_metadata(retry_after: float | None) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata that tells a client to wait that many seconds."""
    if retry_after is None:
        return ()
    # Rounded up, that nobody comes back a moment too early; but not for the last bit of a float.
    milliseconds = math.ceil(round(retry_after * 1000, 3))
    return ((PUSHBACK_KEY, str(max(0, milliseconds))),)


def _rebuild(error: type[NinelivesError], args: tuple[object, ...]) -> NinelivesError:
    return error.__new__(error, *args)
