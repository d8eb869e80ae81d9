"""The algebra: `A + B` wraps, `A | B` falls back, `A & B` races.

Python binds `+` tighter than `&`, and `&` tighter than `|`, so `A | B + C & D` is
`A | ((B + C) & D)`. `repr` prints the parentheses, `describe` draws the tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ninelives_grpc.stacks.plan import Compiler


class Expression:
    """Anything that can stand on a side of an operator: a policy, a composition, a stack."""

    __slots__ = ()

    def __add__(self, inner: Expression) -> Wrap:
        """Put this one outside and the other inside."""
        return Wrap(self, inner) if isinstance(inner, Expression) else NotImplemented

    def __or__(self, second: Expression) -> Fallback:
        """Ask the other one when this one fails."""
        return Fallback(self, second) if isinstance(second, Expression) else NotImplemented

    def __and__(self, second: Expression) -> Race:
        """Start both at once; the first success wins and the other is cancelled."""
        return Race(self, second) if isinstance(second, Expression) else NotImplemented

    def parts(self) -> tuple[Expression, ...]:
        """Return the expressions that this one is directly composed of."""
        return ()

    def walk(self) -> Iterator[Expression]:
        """Go through this expression and everything in it, outside first, left before right."""
        yield self
        for part in self.parts():
            yield from part.walk()

    def describe(self) -> str:
        """Draw the tree, one line an element."""
        return "\n".join(_draw(self, "", ""))

    def label(self) -> str:
        """Return the line that stands for this element in `describe`."""
        return repr(self)


class Composition(Expression):
    """Two expressions and an operator.

    Attributes:
        left: Outer, first or left side.
        right: Inner, second or right side.
    """

    __slots__ = ("left", "right")
    symbol: ClassVar[str]
    meaning: ClassVar[str]

    def __init__(self, left: Expression, right: Expression) -> None:
        """Compose two expressions; the operators `+ | &` do the same."""
        for side in (left, right):
            if not isinstance(side, Expression):
                msg = f"{side!r} is not a policy; compose policies and stacks"
                raise ConfigError(msg, path=type(self).__name__)
        self.left = left
        self.right = right

    def parts(self) -> tuple[Expression, ...]:
        """Return both sides, with chains of the same operator taken as one."""
        left = self.left.parts() if type(self.left) is type(self) else (self.left,)
        return (*left, self.right)

    def label(self) -> str:
        """Return the operator and what it means."""
        return f"{self.symbol}  {self.meaning}"

    def __repr__(self) -> str:
        """Show the expression with all its parentheses."""
        return f" {self.symbol} ".join(
            f"({part!r})" if isinstance(part, Composition) else repr(part) for part in self.parts()
        )


class Wrap(Composition):
    """`A + B`: A outside, B inside."""

    __slots__ = ()
    symbol = "+"
    meaning = "each wraps the next"


class Fallback(Composition):
    """`A | B`: B when A fails or refuses.

    Not when the call was cancelled, nor when a stream has already delivered something. If both
    fail, the error of A is raised, with that of B as a note. When B goes over the wire it is paid
    from the retry budget.
    """

    __slots__ = ()
    symbol = "|"
    meaning = "the next when one fails"


class Race(Composition):
    """`A & B`: both at once, first success wins, the other is cancelled.

    If both fail, the error of A is raised, with that of B as a note. The second side is paid from
    the retry budget; without budget only A runs.
    """

    __slots__ = ()
    symbol = "&"
    meaning = "all at once, first success wins"


class Nested(Expression):
    """An expression that keeps its own running policies when it stands inside another.

    Attributes:
        expression: What it is composed of.
        compiler: Who runs its policies.
    """

    __slots__ = ("compiler", "expression")
    expression: Expression
    compiler: Compiler

    def parts(self) -> tuple[Expression, ...]:
        """Return what it is composed of."""
        return (self.expression,)


def _draw(node: Expression, first: str, rest: str) -> Iterator[str]:
    yield first + node.label()
    parts = node.parts()
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        yield from _draw(
            part, rest + ("└── " if last else "├── "), rest + ("    " if last else "│   ")
        )
