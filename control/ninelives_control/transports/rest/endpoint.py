"""Serve commands as resources: `POST /v1/commands/{name}`, and `GET` for those that only read.

Errors are problems (RFC 9457) with our code, entity tags begin with a revision, and `If-Match` is
`expected_revision`. `/v1/watch` has events as they come, `/v1/openapi.json` the description.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ninelives_control import plain_json
from ninelives_control.command import Command, Context, Effect
from ninelives_control.errors import Code, CommandError
from ninelives_control.model import Arguments, Result
from ninelives_control.threads import in_thread
from ninelives_control.transports.http.guard import caller_of, problem_of
from ninelives_control.transports.rest.openapi import MATCH, described
from ninelives_control.watch import WatchEvents, follow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from pydantic import BaseModel
    from starlette.requests import Request

    from ninelives_control.router import Dispatcher
    from ninelives_control.watch import Watched

T = TypeVar("T")
_NAME = "rest"
_HEARTBEAT = 15.0
"""Seconds of silence after which a stream of events says that it is still there."""
_REVISION = "expected_revision"
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
"""What is told which methods there are for a command."""


class Describe(Arguments):
    """Nothing is to be said."""


class Description(Result):
    """An OpenAPI document."""

    document: str = Field(description="The document, in JSON.")


class RestEndpoint:
    """What is served under `/v1`."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Serve the commands of a dispatcher, also those to come."""
        self._dispatcher = dispatcher
        self._describe = Command(
            name="openapi",
            summary="Return the OpenAPI description of the commands.",
            effect=Effect.READ,
            arguments=Describe,
            result=Description,
            handler=self._document,
        )

    def routes(self) -> list[Route]:
        """Return what is served under which path."""
        return [
            Route("/v1/commands", self.list),
            Route("/v1/commands/{name}", self.command, methods=_METHODS),
            Route("/v1/watch", self.watch),
            Route("/v1/openapi.json", self.describe),
        ]

    async def list(self, request: Request) -> Response:
        """List the commands, as `list_commands` does."""
        return await self._read("list_commands", request)

    async def command(self, request: Request) -> Response:
        """Run a command."""
        name = request.path_params["name"]
        if request.method == "POST":
            return await self._post(name, request)
        commands = self._dispatcher.commands
        allowed = ["GET", "HEAD", "POST"]
        if name in commands and commands.get(name).effect is not Effect.READ:
            allowed = ["POST"]
        if request.method not in allowed:
            raise HTTPException(405, headers={"Allow": ", ".join(allowed)})
        return await self._read(name, request)

    async def describe(self, request: Request) -> Response:
        """Return the description of all of this."""
        try:
            found = await _asking(request, self._dispatcher.run, self._describe, {})
        except CommandError as error:
            return problem_of(error)
        assert isinstance(found, Description)
        return Response(found.document, media_type="application/json")

    async def watch(self, request: Request) -> Response:
        """Send events as they come, as server-sent events (`text/event-stream`)."""
        messages = follow(
            self._dispatcher,
            _asked(WatchEvents, request),
            caller=caller_of(request.scope),
            transport=_NAME,
        )
        try:
            first = await anext(messages)
        except CommandError as error:
            return problem_of(error)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            _streamed(first, messages), headers=headers, media_type="text/event-stream"
        )

    async def _read(self, name: str, request: Request) -> Response:
        commands = self._dispatcher.commands
        model = commands.get(name).arguments if name in commands else Describe
        try:
            asked = _asked(model, request)
            result = await _asking(request, self._dispatcher.execute, name, asked)
        except CommandError as error:
            return problem_of(error)
        body = _body(result)
        tag = _tag(result, body)
        wanted = {each.strip() for each in request.headers.get("If-None-Match", "").split(",")}
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if tag in wanted or "*" in wanted:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/json")

    async def _post(self, name: str, request: Request) -> Response:
        body = await request.body()
        match = request.headers.get("If-Match")
        arguments: dict[str, object] = {}
        try:
            arguments = _parsed(body)
            if match is not None:
                self._match(name, match, arguments)
        except CommandError as error:
            refuse = self._dispatcher.refuse
            return problem_of(await _asking(request, refuse, name, arguments, error))
        try:
            result = await _asking(request, self._dispatcher.execute, name, arguments)
        except CommandError as error:
            # Other conflicts, such as with a lease, have nothing to do with what was expected.
            lost = match is not None and error.revision is not None
            return problem_of(error, 412 if lost else None)
        body = _body(result)
        return Response(body, headers={"ETag": _tag(result, body)}, media_type="application/json")

    def _match(self, name: str, match: str, arguments: dict[str, object]) -> None:
        """Take the revision of `If-Match` for the one that is expected."""
        commands = self._dispatcher.commands
        if name in commands and _REVISION not in commands.get(name).arguments.model_fields:
            msg = f"{name} takes no If-Match: it has no {_REVISION}"
            raise CommandError(Code.INVALID_ARGUMENT, msg)
        if not re.search(MATCH, match):
            msg = f'If-Match must be one entity tag, such as "3", not {match}'
            raise CommandError(Code.INVALID_ARGUMENT, msg, field=_REVISION)
        revision = int(match.strip('"').partition("-")[0])
        if arguments.get(_REVISION) is None:
            arguments[_REVISION] = revision
        elif arguments[_REVISION] != revision:
            msg = f"If-Match and {_REVISION} differ; send one of them"
            raise CommandError(Code.INVALID_ARGUMENT, msg, field=_REVISION)

    def _document(self, _arguments: Describe, context: Context) -> Description:
        return Description(document=json.dumps(described(context.commands)))


