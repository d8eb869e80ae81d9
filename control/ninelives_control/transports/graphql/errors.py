"""What a GraphQL client is told of an error, and what is written down of it.

Every error has `extensions.code`, which is one of ours as it is (`invalid_argument`), and where
there is one the `field` at fault, the actual `revision`, and the `rule` that refused.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from graphql import GraphQLError
from strawberry.exceptions import MissingQueryError
from strawberry.extensions import SchemaExtension
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.utils.str_converters import to_camel_case

from ninelives_control.audit.early import EarlyRefusal
from ninelives_control.errors import Code, CommandError
from ninelives_control.threads import in_thread
from ninelives_control.transports.graphql.attempts import asked_in
from ninelives_control.transports.graphql.types import UnfitError
from ninelives_control.watch import watch
from ninelives_grpc.naming import snake_case

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from ninelives_control.command import Command
    from ninelives_control.router import Dispatcher
    from ninelives_control.transports.graphql.attempts import Asked

    Roots = Mapping[str, Mapping[str, Command[Any, Any]]]

_LOGGER = logging.getLogger("ninelives_control")
_NAME = "graphql"
EVENT_NAMES = "names"
"""The argument of the subscription that the command `watch` does not have."""
_MOST_REFUSED = 20
"""Commands of a document that is not valid which are written down one by one."""
_OF_CLIENTS = (
    MissingQueryError,
    CannotGetOperationTypeError,
    InvalidOperationTypeError,
    UnfitError,
)


class CodedErrors(SchemaExtension):
    """Gives every error a code, and hides what nobody foresaw.

    A command that did not get as far as the dispatcher, as its document is not valid, is handed in
    to be refused: by the same rules, and to be written down like all others.
    """

    def __init__(self, dispatcher: Dispatcher, roots: Roots) -> None:
        """Take what refuses, and the commands by operation and field."""
        self._dispatcher = dispatcher
        self._roots = roots
        self._streamed = False

    async def on_operation(self) -> AsyncIterator[None]:
        """Look at the errors of a query or mutation in the end."""
        yield
        if not self._streamed:
            await self._improve(self.execution_context.result)

    async def on_stream_result(self, result: Any) -> AsyncIterator[None]:
        """Look at the errors of each result of a stream."""
        self._streamed = True
        await self._improve(result)
        yield

    async def _improve(self, result: Any) -> None:
        if result is not None and result.errors:
            result.errors = await self._coded(result.errors)

    async def _coded(self, errors: list[GraphQLError]) -> list[GraphQLError]:
        document = self.execution_context.graphql_document
        asked = asked_in(document) if document is not None else []
        coded: list[GraphQLError] = []
        done: list[Asked] = []
        refusal: GraphQLError | None = None
        for error in errors:
            if error.path is not None or not _is_of_client(error):
                coded.append(_told(error))
                continue
            refusal = refusal or error
            meant = [field for field in asked if field.is_meant_by(error)]
            new = [field for field in meant if field not in done]
            if not meant or (new and len(done) + len(new) > _MOST_REFUSED):
                coded.append(_told(error))
                continue
            done += new
            coded += [await self._refused(field, error) for field in new]
        if refusal is not None:
            # The others in the document were asked for as well, and do not run either.
            others = [field for field in asked if field not in done]
            room = _MOST_REFUSED - len(done)
            for field in others[:room]:
                await self._refused(field, refusal)
            if not asked or others[room:]:
                # It asks for no command, or for a great many.
                peer = self.execution_context.context.caller.peer
                await note(self._dispatcher, "document", Code.INVALID_ARGUMENT, peer)
        return coded

    async def _refused(self, asked: Asked, error: GraphQLError) -> GraphQLError:
        """Hand in a command to be refused, and return what the client is told then."""
        command = self._roots[asked.root].get(asked.name)
        arguments = asked.arguments(self.execution_context.variables)
        if command is None:
            wrong = CommandError(Code.UNKNOWN_COMMAND, self._elsewhere(asked, error))
        else:
            wrong = CommandError(Code.INVALID_ARGUMENT, error.message)
            arguments = _plain(command, arguments)
            if command is watch:
                arguments.pop(EVENT_NAMES, None)
        refused = await in_thread(
            self._dispatcher.refuse,
            snake_case(asked.name) if command is None else command.name,
            arguments,
            wrong,
            caller=self.execution_context.context.caller,
            transport=_NAME,
            command=command,
        )
        return GraphQLError(refused.message, nodes=error.nodes, extensions=_extensions(refused))

    def _elsewhere(self, asked: Asked, error: GraphQLError) -> str:
        for root, fields in self._roots.items():
            if asked.name in fields:
                return f"{asked.name} is a {root}, and no {asked.root}"
        return error.message


async def note(dispatcher: Dispatcher, request: str, code: Code, peer: str) -> None:
    """Have something written down that was refused, and is no command."""
    refusal = EarlyRefusal(transport=_NAME, request=request, answer="error", code=code, peer=peer)
    await in_thread(dispatcher.note, refusal)


def _plain(command: Command[Any, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with the names, and the words of a choice, that the command has."""
    fields = command.arguments.model_fields
    names = {to_camel_case(name): name for name in fields}
    plain = {names.get(name, name): value for name, value in arguments.items()}
    for name, field in fields.items():
        choice = field.annotation
        given = plain.get(name)
        if isinstance(choice, type) and issubclass(choice, StrEnum) and isinstance(given, str):
            plain[name] = next((str(word) for word in choice if word.upper() == given), given)
    return plain


def _told(error: GraphQLError) -> GraphQLError:
    """Return an error with a code; the log gets what the client does not."""
    cause = error.original_error
    if isinstance(cause, CommandError):
        message, extensions = cause.message, _extensions(cause)
    elif _is_of_client(error):
        message, extensions = error.message, {"code": str(Code.INVALID_ARGUMENT)}
    else:
        _LOGGER.error("a GraphQL operation failed", exc_info=cause)
        message = "the operation failed; the log of the control plane says why"
        extensions = {"code": str(Code.INTERNAL)}
    return GraphQLError(message, nodes=error.nodes, path=error.path, extensions=extensions)


def _extensions(error: CommandError) -> dict[str, Any]:
    told: dict[str, Any] = {"code": str(error.code)}
    if error.field:
        told["field"] = ".".join(to_camel_case(part) for part in error.field.split("."))
    if error.revision is not None:
        told["revision"] = error.revision
    if error.rule:
        told["rule"] = error.rule
    return told


def _is_of_client(error: GraphQLError) -> bool:
    """Tell whether it was found in the document or its variables, and not raised by our code."""
    cause: BaseException | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause is None or isinstance(cause, _OF_CLIENTS)
