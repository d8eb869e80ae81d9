"""GraphQL clients, and what they are told when it is told as in Python."""

from __future__ import annotations

import asyncio
import json
import typing
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from gql import Client, gql
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.exceptions import TransportQueryError
from gql.transport.websockets import WebsocketsTransport
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gql.client import AsyncClientSession

    from ninelives_control import ControlPlane


class Asker:
    """Asks over HTTP."""

    def __init__(self, plane: ControlPlane, tokens: dict[str, str]) -> None:
        self._url = f"http://127.0.0.1:{plane.http_port}/graphql"
        self._tokens = tokens

    def __call__(self, role: str | None, document: str, /, **variables: object) -> Any:
        """Return the data of an answer to somebody with the token of a role, or with none."""
        return asyncio.run(self._ask(role, document, variables))

    def errors(self, role: str | None, document: str, /, **variables: object) -> Any:
        """Return the errors of an answer."""
        try:
            found = self(role, document, **variables)
        except TransportQueryError as error:
            return error.errors
        raise AssertionError(found)

    def client(self, role: str | None, **options: Any) -> Client:
        headers = {} if role is None else {"Authorization": f"Bearer {self._tokens[role]}"}
        return Client(transport=AIOHTTPTransport(self._url, headers=headers), **options)

    async def _ask(self, role: str | None, document: str, variables: dict[str, object]) -> Any:
        request = gql(document)
        request.variable_values = variables
        async with self.client(role) as session:
            return await session.execute(request)


@asynccontextmanager
async def session(
    plane: ControlPlane, token: str | None = None, **options: Any
) -> AsyncIterator[AsyncClientSession]:
    """Speak over a websocket; the token goes into `connection_init` if nothing else is said."""
    shown = {} if token is None else {"authorization": f"Bearer {token}"}
    transport = WebsocketsTransport(
        f"ws://127.0.0.1:{plane.http_port}/graphql", **{"init_payload": shown, **options}
    )
    async with Client(transport=transport) as opened:
        yield opened


def document(root: str, name: str, arguments: dict[str, Any], result: type[BaseModel]) -> str:
    """Return a document that asks a command for all that it tells."""
    given = ", ".join(f"{to_camel(key)}: {literal(value)}" for key, value in arguments.items())
    return f"{root} {{ {to_camel(name)}{f'({given})' if given else ''} {selection(result)} }}"


def literal(value: object) -> str:
    """Return a value as it stands in a document."""
    if isinstance(value, StrEnum):
        return value.upper()
    if isinstance(value, list):
        return f"[{', '.join(literal(entry) for entry in value)}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{to_camel(key)}: {literal(entry)}" for key, entry in value.items())
        return f"{{{inner}}}"
    return json.dumps(value)


def selection(model: type[BaseModel]) -> str:
    """Return the fields of a model, and those of the models in it."""
    parts = []
    for name, field in model.model_fields.items():
        inner = (field.annotation, *typing.get_args(field.annotation))
        models = [held for held in inner if isinstance(held, type) and issubclass(held, BaseModel)]
        parts.append(to_camel(name) + (f" {selection(models[0])}" if models else ""))
    return f"{{ {' '.join(parts)} }}"


def told(value: object) -> Any:
    """Return a result as GraphQL tells it."""
    if isinstance(value, BaseModel):
        return told({name: getattr(value, name) for name in type(value).model_fields})
    if isinstance(value, dict):
        return {to_camel(name): told(entry) for name, entry in value.items()}
    if isinstance(value, StrEnum):
        return value.upper()
    if isinstance(value, list):
        return [told(entry) for entry in value]
    return value
