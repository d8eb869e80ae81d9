"""Every kind of bad input, and what is answered in the process and over gRPC."""

import dataclasses
import json

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

from ninelives_control.errors import Code, CommandError
from ninelives_control.identity.identity import Credentials
from ninelives_control.transports.grpc.errors import CODES, DOMAIN
from ninelives_control.v1 import control_pb2 as pb
from tests.control import added

PATH = "shop/retry/max_attempts"
BREAKER = "shop/circuit_breaker"


@dataclasses.dataclass
class Bad:
    """Something that must not be done."""

    why: str
    who: str
    command: str
    arguments: dict
    code: Code
    field: str = ""
    typed: bool = True
    """Whether the typed RPC can say it as well."""


def set_to(value, **more):
    return {"path": PATH, "value": value, **more}


TABLE = [
    Bad("no token", "nobody", "list_stacks", {}, Code.UNAUTHENTICATED),
    Bad("an unknown token", "stranger", "set_parameter", set_to(5), Code.UNAUTHENTICATED),
    Bad("no such command", "admin", "set_paramter", {}, Code.UNKNOWN_COMMAND, typed=False),
    Bad("a viewer changes", "viewer", "set_parameter", set_to(5), Code.PERMISSION_DENIED),
    Bad("an agent forces", "agent", "force_circuit_breaker", {"path": BREAKER, "mode": "open"},
        Code.PERMISSION_DENIED),
    Bad("an agent goes too far", "agent", "set_parameter", set_to(13), Code.PERMISSION_DENIED),
    Bad("an agent goes too low", "agent", "set_parameter", set_to(0.5), Code.PERMISSION_DENIED),
    Bad("an agent sets a word", "agent", "set_parameter",
        {"path": f"{BREAKER}/mode", "value": "open"}, Code.PERMISSION_DENIED),
    Bad("an agent sets null", "agent", "set_parameter", set_to(None), Code.PERMISSION_DENIED),
    Bad("a missing argument", "admin", "set_parameter", {"path": PATH}, Code.INVALID_ARGUMENT,
        "value"),
    Bad("an unknown argument", "admin", "set_parameter", set_to(5, dryrun=True),
        Code.INVALID_ARGUMENT, "dryrun", typed=False),
    Bad("an address too short", "admin", "set_parameter", {"path": "shop/retry", "value": 5},
        Code.INVALID_ARGUMENT, "path"),
    Bad("an address that is a number", "admin", "set_parameter", {"path": 7, "value": 5},
        Code.INVALID_ARGUMENT, "path", typed=False),
    Bad("an empty address", "admin", "describe_policy", {"path": ""}, Code.INVALID_ARGUMENT,
        "path"),
    Bad("a list as value", "admin", "set_parameter", set_to([5]), Code.INVALID_ARGUMENT, "value"),
    Bad("an object as value", "admin", "set_parameter", set_to({"a": 5}), Code.INVALID_ARGUMENT,
        "value"),
    Bad("a text too long", "admin", "set_parameter", set_to("x" * 5000), Code.INVALID_ARGUMENT,
        "value"),
    Bad("a value too large", "admin", "set_parameter", set_to(101), Code.INVALID_ARGUMENT,
        "value"),
    Bad("a value too small", "admin", "set_parameter", set_to(0), Code.INVALID_ARGUMENT, "value"),
    Bad("half an attempt", "admin", "set_parameter", set_to(2.5), Code.INVALID_ARGUMENT, "value"),
    Bad("a word for a number", "admin", "set_parameter", set_to("many"), Code.INVALID_ARGUMENT,
        "value"),
    Bad("a flag for a number", "admin", "set_parameter", set_to(True), Code.INVALID_ARGUMENT,
        "value"),
    Bad("null where it is no value", "admin", "set_parameter", set_to(None),
        Code.INVALID_ARGUMENT, "value"),
    Bad("a bad value in a dry run", "admin", "set_parameter", set_to(101, dry_run=True),
        Code.INVALID_ARGUMENT, "value"),
    Bad("values that do not go together", "admin", "set_parameter",
        {"path": f"{BREAKER}/max_open_duration", "value": 0.1}, Code.INVALID_ARGUMENT, "value"),
    Bad("no such word", "admin", "set_parameter", {"path": f"{BREAKER}/mode", "value": "ajar"},
        Code.INVALID_ARGUMENT, "value"),
    Bad("no such stack", "admin", "set_parameter", {"path": "shp/retry/jitter", "value": 5},
        Code.NOT_FOUND, "path"),
    Bad("no such policy", "admin", "set_parameter", {"path": "shop/rety/jitter", "value": 5},
        Code.NOT_FOUND, "path"),
    Bad("no such parameter", "admin", "set_parameter", {"path": "shop/retry/jiter", "value": 5},
        Code.NOT_FOUND, "path"),
    Bad("no such parameter for an agent", "agent", "set_parameter",
        {"path": "shop/retry/jiter", "value": 5}, Code.NOT_FOUND, "path"),
    Bad("another revision", "admin", "set_parameter", set_to(5, expected_revision=7),
        Code.CONFLICT, "expected_revision"),
    Bad("revision nought", "admin", "set_parameter", set_to(5, expected_revision=0),
        Code.INVALID_ARGUMENT, "expected_revision"),
    Bad("no such mode", "admin", "force_circuit_breaker", {"path": BREAKER, "mode": "ajar"},
        Code.INVALID_ARGUMENT, "mode", typed=False),
    Bad("no mode", "admin", "force_circuit_breaker", {"path": BREAKER}, Code.INVALID_ARGUMENT,
        "mode"),
    Bad("no circuit breaker", "admin", "force_circuit_breaker",
        {"path": "shop/retry", "mode": "open"}, Code.INVALID_ARGUMENT, "path"),
    Bad("no circuit breaker to reset", "admin", "reset_circuit_breaker", {"path": "shop/retry"},
        Code.INVALID_ARGUMENT, "path"),
    Bad("no such circuit", "admin", "reset_circuit_breaker", {"path": BREAKER, "key": "x"},
        Code.NOT_FOUND, "key"),
    Bad("a page too long", "viewer", "list_stacks", {"limit": 1001}, Code.INVALID_ARGUMENT,
        "limit"),
    Bad("a page before the first", "viewer", "list_policies", {"offset": -1},
        Code.INVALID_ARGUMENT, "offset"),
    Bad("another window", "viewer", "get_state", {"window": 61}, Code.INVALID_ARGUMENT, "window"),
    Bad("the state of no such stack", "viewer", "get_state", {"stack": "shp"}, Code.NOT_FOUND,
        "stack"),
    Bad("the events of no such stack", "viewer", "list_events", {"stack": "shp"}, Code.NOT_FOUND,
        "stack"),
    Bad("the policies of no such stack", "viewer", "list_policies", {"stack": "shp"},
        Code.NOT_FOUND, "stack"),
    Bad("the parameters of no such policy", "viewer", "list_parameters",
        {"stack": "shop", "policy": "rety"}, Code.NOT_FOUND, "policy"),
    Bad("a command that fails", "admin", "stumble", {}, Code.INTERNAL, typed=False),
    Bad("a command that returns nonsense", "admin", "mistake", {}, Code.INTERNAL, typed=False),
]  # fmt: skip


