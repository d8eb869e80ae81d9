"""Follow what policies do, as it happens: bounded, and honest about what was lost."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

from pydantic import Field

from ninelives_control.command import Context, Effect, command
from ninelives_control.commands.events import Event, EventFilter, event_of
from ninelives_control.commands.state import StackState, state_of
from ninelives_control.errors import Code, CommandError
from ninelives_control.model import Result
from ninelives_control.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from ninelives_control.identity.identity import Caller
    from ninelives_control.router import Dispatcher
    from ninelives_grpc.sinks.streaming import Subscription

_BATCH = 100


class WatchEvents(EventFilter):
    """What to follow."""


class Watched(Result):
    """What there is to tell: the state at the start, then events in the order they came."""

    state: list[StackState] = Field(description="The state of the stacks; in the first one only.")
    events: list[Event] = Field(description="Events since the last one.")
    dropped: int = Field(description="Events lost since the last one, as reading was too slow.")


@command(Effect.READ)
def watch(arguments: WatchEvents, context: Context) -> Watched:
    """Return the state, and then every event as it happens."""
    arguments.check(context)
    stacks = context.stacks(arguments.stack)
    return Watched(state=[state_of(stack) for stack in stacks], events=[], dropped=0)


class Watch:
    """What one subscriber gets; `Dispatcher.watch` makes these.

    Attributes:
        first: The state at the start.
    """

    def __init__(
        self,
        first: Watched,
        subscription: Subscription,
        *,
        notify: Callable[[], None],
        check: Callable[[], object],
        on_close: Callable[[Watch], None],
    ) -> None:
        """Begin with the state; `check` raises once the caller may not watch any more."""
        self.first = first
        self._subscription = subscription
        self._notify = notify
        self._check = check
        self._on_close = on_close
        self._told = 0
        self._ended = False

    def take(self) -> list[Watched]:
        """Return what has come since the last time.

        Raises:
            CommandError: The caller may not watch any more, or the control plane stops.
        """
        if self._ended:
            message = "the control plane stops; watch again when it is back"
            raise CommandError(Code.UNAVAILABLE, message)
        events = self._subscription.take()
        dropped = self._subscription.dropped - self._told
        if not events and not dropped:
            return []
        self._check()
        self._told += dropped
        batches = [events[at : at + _BATCH] for at in range(0, len(events), _BATCH)] or [[]]
        return [
            Watched(
                state=[],
                events=[event_of(event) for event in batch],
                dropped=0 if index else dropped,
            )
            for index, batch in enumerate(batches)
        ]

    def end(self) -> None:
        """Tell the subscriber that the control plane stops."""
        self._ended = True
        self._notify()

    def close(self) -> None:
        """End the subscription; may be called twice."""
        self._subscription.close()
        self._on_close(self)


async def follow(
    dispatcher: Dispatcher, arguments: Mapping[str, object], *, caller: Caller, transport: str
) -> AsyncGenerator[Watched, None]:
    """Yield the state and then events, for transports that run on a loop.

    Raises:
        CommandError: The caller may not watch, or not any more, or the control plane stops.
    """
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()

    def wake() -> None:
        # Events may come after the loop has ended, from any thread.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(woken.set)

    opening = _Opening(
        lambda: dispatcher.watch(arguments, caller=caller, transport=transport, notify=wake)
    )
    try:
        opened = await in_thread(opening.run)
        yield opened.first
        while True:
            await woken.wait()
            woken.clear()
            for message in opened.take():
                yield message
    finally:
        opening.close()


class _Opening:
    """A watch that is opened in another thread, and closed even if nobody waits for it any more."""

    def __init__(self, make: Callable[[], Watch]) -> None:
        self._make = make
        self._made: Watch | None = None
        self._closed = False
        self._lock = threading.Lock()

    def run(self) -> Watch:
        made = self._make()
        with self._lock:
            self._made = made
            closed = self._closed
        if closed:
            made.close()
        return made

    def close(self) -> None:
        with self._lock:
            self._closed = True
            made = self._made
        if made is not None:
            made.close()
