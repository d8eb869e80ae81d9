"""The GraphQL schema: a field for each command, and a subscription to events."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import operator
from typing import TYPE_CHECKING, Any

import strawberry
from strawberry.annotation import StrawberryAnnotation
from strawberry.extensions import MaxAliasesLimiter, MaxTokensLimiter, QueryDepthLimiter
from strawberry.schema.config import StrawberryConfig
from strawberry.tools import create_type
from strawberry.types.arguments import StrawberryArgument
from strawberry.types.base import StrawberryList, StrawberryOptional
from strawberry.types.field import StrawberryField
from strawberry.types.fields.resolver import StrawberryResolver
from strawberry.utils.str_converters import to_camel_case

from ninelives_control.command import Effect
from ninelives_control.transports.graphql_errors import EVENT_NAMES, CodedErrors
from ninelives_control.transports.graphql_limits import DocumentLimits
from ninelives_control.transports.graphql_types import SCALARS, Types
from ninelives_control.watch import Watched, follow, watch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from graphql import GraphQLError
    from pydantic import BaseModel
    from strawberry.types.execution import ExecutionContext

    from ninelives_control.command import Command
    from ninelives_control.router import Dispatcher
    from ninelives_control.transports.graphql import Asker

    Info = strawberry.Info[Asker, None]

NAME = "graphql"
_DEEPEST = 10
_MOST_ALIASES = 15
_MOST_TOKENS = 1000
_EVENTS = "events"
_NAMES = "Only events of these kinds, such as CircuitOpened; all if not given."
_ROOTS = ("Query", "Mutation", "Subscription")
_TAKEN = (*_ROOTS, "Boolean", "Float", "ID", "Int", "String", "JSON", "Long", "ParameterValue")


class Schema(strawberry.Schema):
    """A schema that leaves it to `CodedErrors` what is logged."""

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Log nothing: a client's error needs no trace here."""


def schema_for(dispatcher: Dispatcher) -> Schema:
    """Return the schema for the commands that there are now.

    A command that reads is a field of `Query`, any other one of `Mutation`. All names are those of
    the command and its models, in camelCase.
    """
    fields = _Fields(dispatcher)
    roots: dict[str, list[StrawberryField]] = {"Query": [], "Mutation": []}
    commands: dict[str, dict[str, Command[Any, Any]]] = {root.lower(): {} for root in _ROOTS}
    for entry in dispatcher.commands:
        root = "Query" if entry.effect is Effect.READ else "Mutation"
        field = fields.field_of(entry)
        roots[root].append(field)
        commands[root.lower()][to_camel_case(entry.name)] = entry
    commands["subscription"][_EVENTS] = watch
    made = {root: create_type(root, found) for root, found in roots.items() if found}
    return Schema(
        query=made["Query"],
        mutation=made.get("Mutation"),
        subscription=create_type("Subscription", [fields.events()]),
        extensions=[
            lambda: CodedErrors(dispatcher, commands),
            DocumentLimits,
            lambda: QueryDepthLimiter(max_depth=_DEEPEST),
            lambda: MaxAliasesLimiter(max_alias_count=_MOST_ALIASES),
            lambda: MaxTokensLimiter(max_token_count=_MOST_TOKENS),
        ],
        config=StrawberryConfig(scalar_map=SCALARS, default_resolver=operator.getitem),
    )


class _Fields:
    """Makes the fields of the root types."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._types = Types(_TAKEN)

    def field_of(self, entry: Command[Any, Any]) -> StrawberryField:
        """Return the field that runs a command."""

        async def resolve(_info: Info, **arguments: Any) -> dict[str, Any]:
            result = await asyncio.to_thread(
                self._dispatcher.execute,
                entry.name,
                arguments,
                caller=_info.context.caller,
                transport=NAME,
            )
            return result.model_dump(mode="json")

        # One that fails must not take the results of the others with it: it may be null.
        answer = StrawberryOptional(self._answer(entry.result))
        return self._field(entry, entry.name, resolve, answer)

    def events(self) -> StrawberryField:
        """Return the subscription to events."""

        async def resolve(
            _info: Info, names: list[str] | None = None, **arguments: Any
        ) -> AsyncGenerator[dict[str, Any], None]:
            told = follow(self._dispatcher, arguments, caller=_info.context.caller, transport=NAME)
            async with contextlib.aclosing(told):
                yield (await anext(told)).model_dump(mode="json")
                async for message in told:
                    values = _only(names, message.model_dump(mode="json"))
                    if values["events"] or values["dropped"]:
                        yield values

        field = self._field(watch, _EVENTS, resolve, self._answer(Watched), subscription=True)
        wanted = StrawberryOptional(StrawberryList(str))
        field.arguments.append(_argument(EVENT_NAMES, wanted, _NAMES))
        return field

    def _field(
        self,
        entry: Command[Any, Any],
        name: str,
        resolve: Callable[..., Any],
        answer: Any,
        *,
        subscription: bool = False,
    ) -> StrawberryField:
        # Strawberry reads arguments off the signature; these are not known before.
        info = inspect.Parameter(
            "_info", inspect.Parameter.KEYWORD_ONLY, annotation=strawberry.Info
        )
        resolve.__signature__ = inspect.Signature([info])  # type: ignore[attr-defined]
        field = StrawberryField(
            python_name=name,
            type_annotation=StrawberryAnnotation(answer),
            base_resolver=StrawberryResolver(resolve),
            description=entry.summary,
            is_subscription=subscription,
        )
        schema = entry.arguments.model_json_schema()
        field.arguments = [
            _argument(inner, made, description)
            for inner, made, description in self._types.fields_of(
                schema, schema.get("$defs", {}), sent=True
            )
        ]
        return field

    def _answer(self, model: type[BaseModel]) -> Any:
        schema = model.model_json_schema(mode="serialization", by_alias=False)
        definitions = schema.get("$defs", {})
        if "$ref" in schema:
            return self._types.of(schema, definitions)
        # As a reference, so that it is one type with the same model within another.
        name = schema.get("title", model.__name__)
        top = {key: value for key, value in schema.items() if key != "$defs"}
        return self._types.of({"$ref": name}, {**definitions, name: top})


def _only(names: list[str] | None, values: dict[str, Any]) -> dict[str, Any]:
    """Leave out events of other kinds."""
    if names is None:
        return values
    kept = [event for event in values["events"] if event["name"] in names]
    return values | {"events": kept}


def _argument(name: str, made: Any, description: str) -> StrawberryArgument:
    return StrawberryArgument(
        python_name=name,
        graphql_name=None,
        type_annotation=StrawberryAnnotation(made),
        description=description,
    )