@pytest.fixture
def plane(plane):
    for entry in added.ALL:
        plane.commands.add(entry)
    return plane


@pytest.fixture
def token_of(tokens):
    return lambda who: tokens.get(who, {"stranger": "ninelives_x"}.get(who))


def everything(shop):
    """Return all that a command could change."""
    values = {path: shop.parameters[path].get() for path in shop.parameters}
    return values, {name: (live.revision, live.state(0.0)) for name, live in shop.policies.items()}


@pytest.fixture
def unharmed(shop, plane):
    """Check that nothing was changed, and that the audit has one entry."""

    def check(bad, transport):
        (entry,) = plane.dispatcher._journal._audit.entries()
        known = "" if bad.who in {"nobody", "stranger"} else bad.who
        assert (entry.identity, entry.command, entry.reason, entry.transport) == (
            known,
            bad.command,
            bad.code,
            transport,
        )
        assert entry.status in {"refused", "failed"}
        assert isinstance(json.loads(entry.arguments), dict)
        assert everything(shop) == before
        assert plane.dispatcher._journal._audit.verify().finding is None
        assert plane.dispatcher._journal._audit.verify().unfinished == ()
        assert not plane.dispatcher._events.events

    before = everything(shop)
    return check


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.why)
def test_bad_input_in_the_process(bad, plane, token_of, unharmed):
    caller = Credentials(token=token_of(bad.who), loopback=True)

    with pytest.raises(CommandError) as caught:
        plane.dispatcher.execute(bad.command, bad.arguments, caller=caller, transport="desk")

    assert (caught.value.code, caught.value.field) == (bad.code, bad.field)
    assert added.SECRET not in str(caught.value)
    unharmed(bad, "desk")


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.why)
def test_bad_input_over_grpc(bad, stub, token_of, unharmed):
    request = pb.ExecuteRequest(command=bad.command)
    ParseDict(bad.arguments, request.arguments)

    assert_told(bad, stub.Execute, request, token_of(bad.who))

    unharmed(bad, "grpc")


@pytest.mark.parametrize("bad", [bad for bad in TABLE if bad.typed], ids=lambda bad: bad.why)
def test_bad_input_over_a_typed_rpc(bad, stub, token_of, unharmed):
    name = bad.command.title().replace("_", "")
    arguments = dict(bad.arguments)
    if "mode" in arguments:
        arguments["mode"] = f"MODE_{arguments['mode'].upper()}"
    request = ParseDict(arguments, getattr(pb, f"{name}Request")())

    assert_told(bad, getattr(stub, name), request, token_of(bad.who))

    unharmed(bad, "grpc")


def assert_told(bad, call, request, token):
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with pytest.raises(grpc.RpcError) as caught:
        call(request, metadata=metadata, timeout=10)

    assert caught.value.code() is CODES[bad.code]
    assert added.SECRET not in caught.value.details()
    info, violations = details(caught.value)
    assert (info.reason, info.domain) == (bad.code, DOMAIN)
    assert info.metadata["field"] == bad.field
    if bad.code is Code.INVALID_ARGUMENT:
        assert [violation.field for violation in violations.field_violations] == [bad.field]
    if bad.code is Code.CONFLICT:
        assert info.metadata["revision"] == "1"


def details(error):
    info, violations = ErrorInfo(), BadRequest()
    for detail in rpc_status.from_call(error).details:
        detail.Unpack(info)
        detail.Unpack(violations)
    return info, violations
