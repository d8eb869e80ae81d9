"""Which commands a GraphQL document asked for that never came to run them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    VariableDefinitionNode,
    VariableNode,
    value_from_ast_untyped,
)
from graphql.language import Visitor, visit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from graphql import DocumentNode, GraphQLError, Node, SelectionSetNode


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A field of a root type, as it stands in a document.

    Attributes:
        root: The operation it stands in: query, mutation or subscription.
        node: The field.
        variables: The variables that it uses.
    """

    root: str
    node: FieldNode
    variables: frozenset[str]

    @property
    def name(self) -> str:
        """The name of the field."""
        return self.node.name.value

    def arguments(self, variables: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return its arguments, whether they fit or not."""
        return {
            argument.name.value: value_from_ast_untyped(argument.value, dict(variables or {}))
            for argument in self.node.arguments or ()
            if not _is_missing(argument.value, variables)
        }

    def is_meant_by(self, error: GraphQLError) -> bool:
        """Tell whether an error is about this field, something in it, or a variable it uses."""
        return any(self._holds(node) for node in error.nodes or ())

    def _holds(self, node: Node) -> bool:
        if isinstance(node, VariableDefinitionNode):
            return node.variable.name.value in self.variables
        assert node.loc is not None
        assert self.node.loc is not None
        return self.node.loc.start <= node.loc.start < self.node.loc.end


def asked_in(document: DocumentNode) -> list[Asked]:
    """Return all that a document asks for."""
    fragments = {
        definition.name.value: definition
        for definition in document.definitions
        if isinstance(definition, FragmentDefinitionNode)
    }
    found: dict[int, Asked] = {}
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            for field in _fields(definition.selection_set, fragments, set()):
                asked = Asked(
                    root=definition.operation.value, node=field, variables=_variables(field)
                )
                found.setdefault(id(field), asked)
    return list(found.values())


def _fields(
    selected: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode], seen: set[str]
) -> Iterator[FieldNode]:
    for selection in selected.selections:
        if isinstance(selection, FieldNode):
            if not selection.name.value.startswith("__"):
                yield selection
        elif isinstance(selection, InlineFragmentNode):
            yield from _fields(selection.selection_set, fragments, seen)
        else:
            assert isinstance(selection, FragmentSpreadNode)
            fragment = fragments.get(selection.name.value)
            if fragment is not None and selection.name.value not in seen:
                seen.add(selection.name.value)
                yield from _fields(fragment.selection_set, fragments, seen)


def _variables(field: FieldNode) -> frozenset[str]:
    names: set[str] = set()

    class Collect(Visitor):
        def enter_variable(self, node: VariableNode, *_: object) -> None:
            names.add(node.name.value)

    for argument in field.arguments or ():
        visit(argument, Collect())
    return frozenset(names)


def _is_missing(value: Node, variables: Mapping[str, Any] | None) -> bool:
    return isinstance(value, VariableNode) and value.name.value not in (variables or {})
