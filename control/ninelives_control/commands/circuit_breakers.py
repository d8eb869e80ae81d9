"""Commands that override what a circuit breaker has found out for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ninelives_control.command import Context, Effect, command
from ninelives_control.commands.findings import order_of
from ninelives_control.errors import Code, CommandError
from ninelives_control.model import Arguments, IdempotencyKey, PolicyPath, Reason, Result, Text
from ninelives_grpc.policies.circuit_breaker import CircuitBreakerGate, Mode

if TYPE_CHECKING:
    from ninelives_grpc.registry import Registry


class ForceCircuitBreaker(Arguments):
    """Which circuit breaker to override, and how."""

    path: PolicyPath = Field(description="Its address, `stack/policy`.")
    mode: Mode = Field(
        description="open refuses all calls; closed lets all through and records them; disabled "
        "lets all through and records nothing; metrics_only lets all through and shows what auto "
        "would do; auto gives the decision back to the circuit."
    )
    reason: Reason = ""
    idempotency_key: IdempotencyKey = ""


class ModeChange(Result):
    """A circuit breaker that was overridden, or left to itself again."""

    path: str = Field(description="Its address, `stack/policy`.")
    old: Mode = Field(description="Its mode before.")
    new: Mode = Field(description="Its mode after.")
    revision: int = Field(description="Its revision after.")


class ResetCircuitBreaker(Arguments):
    """Which circuit breaker to reset."""

    path: PolicyPath = Field(description="Its address, `stack/policy`.")
    key: Text | None = Field(
        default=None, description="The key of one circuit in its scope; all if not given."
    )
    reason: Reason = ""
    idempotency_key: IdempotencyKey = ""


class CircuitReset(Result):
    """Circuits that have forgotten what they knew."""

    path: str = Field(description="The address of their breaker, `stack/policy`.")
    circuits: int = Field(description="How many there were.")
    old: str = Field(description="Their states before, such as `open`, by name.")
    new: str = Field(description="Their state after: `closed`.")


@command(Effect.CHANGE)
def force_circuit_breaker(arguments: ForceCircuitBreaker, context: Context) -> ModeChange:
    """Force a circuit breaker open or closed, switch it off, or leave it to itself again."""
    _breaker(context.registry, arguments.path)
    made = context.changes.make(
        {f"{arguments.path}/mode": arguments.mode}, order_of(arguments, context)
    )
    (change,) = made.changes
    return ModeChange(
        path=arguments.path,
        old=Mode(str(change.old)),
        new=Mode(str(change.new)),
        revision=change.revision,
    )


@command(Effect.CHANGE)
def reset_circuit_breaker(arguments: ResetCircuitBreaker, context: Context) -> CircuitReset:
    """Close a circuit, or all of a breaker, and forget the failures that it knew of."""
    breaker = _breaker(context.registry, arguments.path)
    now = context.registry.stack(arguments.path.partition("/")[0]).clock.now()
    circuits = breaker.circuits(now)
    if arguments.key is not None and arguments.key not in circuits:
        message = f"{arguments.path} has no circuit for the key {arguments.key!r}"
        raise CommandError(Code.NOT_FOUND, message, field="key")
    keys = circuits if arguments.key is None else [arguments.key]
    states = {str(circuits[key]["state"]) for key in keys}
    count = breaker.reset(now, arguments.key)
    return CircuitReset(
        path=arguments.path, circuits=count, old=", ".join(sorted(states)), new="closed"
    )


def _breaker(registry: Registry, path: str) -> CircuitBreakerGate:
    live = registry.policy(path)
    if not isinstance(live, CircuitBreakerGate):
        message = f"{path} is a {type(live.policy).__name__}, and no circuit breaker"
        raise CommandError(Code.INVALID_ARGUMENT, message, field="path")
    return live
