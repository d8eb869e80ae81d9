"""Whatever can be called is a handler of a protected server, as of a bare one."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
from grpc import StatusCode

from .served import every_handler, idle_stacks, pair, service
from .steps import PLAIN, READER_WRITER, SYNC

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from .backend import RpcKind
    from .served import Sides

sides = pytest.fixture(pair)


class Shop:
    """Handlers of every form, plain and asynchronous; each sends the word it is made with."""

    def __init__(self, word: bytes = b"shop") -> None:
        self.word = word

    def unary(self, _: Any, __: Any) -> bytes:
        return self.word

    def stream(self, _: Any, __: Any) -> Iterator[bytes]:
        yield self.word
        yield self.word

    async def aio_unary(self, _: Any, __: Any) -> bytes:
        return self.word

    async def aio_stream(self, _: Any, __: Any) -> AsyncIterator[bytes]:
        yield self.word
        yield self.word

    async def write(self, _: Any, context: Any) -> None:
        await context.write(self.word)
        await context.write(self.word)

    def of(self, nature: str, kind: RpcKind) -> Any:
        """Return the bound method for a nature and a kind."""
        if nature in {SYNC, PLAIN}:
            return self.stream if kind.streams_responses else self.unary
        if not kind.streams_responses:
            return self.aio_unary
        return self.write if nature == READER_WRITER else self.aio_stream


class Called:
    """An object that can be called."""

    def __init__(self, behaviour: Any) -> None:
        self._behaviour = behaviour

    def __call__(self, request: Any, context: Any) -> Any:
        return self._behaviour(request, context)


class Countdown:
    """A class that is called as a handler: what it makes iterates over the responses."""

    def __init__(self, _: Any, context: Any) -> None:
        self._left = 2
        context.set_trailing_metadata((("made", "yes"),))

    def __iter__(self) -> Countdown:
        return self

    def __next__(self) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise StopIteration
        return b"%d" % self._left


@every_handler
@idle_stacks
def test_handler_of_any_form_is_served(nature: str, kind: RpcKind, sides: Sides) -> None:
    bound = Shop().of(nature, kind)

    def with_word(_: bytes, request: Any, context: Any) -> Any:
        return bound(request, context)

    forms = {
        "bound": bound,
        "unbound": functools.partial(getattr(Shop, bound.__name__), Shop(b"unbound")),
        "partial": functools.partial(bound),
    }
    if nature in {SYNC, PLAIN}:
        forms |= {
            "lambda": lambda request, context: with_word(b"word", request, context),
            "object": Called(bound),
            "extra": functools.partial(with_word, b"word"),
        }
        if kind.streams_responses:
            forms |= {"class": Countdown, "iterator": lambda *_: iter([b"a", b"b", b"c"])}

    told = [
        {name: side.look(kind, path=f"/test.Scripted/{name}") for name in forms}
        for side in sides.of(None, service(kind, **forms))
    ]

    assert told[1] == told[0]
    assert {each.code for each in told[0].values()} == {StatusCode.OK}
    assert told[0]["bound"].messages == [b"shop"] * (2 if kind.streams_responses else 1)
