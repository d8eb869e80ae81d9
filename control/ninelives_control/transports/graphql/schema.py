"""The GraphQL schema: a field for each command, a tree of stacks, and a subscription to events."""

from __future__ import annotations

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
from ninelives_control.threads import in_thread
from ninelives_control.transports.graphql.errors import EVENT_NAMES, CodedErrors
from ninelives_control.transports.graphql.limits import DocumentLimits
from ninelives_control.transports.graphql.nested import STACKS, Part
from ninelives_control.transports.graphql.types import SCALARS, Types
from ninelives_control.watch import Watched, follow, watch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from graphql import GraphQLError
    from pydantic import BaseModel
    from strawberry.types.execution import ExecutionContext

    from ninelives_control.command import Command
    from ninelives_control.router import Dispatcher
    from ninelives_control.transports.graphql.endpoint import Asker
    from ninelives_control.transports.graphql.nested import Branch

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
    the command and its models, in camelCase. `Query.stacks` leads on to what is in the stacks.
    """
    fields = _Fields(dispatcher)
    roots: dict[str, list[StrawberryField]] = {"Query": [], "Mutation": []}
    commands: dict[str, dict[str, Command[Any, Any]]] = {root.lower(): {} for root in _ROOTS}
    if STACKS.is_in(dispatcher.commands) and STACKS.name not in dispatcher.commands:
        roots["Query"].append(fields.branch(STACKS))
        commands["query"][STACKS.name] = STACKS.command
    for entry in dispatcher.commands:
        root = "Query" if entry.effect is Effect.READ else "Mutation"
        name = to_camel_case(entry.name)
        if name in commands[root.lower()]:
            # Such as a_1, when there is a1.
            name = entry.name
        roots[root].append(fields.field_of(entry, name))
        commands[root.lower()][name] = entry
    commands["subscription"][_EVENTS] = watch
    made = {root: create_type(root, found) for root, found in roots.items() if found}
    return Schema(
        query=made.get("Query", _Nothing),
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


@strawberry.type(name="Query")
class _Nothing:
    """There has to be something to query."""

    nothing: bool = strawberry.field(
        resolver=lambda: True, description="That there is no command that reads."
    )


class _Fields:
    """Makes the fields of the root types, and those that lead on from stacks."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._types = Types(_TAKEN)

    def field_of(self, entry: Command[Any, Any], name: str) -> StrawberryField:
        """Return the field that runs a command."""

        async def resolve(_info: Info, **arguments: Any) -> dict[str, Any]:
            return await self._run(entry, arguments, _info)

        # One that fails must not take the results of the others with it: it may be null.
        answer = StrawberryOptional(self._answer(entry.result))
        return self._field(entry, name, resolve, answer)

    def branch(self, branch: Branch) -> StrawberryField:
        """Return the field that runs a command with arguments that its place gives."""

        async def resolve(root: Part | None, _info: Info, **arguments: Any) -> Any:
            part = root or Part.root()
            part.spend()
            result = await self._run(branch.command, arguments | branch.sets(part), _info)
            found = branch.picked(result)
            return [part.below(entry) for entry in found] if branch.branches else found

        answer, description = self._picked(branch)
        field = self._field(branch.command, branch.name, resolve, StrawberryOptional(answer))
        field.description = description
        given = branch.sets({"name": "", "path": ""})
        field.arguments = [each for each in field.arguments if each.python_name not in given]
        return field

    def _picked(self, branch: Branch) -> tuple[Any, str]:
        """Return the type and the description of what a branch tells."""
        schema = branch.command.result.model_json_schema(mode="serialization", by_alias=False)
        definitions = schema.get("$defs", {})
        if not branch.pick:
            return self._answer(branch.command.result), schema["description"]
        for step in branch.pick:
            schema = _resolved(schema, definitions)
            schema = schema["items"] if isinstance(step, int) else schema["properties"][step]
        description = _resolved(schema, definitions)["description"]
        if not branch.branches:
            return self._types.of(schema, definitions), description
        entry = _resolved(schema["items"], definitions)
        leading = [
            self.branch(each) for each in branch.branches if each.is_in(self._dispatcher.commands)
        ]
        made = self._types.object(f"{entry['title']}Node", entry, definitions, leading=leading)
        return StrawberryList(made), description

    async def _run(
        self, entry: Command[Any, Any], arguments: dict[str, Any], info: Info
    ) -> dict[str, Any]:
        result = await in_thread(
            self._dispatcher.execute,
            entry.name,
            arguments,
            caller=info.context.caller,
            transport=NAME,
        )
        return result.model_dump(mode="json")

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
        known = {"root": Any, "_info": strawberry.Info}
        resolve.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                parameter.replace(annotation=known[parameter.name])
                for parameter in inspect.signature(resolve).parameters.values()
                if parameter.name in known
            ]
        )
        field = StrawberryField(
            python_name=name,
            graphql_name=name,
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


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    found = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else {}
    return {**found, **schema}


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
