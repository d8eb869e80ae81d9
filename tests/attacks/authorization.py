"""Attackers who are known, and want more than they may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ninelives_control.identity.identity import Credentials
from ninelives_control.v1 import control_pb2 as pb
from tests.attacks.attack import Attack
from tests.attacks.world import PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attacks.world import World

NO = "403 permission_denied"
SET = ("rest set_parameter permission_denied",)
BREAKER = "shop/circuit_breaker"
SECOND = {"path": "shop/timeout/seconds", "value": 2.5}


def changing(who: str, value: object = 4, path: str = PATH, **more: Any) -> Callable[[World], str]:
    return lambda world: world.change(who, value, **({"path": path} | more))


def _change(world: World, who: str, value: object, **more: object) -> str:
    """Change something that may be changed, and return its id."""
    found = world.plane.dispatcher.execute(
        "set_parameter",
        {"path": PATH, "value": value, **more},
        caller=Credentials(token=world.tokens[who]),
        transport="test",
    )
    return found.id


def small_steps(world: World) -> None:
    """Go as far as is allowed, a little at a time."""
    for value in (4, 6):
        _change(world, "agent", value)


def operators_change(world: World) -> None:
    world.kept["id"] = _change(world, "operator", 40)
    _change(world, "operator", 5)
    world.kept["id"] = _change(world, "operator", 40)


def _bank(world: World) -> None:
    found = world.plane.execute("set_parameter", path="bank/retry/max_attempts", value=5)
    world.kept["id"] = found.id


def bank_lease(world: World) -> None:
    found = world.plane.execute(
        "set_parameter", path="bank/retry/max_attempts", value=5, lease=1000.0
    )
    world.kept["id"] = found.id


def keyed(world: World) -> None:
    """Use an idempotency key for something that may be done."""
    _change(world, "operator", 4, idempotency_key="one")


def _apply(*changes: dict[str, object], who: str = "agent") -> Callable[[World], str]:
    return lambda world: world.rest("apply_parameters", {"changes": list(changes)}, who)


def _undo(who: str) -> Callable[[World], str]:
    return lambda world: world.rest("undo_change", {"id": world.kept["id"]}, who)


ROLES = (
    Attack(name="rest: a viewer changes", do=changing("viewer"), told=NO, audit=SET),
    Attack(
        name="grpc: a viewer changes",
        do=lambda world: world.rpc("SetParameter", pb.SetParameterRequest(path=PATH), "viewer"),
        told="PERMISSION_DENIED permission_denied",
        audit=("grpc set_parameter permission_denied",),
    ),
    Attack(
        name="grpc: a viewer changes by Execute",
        do=lambda world: world.execute("set_parameter", {"path": PATH, "value": 4}, "viewer"),
        told="PERMISSION_DENIED permission_denied",
        audit=("grpc set_parameter permission_denied",),
    ),
    Attack(
        name="graphql: a viewer changes, and asks what it may between",
        do=lambda world: world.graphql(
            'mutation { one: setParameter(path: "shop/retry/max_attempts", value: 4) { new } '
            'two: resetCircuitBreaker(path: "shop/circuit_breaker") { circuits } }',
            "viewer",
        ),
        told="200 permission_denied",
        audit=(
            "graphql set_parameter permission_denied",
            "graphql reset_circuit_breaker permission_denied",
        ),
    ),
    Attack(
        name="graphql: a mutation within a query",
        do=lambda world: world.graphql(
            'query { setParameter(path: "shop/retry/max_attempts", value: 4) { new } }', "viewer"
        ),
        told="200 permission_denied",
        audit=("graphql set_parameter permission_denied",),
    ),
    Attack(
        name="mcp: a viewer changes",
        do=lambda world: world.tool("set_parameter", {"path": PATH, "value": 4}, "viewer"),
        told="permission_denied",
        audit=("mcp set_parameter permission_denied",),
    ),
    Attack(
        name="mcp: an operator erases",
        do=lambda world: world.tool("erase", {}, "operator"),
        told="permission_denied",
        audit=("mcp erase permission_denied",),
    ),
    Attack(
        name="mcp: a client that can ask nobody erases",
        do=lambda world: world.tool("erase", {}, "admin"),
        told="error -32021",
        audit=("mcp erase permission_denied",),
    ),
    Attack(
        name="lines: a viewer changes",
        do=lambda world: world.lines(
            {
                "cmd": "set_parameter",
                "args": {"path": PATH, "value": 4},
                "auth": world.tokens["viewer"],
            }
        ),
        told="permission_denied",
        audit=("lines set_parameter permission_denied",),
    ),
    Attack(
        name="rest: an agent forces a circuit",
        do=lambda world: world.rest(
            "force_circuit_breaker", {"path": BREAKER, "mode": "open"}, "agent"
        ),
        told=NO,
        audit=("rest force_circuit_breaker permission_denied",),
    ),
    Attack(
        name="rest: an agent forces a circuit by its parameter",
        do=changing("agent", "open", f"{BREAKER}/mode"),
        told=NO,
        audit=SET,
    ),
    Attack(
        name="rest: an agent reads what others have tried",
        do=lambda world: world.rest("get_audit", {}, "agent"),
        told=NO,
        audit=("rest get_audit permission_denied",),
    ),
    Attack(
        name="rest: an agent asks what an admin may do",
        do=lambda world: world.rest(
            "explain_authorization", {"command": "set_parameter", "role": "admin"}, "agent"
        ),
        told=NO,
        audit=("rest explain_authorization permission_denied",),
    ),
)

BOUNDS = (
    Attack(name="rest: beyond the factor", do=changing("agent", 7), told=NO, audit=SET),
    Attack(name="rest: beyond the step", do=changing("agent", 5), told=NO, audit=SET),
    Attack(name="rest: below the step", do=changing("agent", 1), told=NO, audit=SET),
    Attack(
        name="rest: beyond the factor by many small steps",
        before=small_steps,
        do=changing("agent", 7),
        told=NO,
        audit=SET,
    ),
    Attack(
        name="rest: a bound probed by dry runs",
        do=changing("agent", 7, dry_run=True),
        told=NO,
        audit=SET,
    ),
    Attack(
        name="rest: beyond the bounds for a short while",
        do=changing("agent", 7, lease=0.1),
        told=NO,
        audit=SET,
    ),
    Attack(
        name="rest: where agents may change nothing",
        do=changing("agent", 4, "bank/retry/max_attempts"),
        told=NO,
        audit=SET,
    ),
    Attack(
        name="rest: one that is forbidden among good ones",
        do=_apply({"path": PATH, "value": 4}, {"path": "bank/retry/max_attempts", "value": 4}),
        told=NO,
        audit=("rest apply_parameters permission_denied",),
    ),
    Attack(
        name="rest: one that is beyond the bounds among good ones",
        do=_apply({"path": PATH, "value": 4}, {"path": "shop/timeout/seconds", "value": 20.0}),
        told=NO,
        audit=("rest apply_parameters permission_denied",),
    ),
    Attack(
        name="rest: one that is no value among good ones",
        do=_apply(
            {"path": PATH, "value": 4},
            {"path": "shop/timeout/seconds", "value": -1.0},
            who="operator",
        ),
        told="400 invalid_argument",
        audit=("rest apply_parameters invalid_argument",),
    ),
    Attack(
        name="rest: one parameter twice, of which each step would do",
        do=_apply({"path": PATH, "value": 4}, {"path": PATH, "value": 2}),
        told="400 invalid_argument",
        audit=("rest apply_parameters invalid_argument",),
    ),
    Attack(
        name="grpc: beyond the factor",
        do=lambda world: world.execute("set_parameter", {"path": PATH, "value": 7}, "agent"),
        told="PERMISSION_DENIED permission_denied",
        audit=("grpc set_parameter permission_denied",),
    ),
    Attack(
        name="mcp: beyond the factor",
        do=lambda world: world.tool("set_parameter", {"path": PATH, "value": 7}, "agent"),
        told="permission_denied",
        audit=("mcp set_parameter permission_denied",),
    ),
)

OTHERS = (
    Attack(
        name="rest: an agent takes back a change where it may change nothing",
        before=_bank,
        do=_undo("agent"),
        told=NO,
        audit=("rest undo_change permission_denied",),
    ),
    Attack(
        name="rest: an agent takes back what it could not have done itself",
        before=operators_change,
        do=_undo("agent"),
        told=NO,
        audit=("rest undo_change permission_denied",),
    ),
    Attack(
        name="rest: a viewer takes back a change",
        before=_bank,
        do=_undo("viewer"),
        told=NO,
        audit=("rest undo_change permission_denied",),
    ),
    Attack(
        name="rest: an agent ends a lease of somebody else",
        before=bank_lease,
        do=lambda world: world.rest("end_lease", {"id": world.kept["id"]}, "agent"),
        told=NO,
        audit=("rest end_lease permission_denied",),
    ),
    Attack(
        name="rest: a viewer shows the idempotency key of an operator to see its result",
        before=keyed,
        do=changing("viewer", 4, idempotency_key="one"),
        told=NO,
        audit=SET,
    ),
    Attack(
        name="rest: an idempotency key once more, with other arguments",
        before=keyed,
        do=changing("operator", 5, idempotency_key="one"),
        told="400 invalid_argument",
        audit=("rest set_parameter invalid_argument",),
    ),
    Attack(
        name="rest: a token of the issuer with the name of an operator and its idempotency key",
        before=keyed,
        do=lambda world: world.change(
            world.issuer.token(sub="operator", role="viewer"), 4, idempotency_key="one"
        ),
        told=NO,
        audit=SET,
    ),
    Attack(
        name="rest: an old revision",
        before=lambda world: _change(world, "operator", 4),
        do=changing("operator", 5, expected_revision=1),
        told="409 conflict",
        audit=("rest set_parameter conflict",),
    ),
    Attack(
        name="rest: an old revision by If-Match",
        before=lambda world: _change(world, "operator", 4),
        do=lambda world: world.rest(
            "set_parameter", {"path": PATH, "value": 5}, "operator", {"If-Match": '"1"'}
        ),
        told="412 conflict",
        audit=("rest set_parameter conflict",),
    ),
    Attack(
        name="rest: a change that was never made is taken back",
        do=lambda world: world.rest("undo_change", {"id": "0" * 32}, "operator"),
        told="404 not_found",
        audit=("rest undo_change not_found",),
    ),
)
