"""Attackers who are somebody else than they say."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec

from ninelives_control.v1 import control_pb2 as pb
from tests.attacks.attack import Attack
from tests.attacks.world import MCP, PATH, PATIENCE, refusal
from tests.control.issuer import encoded, pem

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attacks.world import World

SET = {"path": PATH, "value": 5}
MUTATION = 'mutation { setParameter(path: "shop/retry/max_attempts", value: 5) { new } }'
WHO = "401 unauthenticated"
REST = ("rest set_parameter unauthenticated",)


def over_grpc(who: str | None) -> Callable[[World], str]:
    request = pb.SetParameterRequest(path=PATH)
    request.value.number_value = 5
    return lambda world: world.rpc("SetParameter", request, who)


def with_jwt(**changes: Any) -> Callable[[World], str]:
    """Show a token of the identity provider, with something about it that is wrong."""
    return lambda world: world.change(world.issuer.token(**changes))


def by_hand(header: dict[str, object], signature: Callable[[World, bytes], bytes]) -> Any:
    """Show a token that no library would make."""

    def attack(world: World) -> str:
        valid = world.issuer.token()
        claims = valid.split(".")[1]
        content = f"{encoded(json.dumps(header).encode())}.{claims}".encode()
        return world.change(f"{content.decode()}.{encoded(signature(world, content))}")

    return attack


def _signed_by_public_key(world: World, content: bytes) -> bytes:
    # The confusion of RS256 with HS256: the public key, which everybody has, as a shared secret.
    key = pem(world.issuer.keys["one"])
    return hmac.new(key, content, hashlib.sha256).digest()


def _edited(world: World) -> str:
    head, _, signature = world.issuer.token(role="viewer").split(".")
    claims = {
        "iss": "https://issuer.example",
        "aud": "control.example",
        "sub": "ada",
        "exp": time.time() + 300,
        "role": "admin",
    }
    return world.change(f"{head}.{encoded(json.dumps(claims).encode())}.{signature}")


def stolen_session(method: str) -> Callable[[World], str]:
    """Go on with the session of a viewer."""

    def attack(world: World) -> str:
        session = MCP | world.mcp_session("viewer")
        message = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        told = world.http(method, "/mcp", message, "admin", session)
        # It goes on for whom it belongs to.
        assert world.http("DELETE", "/mcp", None, "viewer", session) == "200"
        return told

    return attack


def _two_over_grpc(world: World) -> str:
    shown = world.metadata("viewer") + world.metadata("admin")
    with world.channel() as channel:
        call = channel.unary_unary("/ninelives_control.v1.ControlService/GetState")
        return refusal(lambda: call(b"", metadata=shown, timeout=PATIENCE))


def _basic(world: World) -> str:
    shown = base64.b64encode(f"admin:{world.tokens['admin']}".encode()).decode()
    return world.rest("set_parameter", SET, None, {"Authorization": f"Basic {shown}"})


def _guessed(world: World) -> str:
    return world.change(world.tokens["admin"][:-1])


_SUBSCRIBE = {
    "type": "subscribe",
    "id": "1",
    "payload": {"query": "subscription { events { dropped } }"},
}
TOKENS = (
    Attack(
        name="grpc: no token",
        do=over_grpc(None),
        told="UNAUTHENTICATED unauthenticated",
        audit=("grpc set_parameter unauthenticated",),
    ),
    Attack(
        name="grpc: a token that nobody has made",
        do=over_grpc("ninelives_x"),
        told="UNAUTHENTICATED unauthenticated",
        audit=("grpc set_parameter unauthenticated",),
    ),
    Attack(
        name="grpc: two tokens, of which a proxy may have looked at the other",
        do=_two_over_grpc,
        told="UNAUTHENTICATED unauthenticated",
        audit=("grpc get_state unauthenticated",),
    ),
    Attack(
        name="rest: two tokens, of which a proxy may have looked at the other",
        do=lambda world: world.raw(
            world.head("viewer", f"Authorization: Bearer {world.tokens['admin']}")
        ),
        told="401",
        audit=REST,
    ),
    Attack(
        name="grpc: Execute without a token",
        do=lambda world: world.execute("set_parameter", SET, None),
        told="UNAUTHENTICATED unauthenticated",
        audit=("grpc set_parameter unauthenticated",),
    ),
    Attack(
        name="grpc: Watch without a token",
        do=lambda world: world.rpc("Watch", pb.WatchRequest()),
        told="UNAUTHENTICATED unauthenticated",
        audit=("grpc watch unauthenticated",),
    ),
    Attack(
        name="grpc: Decline of somebody else's command without a token",
        do=lambda world: world.rpc("Decline", pb.DeclineRequest(command="erase", answer="no")),
        told="UNAUTHENTICATED unauthenticated",
        audit=("grpc erase unauthenticated",),
    ),
    Attack(
        name="grpc: channelz without a token, to see with whom the process speaks",
        do=lambda world: world.bytes_to("/grpc.channelz.v1.Channelz/GetServers", b"", None),
        told="UNAUTHENTICATED unauthenticated",
        audit=("grpc channelz unauthenticated",),
    ),
    Attack(name="rest: no token", do=lambda world: world.change(None), told=WHO, audit=REST),
    Attack(
        name="rest: a token that nobody has made",
        do=lambda world: world.change("ninelives_x"),
        told=WHO,
        audit=REST,
    ),
    Attack(name="rest: all of a token but the last letter", do=_guessed, told=WHO, audit=REST),
    Attack(
        name="rest: a token that has expired",
        do=lambda world: world.change("expired"),
        told=WHO,
        audit=REST,
    ),
    Attack(
        name="rest: an empty bearer",
        do=lambda world: world.rest("set_parameter", SET, None, {"Authorization": "Bearer "}),
        told=WHO,
        audit=REST,
    ),
    Attack(name="rest: the token as a password", do=_basic, told=WHO, audit=REST),
    Attack(
        name="rest: the token in the query",
        do=lambda world: world.http("GET", f"/v1/commands/get_state?token={world.tokens['admin']}"),
        told=WHO,
        audit=("rest get_state unauthenticated",),
    ),
    Attack(
        name="rest: the token in a cookie",
        do=lambda world: world.rest(
            "set_parameter", SET, None, {"Cookie": f"authorization=Bearer {world.tokens['admin']}"}
        ),
        told=WHO,
        audit=REST,
    ),
    Attack(
        name="rest: the token in the body",
        do=lambda world: world.rest("set_parameter", SET | {"auth": world.tokens["admin"]}, None),
        told=WHO,
        audit=REST,
    ),
    Attack(
        name="rest: a user and a proxy that are claimed by headers",
        do=lambda world: world.rest(
            "set_parameter",
            SET,
            None,
            {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-User": "admin", "X-Remote-User": "root"},
        ),
        told=WHO,
        audit=REST,
    ),
    Attack(
        name="rest: events without a token",
        do=lambda world: world.http("GET", "/v1/watch"),
        told=WHO,
        audit=("rest watch unauthenticated",),
    ),
    Attack(
        name="metrics: an unknown token",
        do=lambda world: world.http("GET", "/metrics", None, "ninelives_x"),
        told=WHO,
        audit=("http metrics unauthenticated",),
    ),
    Attack(
        name="metrics: without a token by a proxy on this machine",
        do=lambda world: world.http("GET", "/metrics", headers={"X-Forwarded-For": "10.0.0.1"}),
        told=WHO,
        audit=("http metrics unauthenticated",),
    ),
    Attack(
        name="graphql: no token",
        do=lambda world: world.graphql(MUTATION, None),
        told="200 unauthenticated",
        audit=("graphql set_parameter unauthenticated",),
    ),
    Attack(
        name="graphql: the token in the variables",
        do=lambda world: world.graphql(
            MUTATION, None, token=world.tokens["admin"], authorization=world.tokens["admin"]
        ),
        told="200 unauthenticated",
        audit=("graphql set_parameter unauthenticated",),
    ),
    Attack(
        name="graphql: a websocket with an unknown token in connection_init",
        do=lambda world: world.websocket(_SUBSCRIBE, params={"Authorization": "Bearer x"}),
        told="unauthenticated",
        audit=("graphql watch unauthenticated",),
    ),
    Attack(
        name="graphql: a websocket that changes its mind about who it is",
        do=lambda world: world.websocket(
            {"type": "connection_init", "payload": {"Authorization": "Bearer x"}},
            params={"Authorization": f"Bearer {world.tokens['viewer']}"},
        ),
        told="4429",
        audit=("http http invalid_argument",),
    ),
    Attack(
        name="graphql: server-sent events without a token",
        do=lambda world: world.http(
            "POST",
            "/graphql",
            {"query": MUTATION},
            None,
            {"Accept": "text/event-stream", "Content-Type": "application/json"},
        ),
        told="200",
        audit=("graphql set_parameter unauthenticated",),
    ),
    Attack(
        name="mcp: no token",
        do=lambda world: world.mcp({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, None)[0],
        told="401",
        audit=("mcp mcp unauthenticated",),
    ),
    *(
        Attack(
            name=f"mcp: the session of somebody else, by {method}",
            do=stolen_session(method),
            told="404",
            audit=("http http not_found",),
        )
        for method in ("POST", "GET", "DELETE")
    ),
    Attack(
        name="mcp: a session that nobody has opened",
        do=lambda world: world.mcp(
            {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
            "admin",
            {"mcp-session-id": "0" * 32},
        )[0],
        told="404",
        audit=("http http not_found",),
    ),
    Attack(
        name="lines: no token",
        do=lambda world: world.lines({"cmd": "set_parameter", "args": SET}),
        told="unauthenticated",
        audit=("lines set_parameter unauthenticated",),
    ),
    Attack(
        name="lines: a token that has expired",
        do=lambda world: world.lines(
            {"cmd": "set_parameter", "args": SET, "auth": world.tokens["expired"]}
        ),
        told="unauthenticated",
        audit=("lines set_parameter unauthenticated",),
    ),
    Attack(
        name="command line: a token that has expired",
        do=lambda world: world.command_line("call", "set-parameter", PATH, "5", who="expired"),
        told="exit 4",
        audit=("grpc list_commands unauthenticated",),
    ),
)

JWTS = (
    Attack(name="jwt: expired", do=with_jwt(exp=1.0), told=WHO, audit=REST),
    Attack(name="jwt: not yet", do=with_jwt(nbf=2.0**36), told=WHO, audit=REST),
    Attack(name="jwt: without an end", do=with_jwt(exp=None), told=WHO, audit=REST),
    Attack(name="jwt: an end that is no number", do=with_jwt(exp="never"), told=WHO, audit=REST),
    Attack(name="jwt: another audience", do=with_jwt(aud="shop.example"), told=WHO, audit=REST),
    Attack(name="jwt: another issuer", do=with_jwt(iss="https://evil"), told=WHO, audit=REST),
    Attack(
        name="jwt: the name of the application",
        do=with_jwt(sub="application"),
        told=WHO,
        audit=REST,
    ),
    Attack(name="jwt: the name of a user", do=with_jwt(sub="uid:0"), told=WHO, audit=REST),
    Attack(
        name="jwt: a role that there is not",
        do=with_jwt(role="root"),
        told="403 permission_denied",
        audit=("rest set_parameter permission_denied",),
    ),
    Attack(
        name="jwt: several roles",
        do=with_jwt(role=["viewer", "admin"]),
        told="403 permission_denied",
        audit=("rest set_parameter permission_denied",),
    ),
    Attack(
        name="jwt: no signature (alg none)",
        do=by_hand({"alg": "none", "kid": "one"}, lambda *_: b""),
        told=WHO,
        audit=REST,
    ),
    Attack(
        name="jwt: signed with the public key as a secret (HS256)",
        do=by_hand({"alg": "HS256", "kid": "one"}, _signed_by_public_key),
        told=WHO,
        audit=REST,
    ),
    Attack(
        name="jwt: another key",
        do=lambda world: world.change(
            world.issuer.token(key=ec.generate_private_key(ec.SECP256R1()))
        ),
        told=WHO,
        audit=REST,
    ),
    Attack(name="jwt: an unknown kid", do=with_jwt(headers={"kid": "two"}), told=WHO, audit=REST),
    Attack(
        name="jwt: a kid that is a path",
        do=with_jwt(headers={"kid": "../../../dev/null"}),
        told=WHO,
        audit=REST,
    ),
    Attack(
        name="jwt: a key that it brings along (jwk, jku)",
        do=lambda world: world.change(
            world.issuer.token(
                key=ec.generate_private_key(ec.SECP256R1()),
                headers={"kid": None, "jku": "http://127.0.0.1:1/keys", "jwk": {"kty": "EC"}},
            )
        ),
        told=WHO,
        audit=REST,
    ),
    Attack(
        name="jwt: an extension that must be understood (crit)",
        do=with_jwt(headers={"crit": ["exp"]}),
        told=WHO,
        audit=REST,
    ),
    Attack(name="jwt: claims that were edited", do=_edited, told=WHO, audit=REST),
    Attack(
        name="jwt: a megabyte of it",
        do=lambda world: world.change("a" * 20_000 + ".b.c"),
        told=WHO,
        audit=REST,
    ),
)
