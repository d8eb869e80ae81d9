"""Tell MCP clients what has changed of that which they have subscribed to.

Older clients subscribe to one resource after the other and are told within their session; newer
ones open a stream for all that they want to hear of. Each resource is a watch of its own, with the
permissions of who asked for it. Many changes at a time are one notification.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, EmptyResult, SubscriptionFilter

from ninelives_control.errors import Code, CommandError
from ninelives_control.transports.mcp.desk import protocol_error
from ninelives_control.transports.mcp.resources import COMMANDS, not_found, place_of
from ninelives_grpc.events import (
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    CircuitReset,
    ParameterChanged,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.server.connection import Connection
    from mcp.server.subscriptions import ServerEvent
    from mcp_types import (
        NotificationParams,
        SubscribeRequestParams,
        SubscriptionsListenRequestParams,
        SubscriptionsListenResult,
        UnsubscribeRequestParams,
    )

    from ninelives_control.transports.mcp.desk import Context, Desk

_LOGGER = logging.getLogger("ninelives_control")
_MOST_RESOURCES = 20
"""Resources that one client may follow at a time."""

_MOST_STREAMS = 100
_PAUSE = 0.1
"""Seconds in which what changes again is told of once."""

_KEY = "ninelives changes"
_KINDS = [
    kind.__name__
    for kind in (ParameterChanged, CircuitOpened, CircuitHalfOpened, CircuitClosed, CircuitReset)
]
"""Events after which a stack or policy is not what it was."""


class Changes:
    """What one client has subscribed to.

    Args:
        desk: Where it is watched.
        tell: Tells the client of a change.
        on_end: Called once the client was told that something can not be followed any more.
    """

    def __init__(
        self,
        desk: Desk,
        tell: Callable[[ServerEvent], Awaitable[None]],
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin with nothing."""
        self._desk = desk
        self._tell = tell
        self._on_end = on_end
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._of_commands: dict[ServerEvent, None] = {}
        self._unsubscribe = self._hear_of_commands()
        # In their order, each once: it cannot grow beyond what is subscribed to.
        self._fresh: dict[ServerEvent, None] = {}
        self._ended = False
        self._woken = asyncio.Event()
        self._telling = asyncio.create_task(self._tell_all())

    async def follow(self, uri: str, context: Context) -> None:
        """Tell of each change of a resource from now on.

        Raises:
            CommandError: The client may not, or it is not possible.
        """
        if uri in self._watches:
            return
        if len(self._watches) >= _MOST_RESOURCES:
            message = f"a client can follow {_MOST_RESOURCES} resources; unsubscribe from others"
            raise CommandError(Code.UNAVAILABLE, message)
        begun = asyncio.get_running_loop().create_future()
        self._watches[uri] = asyncio.create_task(self._watch(uri, context, begun))
        try:
            await begun
        except BaseException:  # also when the client does not wait for it
            self.forget(uri)
            raise

    def follow_commands(self, event: ServerEvent) -> None:
        """Tell of each command that is added or removed from now on, in these words."""
        self._of_commands[event] = None

    def forget(self, uri: str) -> None:
        """Tell of a resource no more."""
        self._of_commands.pop(ResourceUpdated(uri), None)
        watch = self._watches.pop(uri, None)
        if watch is not None:
            watch.cancel()

    async def close(self) -> None:
        """Tell of nothing any more."""
        self._unsubscribe()
        tasks = (self._telling, *self._watches.values())
        self._watches.clear()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def _watch(self, uri: str, context: Context, begun: asyncio.Future[None]) -> None:
        event = ResourceUpdated(uri)
        told = self._desk.watch(_wanted(uri), context)
        try:
            async with contextlib.aclosing(told):
                await anext(told)
                if not begun.done():
                    begun.set_result(None)
                async for _ in told:
                    self._note(event)
        except Exception as error:
            if not isinstance(error, CommandError):
                _LOGGER.exception("a resource can not be followed over MCP")
                message = "it can not be followed; the log of the MCP server says why"
                error = CommandError(Code.INTERNAL, message)
            if begun.done():
                # Whoever reads it again is told why.
                self._ended = True
                self._note(event)
                self._watches.pop(uri, None)
            else:
                begun.set_exception(error)

    def _hear_of_commands(self) -> Callable[[], None]:
        loop = asyncio.get_running_loop()

        def note() -> None:
            for event in self._of_commands:
                self._note(event)

        def heard() -> None:
            # Commands may change after the loop has ended, in any thread.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(note)

        commands = self._desk.commands
        return (lambda: None) if commands is None else commands.subscribe(heard)

    def _note(self, event: ServerEvent) -> None:
        self._fresh[event] = None
        self._woken.set()

    async def _tell_all(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            fresh, self._fresh = self._fresh, {}
            for event in fresh:
                await self._tell(event)
            if self._ended:
                self._on_end()
            await asyncio.sleep(_PAUSE)


class Subscriptions:
    """Answers clients that want to hear of changes."""

    def __init__(self, desk: Desk) -> None:
        """Watch at a desk."""
        self._desk = desk
        self._streams: set[ListenHandler] = set()

    async def initialized(self, context: Context, _params: NotificationParams) -> None:
        """Begin to tell an older client when tools come and go."""
        self._changes(context).follow_commands(ToolsListChanged())

    async def subscribe(self, context: Context, params: SubscribeRequestParams) -> EmptyResult:
        """Begin to tell an older client of a resource."""
        uri = str(params.uri)
        if place_of(uri) is None:
            raise not_found(uri, context)
        if not self._can_follow(uri):
            message = f"{uri} changes all the time, or says nothing of it; read it when you need it"
            raise MCPError(INVALID_PARAMS, message)
        changes = self._changes(context)
        try:
            await self._follow(changes, uri, context)
        except CommandError as error:
            raise _refusal(uri, context, error) from None
        return EmptyResult()

    async def unsubscribe(self, context: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        """Tell an older client of a resource no more."""
        self._changes(context).forget(str(params.uri))
        return EmptyResult()

    async def listen(
        self, context: Context, params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Tell a newer client of all that it wants to hear of, until it goes."""
        if len(self._streams) >= _MOST_STREAMS:
            message = f"{_MOST_STREAMS} others listen already; try again later"
            raise protocol_error(CommandError(Code.UNAVAILABLE, message))
        wanted = params.notifications
        uris = [uri for uri in wanted.resource_subscriptions or () if self._can_follow(uri)]
        tools = bool(wanted.tools_list_changed) and self._desk.commands is not None
        honored = SubscriptionFilter(
            tools_list_changed=tools or None, resource_subscriptions=uris or None
        )
        bus = InMemorySubscriptionBus()
        stream = ListenHandler(bus)
        changes = Changes(self._desk, bus.publish, stream.close)
        self._streams.add(stream)
        try:
            for uri in uris:
                try:
                    await self._follow(changes, uri, context)
                except CommandError as error:
                    raise _refusal(uri, context, error) from None
            if tools:
                changes.follow_commands(ToolsListChanged())
            return await stream(context, params.model_copy(update={"notifications": honored}))
        finally:
            self._streams.discard(stream)
            with anyio.CancelScope(shield=True):
                await changes.close()

    def end(self) -> None:
        """End the streams of newer clients, in a way that tells them that it is on purpose."""
        for stream in tuple(self._streams):
            stream.close()

    def _can_follow(self, uri: str) -> bool:
        if uri == COMMANDS:
            return self._desk.commands is not None
        place = place_of(uri)
        return place is not None and (bool(place.stack) or place.name == "events")

    async def _follow(self, changes: Changes, uri: str, context: Context) -> None:
        if uri == COMMANDS:
            await self._desk.execute("list_commands", {"limit": 1}, context)
            changes.follow_commands(ResourceUpdated(uri))
            return
        place = place_of(uri)
        if place is not None and place.policy:
            # A watch would wait for a policy that is not there, too.
            path = f"{place.stack}/{place.policy}"
            await self._desk.execute("describe_policy", {"path": path}, context)
        await changes.follow(uri, context)

    def _changes(self, context: Context) -> Changes:
        """Return what the client of a session has subscribed to; it ends with the session."""
        connection = context.session._connection
        changes = connection.state.get(_KEY)
        if not isinstance(changes, Changes):
            changes = connection.state[_KEY] = Changes(self._desk, _teller(connection))
            connection.exit_stack.push_async_callback(changes.close)
        return changes


def _teller(connection: Connection) -> Callable[[ServerEvent], Awaitable[None]]:
    async def tell(event: ServerEvent) -> None:
        if isinstance(event, ResourceUpdated):
            await connection.send_resource_updated(event.uri)
        else:
            await connection.send_tool_list_changed()

    return tell


def _wanted(uri: str) -> dict[str, Any]:
    """Return what to watch for a resource."""
    place = place_of(uri)
    assert place is not None
    if not place.stack:
        return {}
    names = {"stack": place.stack, "policy": place.policy}
    return {"kinds": _KINDS, **{key: name for key, name in names.items() if name}}


def _refusal(uri: str, context: Context, error: CommandError) -> MCPError:
    if error.code in {Code.NOT_FOUND, Code.INVALID_ARGUMENT}:
        return not_found(uri, context, error.message)
    return protocol_error(error)
