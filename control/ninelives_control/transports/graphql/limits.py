"""Documents that are not even looked into: they would cost too much, or cannot be answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphql import FragmentSpreadNode, GraphQLError, OperationDefinitionNode
from graphql.language import Visitor, visit
from strawberry.extensions import SchemaExtension
from strawberry.types.graphql import OperationType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphql import DocumentNode

_MOST_SPREADS = 20


class DocumentLimits(SchemaExtension):
    """Refuses documents before anybody validates them.

    Some rules of validation follow every way through the fragments, and there are 2^n of them when
    each of n fragments spreads the next one twice.
    """

    def on_validate(self) -> Iterator[None]:
        """Take the place of the validation, if there is something to refuse."""
        document = self.execution_context.graphql_document
        assert document is not None
        if _spreads_in(document) > _MOST_SPREADS:
            self._refuse(f"more than {_MOST_SPREADS} fragments are spread")
        elif self._is_ambiguous(document):
            self._refuse("operationName must say which of the operations is meant")
        elif self._is_subscription() and not self.execution_context.context.streams:
            self._refuse("subscribe over a websocket, or with Accept: text/event-stream")
        yield

    def _is_ambiguous(self, document: DocumentNode) -> bool:
        # Strawberry would take the first one.
        operations = [
            node for node in document.definitions if isinstance(node, OperationDefinitionNode)
        ]
        return len(operations) > 1 and not self.execution_context._provided_operation_name

    def _is_subscription(self) -> bool:
        return self.execution_context.operation_type is OperationType.SUBSCRIPTION

    def _refuse(self, message: str) -> None:
        self.execution_context.pre_execution_errors = [GraphQLError(message)]


def _spreads_in(document: DocumentNode) -> int:
    found: list[FragmentSpreadNode] = []

    class Collect(Visitor):
        def enter_fragment_spread(self, node: FragmentSpreadNode, *_: object) -> None:
            found.append(node)

    visit(document, Collect())
    return len(found)
