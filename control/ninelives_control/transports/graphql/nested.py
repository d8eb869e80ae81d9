"""Fields that lead from stacks to their policies, and on to parameters, state and what happened.

Each of them is a command, asked by whoever sent the document with the arguments that its place
gives: it is run only if it is selected, and allowed and written down as if asked for by itself.
"""

from __future__ import annotations

import glob
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ninelives_control.commands.audit import get_audit
from ninelives_control.commands.events import list_events
from ninelives_control.commands.metrics import get_metrics
from ninelives_control.commands.parameters import list_parameters
from ninelives_control.commands.stacks import describe_policy, list_policies, list_stacks
from ninelives_control.commands.state import get_state
from ninelives_control.errors import Code, CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ninelives_control.command import Command, CommandTable

MOST_PARTS = 1000
"""Commands that may run below one field of `Query`."""

Values = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A field that a command answers.

    Attributes:
        name: Its name; it takes the place of what the model around it has under that name.
        command: What answers; its arguments are those of the field, but for the ones that are set.
        pick: Where in the result that is which is told.
        sets: Arguments that the values around it give.
        branches: What leads on from each entry.
    """

    name: str
    command: Command[Any, Any]
    pick: tuple[str | int, ...] = ()
    sets: Callable[[Mapping[str, Any]], Values] = lambda _values: {}
    branches: tuple[Branch, ...] = ()

    def is_in(self, commands: CommandTable) -> bool:
        """Tell whether its command is there, and not another one of that name."""
        return self.command.name in commands and commands.get(self.command.name) is self.command

    def picked(self, result: Any) -> Any:
        """Return what of a result is told."""
        for step in self.pick:
            result = result[step]
        return result


class Part(Values):
    """Values that branches lead on from, with what is left of the commands that may run below."""

    def __init__(self, values: Values, left: list[int]) -> None:
        """Hold both; `left` is one for all parts below a field of `Query`."""
        super().__init__(values)
        self._left = left

    @classmethod
    def root(cls) -> Part:
        """Return what a field of `Query` leads on from; it counts as well."""
        return cls({}, [MOST_PARTS + 1])

    def below(self, values: Values) -> Part:
        """Return values that were found below."""
        return Part(values, self._left)

    def spend(self) -> None:
        """Count a command.

        Raises:
            CommandError: There were too many.
        """
        self._left[0] -= 1
        if self._left[0] < 0:
            message = f"more than {MOST_PARTS} commands would run; select less, or a smaller page"
            raise CommandError(Code.INVALID_ARGUMENT, message)


def _of_stack(stack: Mapping[str, Any]) -> Values:
    return {"stack": stack["name"]}


def _only_stack(stack: Mapping[str, Any]) -> Values:
    return {"stack": stack["name"], "offset": 0, "limit": 1}


def _of_policy(policy: Mapping[str, Any]) -> Values:
    stack, _, name = policy["path"].partition("/")
    return {"stack": stack, "policy": name}


def _below(place: str) -> Values:
    # Names may have in them what stands for something in a pattern.
    return {"path": f"{glob.escape(place)}/**"}


_POLICY = (
    Branch(name="parameters", command=list_parameters, pick=("parameters",), sets=_of_policy),
    Branch(
        name="state",
        command=describe_policy,
        pick=("state",),
        sets=lambda policy: {"path": policy["path"]},
    ),
    Branch(
        name="metrics",
        command=get_metrics,
        pick=("stacks", 0, "policies", 0),
        sets=lambda policy: (
            {"offset": 0, "limit": 1, "series": 0, "method": None, "target": None}
            | _of_policy(policy)
        ),
    ),
    Branch(name="events", command=list_events, sets=_of_policy),
    Branch(name="audit", command=get_audit, sets=lambda policy: _below(policy["path"])),
)
_STACK = (
    Branch(
        name="policies",
        command=list_policies,
        pick=("policies",),
        sets=_of_stack,
        branches=_POLICY,
    ),
    Branch(name="parameters", command=list_parameters, pick=("parameters",), sets=_of_stack),
    Branch(
        name="traffic",
        command=get_state,
        pick=("stacks", 0, "traffic"),
        sets=lambda stack: _only_stack(stack) | {"methods": 0},
    ),
    Branch(name="metrics", command=get_metrics, pick=("stacks", 0), sets=_only_stack),
    Branch(name="events", command=list_events, sets=_of_stack),
    Branch(name="audit", command=get_audit, sets=lambda stack: _below(stack["name"])),
)
STACKS = Branch(name="stacks", command=list_stacks, pick=("stacks",), branches=_STACK)
"""Where it begins."""
