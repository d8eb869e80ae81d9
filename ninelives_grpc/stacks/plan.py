"""A stack's expression, compiled: a flat row of running policies with something at its end.

`A + B + C` becomes one row. A `|` or `&` ends a row and begins two, so `(A | B) + C` is a fallback
between the rows `A + C` and `B + C`, in which C is the same running policy. Changing a parameter
never compiles again; only another expression does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ninelives_grpc.errors import ConfigError
from ninelives_grpc.policies.budget import Budget, RetryBudget
from ninelives_grpc.policies.early_drop import EarlyDropGate
from ninelives_grpc.policies.gate import Gate
from ninelives_grpc.policies.hedge import Hedge, HedgeFlow
from ninelives_grpc.policies.policy import Address, Live, Policy, Role
from ninelives_grpc.policies.respond import RespondFlow
from ninelives_grpc.policies.retry import Retry, RetryFlow
from ninelives_grpc.stacks.algebra import Fallback, Nested, Race, Wrap
from ninelives_grpc.stacks.hedging import HedgeLeaf
from ninelives_grpc.stacks.leaves import FallbackLeaf, Leaf, RaceLeaf, RespondLeaf

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.call import Method
    from ninelives_grpc.events import Emitter
    from ninelives_grpc.policies.budget import BudgetFlow
    from ninelives_grpc.stacks.algebra import Expression


class Plan:
    """What a call passes through, from the outside in.

    Attributes:
        layers: Running policies, outermost first.
        depth: How many they are.
        entering: For each layer its role, the layer, and how a gate admits. A loop over layers of
            different classes finds nothing in Python's caches, and looks up what it can here.
        leaving: The same, and how a gate settles; the role is None where there is nothing to do.
        gates: Those of them that only admit or refuse.
        leaf: What comes then; None is one attempt, over the wire or of the function.
        repeats: Whether one call can take another number of attempts than one.
        attempts: Whether there is any attempt in it.
        races: Whether attempts can run at once.
        roles: What kinds of policy occur in it, also beyond the leaf.
        hedges: The hedges in it.
        unhedged: The same without them, if there are any.
    """

    __slots__ = (
        "attempts",
        "depth",
        "entering",
        "gates",
        "hedges",
        "layers",
        "leaf",
        "leaving",
        "races",
        "repeats",
        "roles",
        "unhedged",
    )
    attempts: bool
    depth: int
    entering: tuple[tuple[Role, Any, Any], ...]
    gates: tuple[Gate[Any], ...]
    hedges: tuple[HedgeFlow, ...]
    layers: tuple[Live[Any], ...]
    leaf: Leaf | None
    leaving: tuple[tuple[Role | None, Any, Any], ...]
    races: bool
    repeats: bool
    roles: frozenset[Role]
    unhedged: Plan | None

    def __init__(self, layers: tuple[Live[Any], ...], leaf: Leaf | None) -> None:
        self.layers = layers
        self.depth = len(layers)
        self.gates = tuple(layer for layer in layers if isinstance(layer, Gate))
        self.entering = tuple((each.role, each, getattr(each, "admit", None)) for each in layers)
        self.leaving = tuple(_leaving(layer) for layer in layers)
        self.leaf = leaf
        inner = () if leaf is None else leaf.plans
        self.roles = frozenset({layer.role for layer in layers}).union(
            *(plan.roles for plan in inner)
        )
        self.repeats = leaf is not None or Role.RETRY in self.roles
        self.attempts = leaf is None or any(plan.attempts for plan in inner)
        self.races = isinstance(leaf, RaceLeaf | HedgeLeaf) or any(plan.races for plan in inner)
        own = (leaf.flow,) if isinstance(leaf, HedgeLeaf) else ()
        self.hedges = own + tuple(hedge for plan in inner for hedge in plan.hedges)
        self.unhedged = None

    def of_method(self, method: Method, *, streams: bool) -> Plan:
        """Return the plan for calls of a method: without hedges where none may be made."""
        if self.unhedged is None:
            return self
        hedged = not streams and any(hedge.applies(method) for hedge in self.hedges)
        return self if hedged else self.unhedged

    @property
    def when_blocking(self) -> Plan:
        """The plan for a call that waits in its attempts, beside which no other can start."""
        return self.unhedged or self

    @property
    def follows_messages(self) -> bool:
        """Whether a layer of this row has to do with single messages of a stream."""
        return any(layer.follows_messages for layer in self.layers)


def _leaving(layer: Live[Any]) -> tuple[Role | None, Any, Any]:
    if isinstance(layer, Gate):
        return Role.GATE if layer.records else None, layer, layer.settle
    return layer.role, layer, None


class Compiler:
    """Turns the expression of one stack into a plan, and keeps the running policies it makes.

    The same policy object is the same running policy wherever it stands in the expression.

    Attributes:
        policies: Running policies by name, outermost first.
    """

    def __init__(
        self, stack: str, expression: Expression, emitter: Emitter, now: Callable[[], float]
    ) -> None:
        self.policies: dict[str, Live[Any]] = {}
        self._stack = stack
        self._emitter = emitter
        self._now = now
        self._lives: dict[int, Live[Any]] = {}
        paying = [node for node in expression.walk() if isinstance(node, Retry | Hedge)]
        given = [node.budget for node in paying if node.budget is not None]
        self._budget: Budget = given[0] if given else RetryBudget()
        self._is_told = any(node.budget is None or node.budget is self._budget for node in paying)
        self._hedged = True
        self.plan = self._compile([(self, expression)])
        self._look_ahead(self.plan, ())
        if self.plan.hedges:
            self._feed()
            self._hedged = False
            self.plan.unhedged = self._compile([(self, expression)])

    def budget(self, policy: Budget | None = None) -> BudgetFlow[Any]:
        """Return the running budget: of a policy that brings its own, or the stack's."""
        live: BudgetFlow[Any] = self.live(policy or self._budget)  # type: ignore[assignment]
        return live

    def live(self, policy: Policy) -> Live[Any]:
        """Return the running policy of a declaration, made and named at its first occurrence."""
        live = self._lives.get(id(policy))
        if live is None:
            address = self.address(policy.name, policy.default_name())
            self._lives[id(policy)] = live = policy.live(address)
            self.policies[address.policy] = live
            if isinstance(policy, Retry | Hedge) and isinstance(live, RetryFlow | HedgeFlow):
                live.budget = self.budget(policy.budget)
        return live

    def address(self, name: str, default: str) -> Address:
        """Find a free address: the given name, or the default, numbered if it is taken."""
        if name in self.policies:
            msg = f"two policies are named {name!r}; each needs a name of its own"
            raise ConfigError(msg, path=self._stack)
        number = 1
        free = name or default
        while free in self.policies:
            number += 1
            free = f"{default}_{number}"
        return Address(stack=self._stack, policy=free, emitter=self._emitter, now=self._now)

    def take_in(self, live: Live[Any]) -> None:
        """Keep a running policy that no call passes; others may go through them meanwhile."""
        self.policies = {**self.policies, live.name: live}

    def let_go(self, live: Live[Any]) -> None:
        """Keep it no more."""
        self.policies = {name: each for name, each in self.policies.items() if each is not live}

    def _feed(self) -> None:
        """Have hedges tell their budget of successes where no retry does."""
        lives = self.policies.values()
        told = {id(live.budget) for live in lives if isinstance(live, RetryFlow)}
        for live in lives:
            if isinstance(live, HedgeFlow) and id(live.budget) not in told:
                live.feeds = True
                told.add(id(live.budget))

    def _look_ahead(self, plan: Plan, outer: tuple[EarlyDropGate, ...]) -> None:
        """Show each early drop what it goes by: the policy it names, or the next that fills up.

        Raises:
            ConfigError: There is no policy of that name, or it has no limit.
        """
        waiting = outer
        for layer in plan.layers:
            if isinstance(layer, EarlyDropGate):
                if not layer.policy.of:
                    waiting += (layer,)
                elif layer in self.policies.values():
                    layer.follow(self._named(layer))
            elif isinstance(layer, Gate) and layer.fill() is not None:
                for early in waiting:
                    if early.followed is None:
                        early.follow(layer)
                waiting = ()
        for inner in plan.leaf.plans if plan.leaf is not None else ():
            self._look_ahead(inner, waiting)

    def _named(self, early: EarlyDropGate) -> Gate[Any]:
        name = early.policy.of
        live = self.policies.get(name)
        if not isinstance(live, Gate) or live is early or live.fill() is None:
            msg = f"must be the name of a policy of this stack with a limit, not {name!r}"
            raise ConfigError(msg, path=f"{early.path}/of")
        return live

    def _compile(self, row: list[tuple[Compiler, Expression]]) -> Plan:
        """Compile a row of expressions, outermost first, each with the compiler of its stack."""
        layers: list[Live[Any]] = []
        while row:
            (owner, item), *rest = row
            match item:
                case Nested():
                    row = [(item.compiler, item.expression), *rest]
                case Wrap():
                    row = [(owner, item.left), (owner, item.right), *rest]
                case Fallback() | Race():
                    sides = [self._compile([(owner, side), *rest]) for side in item.parts()]
                    return Plan(tuple(layers), owner.choice(item, sides))
                case Policy():
                    live = owner.live(item)
                    if isinstance(live, RespondFlow):
                        return Plan(tuple(layers), RespondLeaf(live))
                    if isinstance(live, HedgeFlow):
                        if self._hedged:
                            leaf = HedgeLeaf(live, self._compile(rest))
                            return Plan((*layers, live), leaf)
                    else:
                        layers.append(live)
                    row = rest
                case _:
                    msg = f"{item!r} is not a policy; compose policies and stacks"
                    raise ConfigError(msg, path=self._stack)
        return Plan(tuple(layers), None)

    def choice(self, item: Fallback | Race, sides: list[Plan]) -> Leaf:
        """Make the end of a row at which it goes on in two or more."""
        address = self.address("", type(item).__name__.lower())
        paid = any(side.attempts and Role.TARGET not in side.roles for side in sides[1:])
        budget = self.budget() if paid else None
        kind = FallbackLeaf if isinstance(item, Fallback) else RaceLeaf
        return kind(tuple(sides), address, budget, feeds=not self._is_told)