async def _asking(request: Request, function: Callable[..., T], *args: Any) -> T:
    """Call a function of the dispatcher for whoever made a request."""
    caller = caller_of(request.scope)
    return await in_thread(function, *args, caller=caller, transport=_NAME)


def _parsed(body: bytes) -> dict[str, object]:
    """Read the arguments; none at all are an empty object."""
    try:
        value = plain_json.loads(body) if body.strip() else {}
    except ValueError:
        value = None
    if not isinstance(value, dict):
        msg = "the body must be a JSON object with the arguments, each once, such as {}"
        raise CommandError(Code.INVALID_ARGUMENT, msg)
    return value


def _asked(model: type[BaseModel], request: Request) -> dict[str, object]:
    """Read arguments off a query: texts as they are, and everything else as JSON."""
    types = _types(model)
    asked: dict[str, object] = {}
    for name in request.query_params:
        given = request.query_params.getlist(name)
        kinds = types.get(name, set())
        if "array" in kinds or len(given) > 1:
            asked[name] = list(given)
        elif "string" in kinds or not kinds:
            asked[name] = given[0]
        else:
            asked[name] = _plain(given[0])
    return asked


@lru_cache(maxsize=1000)
def _types(model: type[BaseModel]) -> dict[str, set[str]]:
    """Return the types that each argument allows."""
    properties = model.model_json_schema().get("properties", {})
    return {name: _kinds(schema) for name, schema in properties.items()}


def _kinds(schema: dict[str, Any]) -> set[str]:
    """Return the types that a schema allows; what is referred to is a choice of words."""
    if "$ref" in schema:
        return {"string"}
    if "anyOf" in schema:
        return set().union(*(_kinds(each) for each in schema["anyOf"]))
    return {schema["type"]} if "type" in schema else set()


def _plain(text: str) -> object:
    try:
        return plain_json.loads(text)
    except ValueError:
        return text


def _body(result: BaseModel) -> bytes:
    return result.model_dump_json().encode()


def _tag(result: BaseModel, body: bytes) -> str:
    """Return the entity tag of a result: its revision if it has one, and what it comes to.

    The revision alone does not tell of the state of a policy, nor of another start of the process.
    """
    digest = hashlib.sha256(body).hexdigest()[:16]
    revision = getattr(result, "revision", None)
    return f'"{revision}-{digest}"' if isinstance(revision, int) else f'W/"{digest}"'


async def _streamed(first: Watched, rest: AsyncGenerator[Watched]) -> AsyncGenerator[bytes]:
    """Write messages as server-sent events; the last one says why there are no more."""
    try:
        yield _event("state", _body(first))
        coming = asyncio.ensure_future(anext(rest))
        try:
            while True:
                done, _ = await asyncio.wait({coming}, timeout=_HEARTBEAT)
                if not done:
                    yield b": still there\n\n"
                    continue
                yield _event("events", _body(coming.result()))
                coming = asyncio.ensure_future(anext(rest))
        finally:
            coming.cancel()
            await asyncio.wait({coming})
    except CommandError as error:
        yield _event("error", bytes(problem_of(error).body))
    finally:
        await rest.aclose()


def _event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
