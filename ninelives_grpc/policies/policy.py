"""What a policy is: a declaration, which is a snapshot of values, and the running thing made of it.

`Policy` subclasses are what users write: frozen dataclasses of parameters and options. A stack
turns each into a `Live` object, which holds the current snapshot and the state, and reads no clock.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import threading
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from ninelives_grpc import parameters
from ninelives_grpc.changing import Wanted, change_all
from ninelives_grpc.errors import ConfigError, UnknownNameError
from ninelives_grpc.events import ParameterChanged
from ninelives_grpc.forking import afresh_in_children
from ninelives_grpc.naming import snake_case
from ninelives_grpc.parameters import Adaptive, Change, option, policy
from ninelives_grpc.stacks.algebra import Expression

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ninelives_grpc.call import Call
    from ninelives_grpc.events import Emitter
    from ninelives_grpc.events.event import About
    from ninelives_grpc.parameters import Spec, Value

_LOGGER = logging.getLogger("ninelives_grpc")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Role(Enum):
    """What a plan does with a running policy."""

    GATE = auto()
    """Ask it for a permit, and settle that with the outcome."""
    TIMEOUT = auto()
    """Set a deadline for what is inside."""
    RETRY = auto()
    """Ask it whether to do what is inside again."""
    TARGET = auto()
    """Send what is inside to its channel."""
    RESPOND = auto()
    """End here with its answer."""
    BUDGET = auto()
    """Nothing: other policies pay from it."""
    LOOP = auto()
    """Nothing: it moves a parameter of another policy."""


@policy
class Policy(Expression):
    """A rule about a call.

    Args:
        name: Address within the stack; by default the class name in snake_case, numbered from the
            second of a kind on.
    """

    name: str = option(default="")

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigError: One is not allowed; names the field and what is.
        """
        if not isinstance(self.name, str) or (self.name and not _NAME.fullmatch(self.name)):
            msg = f"must be lower_snake_case, not {self.name!r}"
            raise ConfigError(msg, path=f"{type(self).__name__}.name")
        self.validate(type(self).__name__)

    def validate(self, path: str) -> None:
        """Check the values one by one, and then together."""
        parameters.validated(self, path)
        problem = self.conflict()
        if problem:
            raise ConfigError(problem, path=path)

    def conflict(self) -> str:
        """Say which values do not go together, or return ""."""
        return ""

    def live(self, address: Address) -> Live[Any]:
        """Make the running policy."""
        raise NotImplementedError

    @classmethod
    def default_name(cls) -> str:
        """Return the class name in snake_case."""
        return snake_case(cls.__name__)

    def __repr__(self) -> str:
        """Show the policy as it would be written: only what differs from the default."""
        shown = []
        for field in sorted(dataclasses.fields(self), key=lambda field: bool(field.kw_only)):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            text = str(value) if isinstance(value, str) and field.name != "name" else repr(value)
            shown.append(text if not field.kw_only else f"{field.name}={text}")
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a policy runs: its stack, its name there, and where it publishes and reads the time."""

    stack: str
    policy: str
    emitter: Emitter
    now: Callable[[], float]


P = TypeVar("P", bound=Policy)


class Live(Generic[P]):
    """A running policy: the current snapshot of its values, and its state.

    Attributes:
        policy: The snapshot; a call reads it once and keeps it.
        declared: The snapshot it started with.
        name: Its name in the stack.
        revision: How often the snapshot was swapped, starting with 1.
        changing: Held while it is swapped.
    """

    role: ClassVar[Role]
    queues: ClassVar[bool] = False
    """Whether it keeps the queue of a server's workers."""

    def __init__(self, policy: P, address: Address) -> None:
        """Start with the values as declared."""
        self.policy = policy
        self.declared = policy
        self.revision = 1
        self.name = address.policy
        self.stack = address.stack
        self._emitter = address.emitter
        self._count = address.emitter.counter_of(address.policy)
        self._now = address.now
        self._lock = threading.Lock()
        self.changing = threading.Lock()
        self._subscribers: dict[str, list[Callable[[Any], None]]] = {}
        afresh_in_children(self)

    def start_afresh(self) -> None:
        """Make new locks, and forget calls under way: a forked child has none of their threads."""
        self._lock = threading.Lock()
        self.changing = threading.Lock()

    @property
    def follows_messages(self) -> bool:
        """Whether it has to do with single messages of a stream, such as when the first came."""
        return False

    @property
    def path(self) -> str:
        """Its address, `stack/policy`."""
        return f"{self.stack}/{self.name}"

    def beside(self, name: str) -> Address:
        """Return an address in the same stack."""
        return Address(stack=self.stack, policy=name, emitter=self._emitter, now=self._now)

    @property
    def specs(self) -> dict[str, Spec]:
        """Its parameters by name."""
        return parameters.specs(type(self.policy))

    def parameter(self, name: str) -> Adaptive[Any]:
        """Return the handle of one parameter.

        Raises:
            UnknownNameError: There is none of that name.
        """
        spec = self.specs.get(name)
        if spec is None:
            raise UnknownNameError(f"parameter of {self.path}", name, self.specs)
        return Adaptive(self, spec)

    def change(
        self,
        values: Mapping[str, object],
        *,
        expected_revision: int | None = None,
        dry_run: bool = False,
        by: str = "",
        reason: str = "",
    ) -> list[Change]:
        """Swap the snapshot for one with other values, see `change_all`; state is kept.

        Raises:
            ConfigError: A value is not allowed.
            RevisionError: The snapshot is not the expected one any more.
        """
        wanted = Wanted(live=self, values=values, expected_revision=expected_revision)
        return change_all([wanted], dry_run=dry_run, by=by, reason=reason)

    def with_values(self, values: Mapping[str, object]) -> P:
        """Return the snapshot with other values.

        Raises:
            ConfigError: A value is not allowed.
        """
        try:
            return dataclasses.replace(self.policy, **values)  # type: ignore[arg-type]
        except ConfigError as error:
            field = error.path.partition(".")[2]
            path = f"{self.path}/{field}" if field else self.path
            raise ConfigError(error.message, path=path) from None

    def become(self, new: P, old: P) -> None:
        """Take another snapshot; whoever calls it holds `changing`.

        An `adopt` that raises is logged: other policies that change too have changed by now.
        """
        self.policy = new
        self.revision += 1
        try:
            self.adopt(old)
        except Exception:
            _LOGGER.exception("%s could not fit its state to its new values", self.path)

    def announce(self, change: Change, by: str, reason: str) -> None:
        """Tell everybody who wants to know that a parameter has changed; who raises is logged."""
        name = change.path.rpartition("/")[2]
        self._emitter.emit(
            ParameterChanged(
                stack=self.stack,
                policy=self.name,
                at=self._now(),
                parameter=name,
                old=change.old,
                new=change.new,
                revision=change.revision,
                by=by,
                reason=reason,
            )
        )
        for callback in tuple(self._subscribers.get(name, ())):
            try:
                callback(change.new)
            except Exception:  # the change has been made, and others are still to hear of it
                _LOGGER.exception("a subscriber of %s failed", change.path)

    def _about(self, call: Call, now: float, reason: str = "") -> About:
        """Return what all events have that concern a call."""
        return self.stack, self.name, call.method.name, now, call.attempts, reason

    def subscribe(self, name: str, callback: Callable[[Any], None]) -> Callable[[], None]:
        """Call `callback(new_value)` after each change of a parameter; returns how to end it."""
        callbacks = self._subscribers.setdefault(name, [])
        callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in callbacks:
                callbacks.remove(callback)

        return unsubscribe

    def adopt(self, old: P) -> None:
        """Fit the state to the new snapshot, where that is more than reading it next time."""

    def state(self, now: float) -> dict[str, Value]:
        """Return what can be said of its state, in plain values."""
        return {}
