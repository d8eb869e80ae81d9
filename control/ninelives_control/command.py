"""A command, declared once: every transport derives what it needs from the declaration."""

from __future__ import annotations

import re
import sys
import threading
import typing
from dataclasses import dataclass
from enum import StrEnum
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from ninelives_control.errors import Code, CommandError, invalid
from ninelives_control.paths import below
from ninelives_grpc.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ninelives_control.audit.log import AuditFile
    from ninelives_control.authorization.decision import Explanation, Request
    from ninelives_control.changes.changes import Changes
    from ninelives_control.identity.identity import Identity
    from ninelives_control.model import ParameterValue
    from ninelives_grpc.observer.observer import Observer
    from ninelives_grpc.registry import Registry
    from ninelives_grpc.sinks.memory import MemorySink
    from ninelives_grpc.stacks.stack import Stack

A = TypeVar("A", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)

# Several hosts of language models allow no other tool names.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Effect(StrEnum):
    """What a command does to what runs."""

    READ = "read"
    """Nothing."""
    CHANGE = "change"
    """It can be undone by another command."""
    DESTRUCTIVE = "destructive"
    """It can not be undone: clients ask for confirmation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a command acts on, for rules to look at.

    Attributes:
        path: An address, of a stack, a policy or a parameter; "" is all stacks.
    """

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal(Target):
    """A parameter, and the value that it is to have.

    Attributes:
        value: That value.
    """

    value: ParameterValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Who runs a command, and what there is to run it on.

    Attributes:
        id: The command's id, as it stands in the audit.
        identity: Who issues it.
        transport: By which way it came.
        registry: The stacks.
        events: The last events of all of them.
        observer: What they did over the last minutes.
        commands: All commands.
        changes: What makes changes of parameters.
        audit: What was asked for before.
        may: Whether that identity may use a command at all.
        explain: Why somebody may do something, or not.
    """

    id: str
    identity: Identity
    transport: str
    registry: Registry
    events: MemorySink
    observer: Observer
    commands: CommandTable
    changes: Changes
    audit: AuditFile
    may: Callable[[Command[Any, Any]], bool]
    explain: Callable[[Request], Explanation]

    def stacks(self, name: str | None) -> list[Stack]:
        """Return the stack of that name, or all of them.

        Raises:
            UnknownNameError: There is none; suggests the nearest.
        """
        return list(self.registry) if name is None else [self.registry.stack(name)]


def targets_of(arguments: BaseModel, _context: Context | None = None) -> Sequence[Target]:
    """Find what a command acts on by the names of its arguments.

    These are `path`, or `stack` and `policy`; and `value`, when it is a value for that path. A
    command that has none of them acts on nothing in particular.
    """
    given = {name: getattr(arguments, name) for name in type(arguments).model_fields}
    if given.keys().isdisjoint(("path", "stack", "policy")):
        return ()
    path = given.get("path") or below(given.get("stack"), given.get("policy"))
    if "value" in given:
        return (Proposal(path=path, value=given["value"]),)
    return (Target(path=path),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Generic[A, R]):
    """Something that can be asked of the control plane.

    Attributes:
        name: In snake_case, up to 64 characters.
        summary: One sentence for people and agents.
        effect: What it does to what runs.
        arguments: Model of what it is told.
        result: Model of what it answers.
        handler: What runs; in any thread, several at once. It may raise `CommandError`, and the
            errors of the data plane. Anything else is logged, and `internal` for the caller.
        targets: What it acts on, for rules to look at; it may raise what the handler may.

    Raises:
        ConfigError: The declaration lacks something; names the command and the remedy.
    """

    name: str
    summary: str
    effect: Effect
    arguments: type[A]
    result: type[R]
    handler: Callable[[A, Context], R]
    targets: Callable[[A, Context], Sequence[Target]] = targets_of

    def __post_init__(self) -> None:
        """Check that agents and people will be able to use it."""
        if not _NAME.fullmatch(self.name):
            msg = "must be lower_snake_case, up to 64 characters"
            raise ConfigError(msg, path=f"command {self.name!r}")
        # Python drops docstrings, where summaries come from, under -OO.
        if not self.summary and sys.flags.optimize < 2:  # noqa: PLR2004
            msg = "needs a summary: one sentence, such as the docstring of its handler"
            raise ConfigError(msg, path=f"command {self.name!r}")
        for model in (self.arguments, self.result):
            _check(model, f"command {self.name!r}")

    def parse(self, raw: Mapping[str, object]) -> A:
        """Return the arguments as a model.

        Raises:
            CommandError: `invalid_argument`, with the first thing that is wrong.
        """
        try:
            return self.arguments.model_validate(dict(raw))
        except ValidationError as error:
            raise invalid(error, self.arguments.model_fields) from None


class CommandTable:
    """All commands by name; applications may add and remove theirs at any time.

    Attributes:
        revision: How often it has changed: what is derived from it can be kept as long as this is
            the same.
    """

    def __init__(self, commands: Sequence[Command[Any, Any]] = ()) -> None:
        """Start with these."""
        self._commands: dict[str, Command[Any, Any]] = {}
        self._subscribers: tuple[Callable[[], None], ...] = ()
        self._lock = threading.Lock()
        self.revision = 0
        for entry in commands:
            self.add(entry)

    def add(self, entry: Command[A, R]) -> Command[A, R]:
        """Take in a command.

        Raises:
            ConfigError: There is one of that name.
        """
        with self._lock:
            if entry.name in self._commands:
                msg = "is there already; take another name"
                raise ConfigError(msg, path=f"command {entry.name!r}")
            self._become({**self._commands, entry.name: entry})
        self._tell()
        return entry

    def remove(self, name: str) -> None:
        """Forget a command; one that runs goes on.

        Raises:
            UnknownNameError: There is none of that name; suggests the nearest.
        """
        with self._lock:
            if name not in self._commands:
                raise UnknownNameError("command", name, self._commands)
            self._become({key: entry for key, entry in self._commands.items() if key != name})
        self._tell()

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback()` after each change, in the thread that made it; returns how to end it.

        It must not block and must not raise.
        """

        # Not the callback itself, which may be given twice.
        def notify() -> None:
            callback()

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = tuple(
                    other for other in self._subscribers if other is not notify
                )

        with self._lock:
            self._subscribers = (*self._subscribers, notify)
        return unsubscribe

    def _become(self, commands: dict[str, Command[Any, Any]]) -> None:
        # A new dictionary: whoever goes through the old one is not disturbed.
        self._commands = commands
        self.revision += 1

    def _tell(self) -> None:
        for notify in self._subscribers:
            notify()

    def command(
        self,
        effect: Effect,
        *,
        name: str = "",
        summary: str = "",
        targets: Callable[[A, Context], Sequence[Target]] = targets_of,
    ) -> Callable[[Callable[[A, Context], R]], Command[A, R]]:
        """Decorate a handler and take it in, as the function `command`."""
        declare = command(effect, name=name, summary=summary, targets=targets)
        return lambda handler: self.add(declare(handler))

    def get(self, name: str) -> Command[Any, Any]:
        """Return the command of that name.

        Raises:
            CommandError: `unknown_command`; suggests the nearest.
        """
        found = self._commands.get(name)
        if found is None:
            message = str(UnknownNameError("command", name[:100], self._commands))
            raise CommandError(Code.UNKNOWN_COMMAND, message)
        return found

    def __iter__(self) -> Iterator[Command[Any, Any]]:
        """Go through the commands, by name."""
        return iter(sorted(self._commands.values(), key=lambda entry: entry.name))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._commands)

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a command of that name."""
        return name in self._commands


def command(
    effect: Effect,
    *,
    name: str = "",
    summary: str = "",
    targets: Callable[[A, Context], Sequence[Target]] = targets_of,
) -> Callable[[Callable[[A, Context], R]], Command[A, R]]:
    """Make a command of a handler that has models for its argument and its answer.

    @command(Effect.CHANGE)
    def drain(arguments: DrainArguments, context: Context) -> Drained:
        '''Take no new work.'''

    Args:
        effect: What it does to what runs.
        name: Its name; by default the function's.
        summary: One sentence; by default the first line of the function's docstring.
        targets: What it acts on; by default `targets_of` its arguments.
    """

    def declare(handler: Callable[[A, Context], R]) -> Command[A, R]:
        arguments, result = _models(handler)
        return Command(
            name=name or getattr(handler, "__name__", ""),
            summary=summary or (handler.__doc__ or "").strip().partition("\n")[0],
            effect=effect,
            arguments=arguments,
            result=result,
            handler=handler,
            targets=targets,
        )

    return declare


def _models(handler: Callable[[A, Context], R]) -> tuple[type[A], type[R]]:
    """Read the two models off the annotations; that of the context may not be importable."""
    hints = dict(handler.__annotations__)
    wanted = SimpleNamespace(
        __annotations__={
            "arguments": next((hint for name, hint in hints.items() if name != "return"), None),
            "result": hints.get("return"),
        }
    )
    try:
        found = typing.get_type_hints(wanted, handler.__globals__)
    except NameError as error:
        msg = f"the models of a handler must stand in its module, not within a function: {error}"
        raise ConfigError(msg, path=f"command {handler.__name__!r}") from None
    return found["arguments"], found["result"]


def _check(model: object, path: str) -> None:
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        msg = f"takes and returns pydantic models, not {model!r}; annotate the handler"
        raise ConfigError(msg, path=path)
    for name, field in model.model_fields.items():
        if not field.description:
            msg = "needs a description, for people and agents"
            raise ConfigError(msg, path=f"{path}: {model.__name__}.{name}")
