"""Stacks by name: what the control plane sees."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from ninelives_grpc.changing import Wanted, change_all
from ninelives_grpc.errors import ConfigError, UnknownNameError
from ninelives_grpc.forking import afresh_in_children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from opentelemetry.metrics import MeterProvider

    from ninelives_grpc.laws.loop import FeedbackLoop
    from ninelives_grpc.laws.runner import LoopRunner
    from ninelives_grpc.parameters import Adaptive, Change
    from ninelives_grpc.policies.policy import Live
    from ninelives_grpc.sinks.sink import Sink
    from ninelives_grpc.stacks.stack import Stack

_LOGGER = logging.getLogger("ninelives_grpc")


class Registry:
    """Holds stacks by name; every stack is in one, by default in `default_registry`."""

    def __init__(self, *, meter_provider: MeterProvider | None = None) -> None:
        """Start with none; metrics go to the global provider, or to another one."""
        self._meter_provider = meter_provider
        self._stacks: dict[str, Stack] = {}
        self._sinks: tuple[Sink, ...] = ()
        self._subscribers: tuple[Callable[[Stack], None], ...] = ()
        self._runner: LoopRunner | None = None
        self._lock = threading.Lock()
        afresh_in_children(self)

    def start_afresh(self) -> None:
        """Make a new lock: a thread that a forked child does not have may hold the old one."""
        self._lock = threading.Lock()

    def add(self, stack: Stack) -> None:
        """Take in a stack; one of the same name is replaced, and can not be reached any more."""
        with self._lock:
            first = not self._stacks
            old = self._stacks.get(stack.name)
            if old is stack:
                return
            self._stacks[stack.name] = stack
            sinks = self._sinks
        if first:
            # Not before it is needed: OpenTelemetry takes its time to import.
            from ninelives_grpc.observer.metrics import observe  # noqa: PLC0415

            observe(self, self._meter_provider)
        if old is not None:
            _LOGGER.warning(
                "a second stack named %r takes the place of the first in the registry; "
                "give each a name of its own",
                stack.name,
            )
            self._end_loops(old)
        for sink in sinks:
            stack.attach(sink)
        for callback in self._subscribers:
            callback(stack)

    def subscribe(self, callback: Callable[[Stack], None]) -> Callable[[], None]:
        """Call `callback(stack)` for each stack that is taken in; returns how to end it.

        It is called in the thread that makes the stack, before that is used, and must not raise.
        """

        # Not the callback itself, which may be given twice.
        def notify(stack: Stack) -> None:
            callback(stack)

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = tuple(
                    other for other in self._subscribers if other is not notify
                )

        with self._lock:
            self._subscribers = (*self._subscribers, notify)
        return unsubscribe

    def remove(self, name: str) -> None:
        """Forget a stack; it goes on working, without its loops."""
        with self._lock:
            stack = self._stacks.pop(name, None)
        if stack is not None:
            self._end_loops(stack)

    @property
    def loops(self) -> tuple[FeedbackLoop, ...]:
        """The feedback loops, in the order in which they came."""
        return () if self._runner is None else self._runner.loops

    @property
    def runner(self) -> LoopRunner:
        """Who asks the loops."""
        # Not before it is needed: most have no loops.
        from ninelives_grpc.laws.runner import LoopRunner  # noqa: PLC0415

        with self._lock:
            if self._runner is None:
                self._runner = LoopRunner()
            return self._runner

    def add_loop(self, loop: FeedbackLoop, *, start: bool = True) -> FeedbackLoop:
        """Take in a feedback loop, and have it asked from now on; returns it.

        It gets the address `stack/name` among the policies of its stack.

        Args:
            loop: The loop; its parameter is one of a stack of this registry.
            start: Whether a thread is to ask it, unless a task does (`aio.run_loops`). Without one
                somebody has to call `tick`.

        Raises:
            ConfigError: Its name is taken, another loop has its parameter, or that is of a stack
                whose place another one has taken.
            UnknownNameError: Its stack is not in this registry.
        """
        stack, runner = self.stack(loop.stack), self.runner
        with self._lock:
            if any(other.handle.path == loop.handle.path for other in runner.loops):
                msg = "a loop moves it already, and two would pull it to and fro"
                raise ConfigError(msg, path=loop.handle.path)
            if stack.policies.get(loop.handle.live.name) is not loop.handle.live:
                msg = "belongs to another stack, whose name and place this one has taken"
                raise ConfigError(msg, path=loop.handle.path)
            address = stack.compiler.address(loop.name, loop.policy.default_name())
            loop.begin(stack, address.policy)
            stack.compiler.take_in(loop)
            runner.add(loop)
        if start:
            runner.start()
        return loop

    def remove_loop(self, loop: FeedbackLoop) -> None:
        """Have a loop asked no more; the value that it has set stays."""
        with self._lock:
            stack = self._stacks.get(loop.stack)
        if self._runner is not None:
            self._runner.remove(loop)
        loop.end()
        if stack is not None:
            stack.compiler.let_go(loop)

    def start_loops(self) -> None:
        """Have a thread ask the loops, unless something does already."""
        if self._runner is not None:
            self._runner.start()

    def stop_loops(self) -> None:
        """Have no loop asked any more, and wait until none is; `start_loops` goes on."""
        if self._runner is not None:
            self._runner.stop()

    def _end_loops(self, stack: Stack) -> None:
        for loop in self.loops:
            if stack.policies.get(loop.name) is loop:
                self.remove_loop(loop)
                stack.compiler.let_go(loop)

    def attach(self, sink: Sink) -> None:
        """Send the events of all stacks to a sink, also of those that are still to come."""
        with self._lock:
            self._sinks = (*self._sinks, sink)
            stacks = tuple(self._stacks.values())
        for stack in stacks:
            stack.attach(sink)

    def detach(self, sink: Sink) -> None:
        """Send nothing to that sink any more."""
        with self._lock:
            self._sinks = tuple(other for other in self._sinks if other is not sink)
            stacks = tuple(self._stacks.values())
        for stack in stacks:
            stack.detach(sink)

    def stack(self, name: str) -> Stack:
        """Return the stack of that name.

        Raises:
            UnknownNameError: There is none; suggests the nearest.
        """
        stack = self._stacks.get(name)
        if stack is None:
            raise UnknownNameError("stack", name, self._stacks)
        return stack

    def policy(self, path: str) -> Live[Any]:
        """Return the running policy at `stack/policy`.

        Raises:
            UnknownNameError: There is none; suggests the nearest.
        """
        stack, _, policy = path.partition("/")
        return self.stack(stack).policy(policy)

    def parameter(self, path: str) -> Adaptive[Any]:
        """Return the handle of the parameter at `stack/policy/parameter`.

        Raises:
            UnknownNameError: There is none; suggests the nearest.
        """
        policy, _, name = path.rpartition("/")
        return self.policy(policy).parameter(name)

    def change(
        self,
        values: Mapping[str, object],
        *,
        expected_revisions: Mapping[str, int] | None = None,
        dry_run: bool = False,
        by: str = "",
        reason: str = "",
        first: Callable[[Sequence[Change]], None] | None = None,
    ) -> list[Change]:
        """Change parameters of any policies: all of them, or none; see `change_all`.

        Args:
            values: The new values by address, `stack/policy/parameter`.
            expected_revisions: Change only if these policies are still at these revisions, by
                `stack/policy`.
            dry_run: Validate, and change nothing.
            by: Who asks, for the events.
            reason: Why, for the events.
            first: Called when all is valid and before anything holds: what it raises calls all off.

        Raises:
            ConfigError: A value is not allowed.
            RevisionError: A policy is not at the expected revision any more.
            UnknownNameError: There is no such parameter.
        """
        expected = expected_revisions or {}
        wanted = [
            Wanted(live=live, values=inner, expected_revision=expected.get(live.path))
            for live, inner in self.by_policy(values)
        ]
        return change_all(wanted, dry_run=dry_run, by=by, reason=reason, first=first)

    def by_policy(self, values: Mapping[str, object]) -> list[tuple[Live[Any], dict[str, object]]]:
        """Return values that are known by address as values by name for each running policy.

        Raises:
            UnknownNameError: There is no such parameter.
        """
        found: dict[int, tuple[Live[Any], dict[str, object]]] = {}
        for path, value in values.items():
            policy, _, name = path.rpartition("/")
            live = self.policy(policy)
            live.parameter(name)
            found.setdefault(id(live), (live, {}))[1][name] = value
        return list(found.values())

    def __iter__(self) -> Iterator[Stack]:
        """Go through the stacks, by name."""
        return iter(sorted(self._stacks.values(), key=lambda stack: stack.name))

    def __len__(self) -> int:
        """Return how many stacks there are."""
        return len(self._stacks)

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a stack of that name."""
        return name in self._stacks


default_registry = Registry()
"""Where stacks go that are not given another registry."""
