"""A named composition of policies: what is attached to channels, servers and functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from ninelives_grpc.call import Method
from ninelives_grpc.clock import MONOTONIC, Clock
from ninelives_grpc.environment import disabled
from ninelives_grpc.errors import ConfigError, UnknownNameError
from ninelives_grpc.events import Emitter
from ninelives_grpc.laws.loop import FeedbackLoop
from ninelives_grpc.lint import Finding, findings
from ninelives_grpc.observer.recorder import Recorder
from ninelives_grpc.registry import Registry, default_registry
from ninelives_grpc.sinks.sink import MulticastSink, Sink
from ninelives_grpc.stacks import aio, sync
from ninelives_grpc.stacks.algebra import Expression, Nested
from ninelives_grpc.stacks.plan import Compiler, Plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from ninelives_grpc.observer.traffic import Traffic
    from ninelives_grpc.parameters import Adaptive, Value
    from ninelives_grpc.policies.policy import Live, Policy

A = ParamSpec("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyState:
    """The state of one policy.

    Attributes:
        name: Its name in the stack.
        kind: Its class, such as "CircuitBreaker".
        revision: How often its parameters have changed, starting with 1.
        values: What can be said of it, in plain values.
    """

    name: str
    kind: str
    revision: int
    values: dict[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackState:
    """The state of a stack.

    Attributes:
        name: Its name.
        policies: The state of each policy, outermost first.
        traffic: The calls of the window asked for.
        methods: The same, by method.
    """

    name: str
    policies: tuple[PolicyState, ...]
    traffic: Traffic
    methods: dict[str, Traffic]


class Parameters(Mapping[str, "Adaptive[Any]"]):
    """The parameters of a stack, by `policy/parameter`."""

    def __init__(self, compiler: Compiler) -> None:
        """Look into the policies of a stack, those that come later as well."""
        self._compiler = compiler

    def __getitem__(self, path: str) -> Adaptive[Any]:
        """Return the handle of a parameter.

        Raises:
            UnknownNameError: There is none; suggests the nearest.
        """
        policy, _, name = path.partition("/")
        live = self._compiler.policies.get(policy)
        if live is None or name not in live.specs:
            raise UnknownNameError("parameter", path, self)
        return live.parameter(name)

    def __iter__(self) -> Iterator[str]:
        """Go through the addresses, in the order of the policies."""
        for policy, live in self._compiler.policies.items():
            for name in live.specs:
                yield f"{policy}/{name}"

    def __len__(self) -> int:
        """Return how many there are."""
        return sum(len(live.specs) for live in self._compiler.policies.values())


class Stack(Nested):
    """A named composition of policies, with their state.

    Args:
        name: What it is called in telemetry and by the control plane; no slashes.
        expression: Policies composed by `+`, `|` and `&`.
        registry: Where it is to be found; by default `default_registry`.
        clock: Where time comes from; tests give a `VirtualClock`.
        sink: Where its events go, besides what the registry attaches.

    Attributes:
        nested: The stacks that stand inside its expression.

    Raises:
        ConfigError: The name or the composition is not possible; says which and what is.

    A stack can stand inside the expression of another one. Its policies then keep their state and
    their addresses, and serve both. One that was made with `NINELIVES_DISABLED=1` in the
    environment calls functions as if it were not there.
    """

    __slots__ = (
        "__weakref__",
        "_attached",
        "clock",
        "compiler",
        "disabled",
        "emitter",
        "expression",
        "name",
        "nested",
        "parameters",
        "plan",
        "recorder",
    )

    def __init__(
        self,
        name: str,
        expression: Expression,
        *,
        registry: Registry | None = None,
        clock: Clock = MONOTONIC,
        sink: Sink | None = None,
    ) -> None:
        """Compile the expression and take a place in the registry."""
        if not name or "/" in name:
            msg = f"must be a name without slashes, not {name!r}"
            raise ConfigError(msg, path="Stack.name")
        if not isinstance(expression, Expression):
            msg = f"must be policies composed by + | &, not {expression!r}"
            raise ConfigError(msg, path=f"{name}: expression")
        self.name = name
        self.expression = expression
        self.nested = frozenset(node for node in expression.walk() if isinstance(node, Nested))
        self.clock = clock
        self.disabled = disabled()
        self.emitter = Emitter(name)
        self.recorder = Recorder(self.emitter, clock.now())
        self.compiler = Compiler(name, expression, self.emitter, clock.now)
        self.plan: Plan = self.compiler.plan
        self.parameters = Parameters(self.compiler)
        self._attached: tuple[Sink, ...] = ()
        if sink is not None:
            self.attach(sink)
        (default_registry if registry is None else registry).add(self)

    @property
    def policies(self) -> Mapping[str, Live[Any]]:
        """The running policies by name, outermost first, and then the loops that steer them."""
        return self.compiler.policies

    @property
    def loops(self) -> list[FeedbackLoop]:
        """The feedback loops that steer its policies; `Registry.add_loop` adds one."""
        return [live for live in self.policies.values() if isinstance(live, FeedbackLoop)]

    def policy(self, name: str) -> Live[Any]:
        """Return a running policy.

        Raises:
            UnknownNameError: There is none of that name; suggests the nearest.
        """
        live = self.policies.get(name)
        if live is None:
            raise UnknownNameError(f"policy in stack {self.name!r}", name, self.policies)
        return live

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """Where its events go."""
        return self._attached

    def attach(self, sink: Sink) -> None:
        """Send events to this sink as well."""
        self._set_sinks((*self._attached, sink))

    def detach(self, sink: Sink) -> None:
        """Send no more events to this sink."""
        self._set_sinks(tuple(other for other in self._attached if other is not sink))

    def _set_sinks(self, sinks: tuple[Sink, ...]) -> None:
        self._attached = sinks
        self.emitter.attach(
            sinks[0] if len(sinks) == 1 else MulticastSink(*sinks) if sinks else None
        )

    def state(self, window: float = 60.0) -> StackState:
        """Return the state of the policies and the calls of the last `window` seconds.

        Args:
            window: 60, 300 or 900.
        """
        now = self.clock.now()
        return StackState(
            name=self.name,
            policies=tuple(self.policy_state(name) for name in self.policies),
            traffic=self.recorder.traffic(window, now),
            methods=self.recorder.methods(window, now),
        )

    def policy_state(self, name: str) -> PolicyState:
        """Return the state of one policy.

        Raises:
            UnknownNameError: There is none of that name; suggests the nearest.
        """
        live = self.policy(name)
        return PolicyState(
            name=name,
            kind=type(live.policy).__name__,
            revision=live.revision,
            values=live.state(self.clock.now()),
        )

    def lint(self, instead: Mapping[str, Policy] | None = None) -> list[Finding]:
        """Say what does not go well together, with the values that hold now.

        Args:
            instead: Snapshots to look at in place of those that hold now, by `stack/policy`.
        """
        methods = self.recorder.methods(900.0, self.clock.now())
        return findings(self.plan, methods, instead, self.loops)

    def describe(self) -> str:
        """Draw the composition as a tree."""
        return f"{self.name}\n{self.expression.describe()}"

    def label(self) -> str:
        """Return the line that stands for a stack inside another one."""
        return f"Stack {self.name!r}"

    def call(self, function: Callable[A, R], /, *args: A.args, **kwargs: A.kwargs) -> R:
        """Call a function under the policies, and return what it returns.

        A sync function can not be stopped: a `Timeout` lets it run to its end, and is then raised.

        Raises:
            Refused: A policy said no.
            TimedOut: A `Timeout` ran out.
            Exception: What the function raised at its last attempt.
        """
        if self.disabled:
            return function(*args, **kwargs)
        method = Method(_name_of(function))
        return sync.call(self, method, functools.partial(function, *args, **kwargs))

    async def acall(
        self, function: Callable[A, Awaitable[R]], /, *args: A.args, **kwargs: A.kwargs
    ) -> R:
        """Await a coroutine function under the policies, and return what it returns.

        Raises:
            Refused: A policy said no.
            TimedOut: A `Timeout` ran out, and the function was cancelled.
            Exception: What the function raised at its last attempt.
        """
        if self.disabled:
            return await function(*args, **kwargs)
        method = Method(_name_of(function))
        return await aio.call(self, method, functools.partial(function, *args, **kwargs))

    @overload
    def __call__(
        self, function: Callable[A, Coroutine[Any, Any, R]]
    ) -> Callable[A, Coroutine[Any, Any, R]]: ...

    @overload
    def __call__(self, function: Callable[A, R]) -> Callable[A, R]: ...

    def __call__(self, function: Callable[A, Any]) -> Callable[A, Any]:
        """Decorate a function or a coroutine function: `@stack`."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def protected(*args: A.args, **kwargs: A.kwargs) -> object:
                return await self.acall(function, *args, **kwargs)

            return protected

        @functools.wraps(function)
        def protected_sync(*args: A.args, **kwargs: A.kwargs) -> object:
            return self.call(function, *args, **kwargs)

        return protected_sync

    def __repr__(self) -> str:
        """Show name and expression."""
        return f"Stack({self.name!r}, {self.expression!r})"


def _name_of(function: Callable[..., object]) -> str:
    module = getattr(function, "__module__", None) or "function"
    return f"{module}/{getattr(function, '__qualname__', type(function).__name__)}"
