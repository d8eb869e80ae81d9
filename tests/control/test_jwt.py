"""Which tokens of an identity provider are believed."""

import base64
import hashlib
import hmac
import json
from pathlib import Path

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ninelives_control import ControlPlane
from ninelives_control.errors import Code, CommandError
from ninelives_control.identity import jwks
from ninelives_control.identity import jwt as ours
from ninelives_control.identity.certificates import names_of
from ninelives_control.identity.identity import Authenticator, Credentials, Proof, Role
from ninelives_control.identity.jwt import Jwt, JwtVerifier
from ninelives_control.identity.tokens import TokenFile
from ninelives_control.v1 import control_pb2 as pb
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from ninelives_grpc.errors import ConfigError
from tests.control.issuer import AUDIENCE, URL, Issuer, ec_key, pem, public

NOW = 1_000_000.0


@pytest.fixture
def issuer(tmp_path):
    return Issuer(tmp_path / "jwks.json")


@pytest.fixture
def now():
    return [NOW]


@pytest.fixture
def verifier(issuer, now):
    return JwtVerifier(issuer.settings, lambda: now[0])


@pytest.fixture
def sign(issuer):
    return lambda **options: issuer.token(at=NOW, **options)


@pytest.fixture(scope="module")
def rsa_key():
    return rsa.generate_private_key(65537, 2048)


def refused(verifier, token):
    with pytest.raises(CommandError) as caught:
        verifier.identify(token)
    return caught.value.code, caught.value.message


def encoded(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_a_token_says_who_somebody_is(verifier, sign):
    identity = verifier.identify(sign(sub="grace", role="agent"))

    assert (identity.name, identity.role, identity.proof) == ("grace", Role.AGENT, Proof.JWT)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"exp": NOW - 11}, f"expired at 1970-01-12T13:46:29Z; ask {URL} for another"),
        ({"exp": None}, "has no exp"),
        ({"exp": "soon"}, "the exp of the token is no time"),
        ({"exp": True}, "the exp of the token is no time"),
        ({"exp": 1e300}, "the exp of the token is no time"),
        ({"exp": float("nan")}, "the exp of the token is no time"),
        ({"nbf": NOW + 11}, "is none before 1970-01-12T13:46:51Z"),
        ({"aud": "other"}, f"for another audience; ask {URL} for one for {AUDIENCE}"),
        ({"aud": []}, "has no aud"),
        ({"aud": ["a", "b"]}, "for another audience"),
        ({"aud": 7}, "for another audience"),
        ({"aud": None}, "has no aud"),
        ({"iss": f"{URL}/"}, f"of another issuer than {URL}"),
        ({"iss": None}, "has no iss"),
        ({"iss": [URL]}, "of another issuer"),
        ({"sub": None}, "has no sub"),
        ({"sub": ""}, "must be a name of 1 to 100 characters"),
        ({"sub": "a\nb"}, "must be a name of 1 to 100 characters"),
        ({"sub": "x" * 101}, "must be a name of 1 to 100 characters"),
        ({"sub": "application"}, "stands for somebody else"),
        ({"sub": "uid:0"}, "stands for somebody else"),
        ({"key": ec_key()}, "the signature of the token is wrong"),
        ({"headers": {"kid": "two"}}, "signed with a key that is not known"),
        ({"headers": {"crit": ["x"], "x": 1}}, "the token"),
        ({"key": ec.generate_private_key(ec.SECP384R1()), "algorithm": "ES384"}, "is not known"),
        ({"key": "s" * 64, "algorithm": "HS256"}, "must be signed with one of RS256"),
    ],
    ids=lambda part: part if isinstance(part, str) else None,
)
def test_a_token_that_is_not_right_says_what_is_wrong(verifier, sign, changes, said):
    code, message = refused(verifier, sign(**changes))

    assert (code, said in message) == (Code.UNAUTHENTICATED, True), message


def test_clocks_may_differ_a_little(verifier, sign):
    for claims in ({"exp": NOW - 9}, {"nbf": NOW + 9}):
        assert verifier.identify(sign(**claims)).name == "ada"


def test_a_token_without_signature_is_refused(verifier, sign):
    header, payload, _ = sign().split(".")
    for name in ("none", "None", "NONE", "", None):
        unsigned = encoded({"alg": name, "kid": "one", "typ": "JWT"})

        for signature in ("", "AAAA"):
            code, message = refused(verifier, f"{unsigned}.{payload}.{signature}")
            assert (code, "must be signed" in message) == (Code.UNAUTHENTICATED, True)
    assert refused(verifier, f"{header}.{payload}.")[0] is Code.UNAUTHENTICATED


def test_the_public_key_is_no_secret_to_sign_with(verifier, issuer, sign):
    _, payload, _ = sign().split(".")
    content = f"{encoded({'alg': 'HS256', 'kid': 'one'})}.{payload}"
    for secret in (pem(issuer.keys["one"]), issuer.path.read_bytes()):
        signature = hmac.digest(secret, content.encode(), hashlib.sha256)

        code, message = refused(verifier, f"{content}.{encoded(signature)}")

        assert (code, "must be signed with one of" in message) == (Code.UNAUTHENTICATED, True)


def test_what_was_signed_cannot_be_changed(verifier, sign):
    header, payload, signature = sign().split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))

    forged = f"{header}.{encoded(claims | {'role': 'admin'})}.{signature}"

    assert refused(verifier, forged) == (
        Code.UNAUTHENTICATED,
        "the signature of the token is wrong",
    )


@pytest.mark.parametrize(
    "token",
    ["..", "a.b.c", "\u00e9.b.c", "\ud800..", f"{encoded(b'[' * 9000)}.e30.AA", "x" * 20000 + ".."],
    ids=["empty", "letters", "accent", "surrogate", "deep", "long"],
)
def test_what_is_no_token_at_all_is_refused(verifier, token):
    code, message = refused(verifier, token)

    assert (code, message) == (Code.UNAUTHENTICATED, "the token is no JWT that can be read")


@pytest.mark.parametrize("role", [None, "king", "", 7, ["king"], {"role": "admin"}, [[]]])
def test_who_has_no_role_of_ours_may_do_nothing(verifier, sign, role):
    code, message = refused(verifier, sign(role=role))

    assert code is Code.PERMISSION_DENIED
    assert "the claim role of the token must be one of admin, agent, operator, viewer" in message


def test_a_list_may_have_one_role_of_ours(verifier, sign):
    assert verifier.identify(sign(role=["staff", "viewer"])).role is Role.VIEWER
    assert refused(verifier, sign(role=["viewer", "admin"]))[0] is Code.PERMISSION_DENIED


def test_the_claim_and_its_values_can_have_other_names(issuer, sign, now):
    settings = Jwt(
        issuer=URL,
        audience=AUDIENCE,
        jwks=issuer.path,
        role_claim="https://example/groups",
        roles={"sre": Role.OPERATOR},
    )
    verifier = JwtVerifier(settings, lambda: now[0])

    claims = {"https://example/groups": ["sre", "admin"]}
    assert verifier.identify(sign(**claims)).role is Role.OPERATOR
    assert refused(verifier, sign(role="admin"))[0] is Code.PERMISSION_DENIED


def test_with_several_keys_a_token_must_say_by_which_it_is_signed(issuer, sign, verifier):
    nameless = {"headers": {"kid": None}}
    assert verifier.identify(sign(**nameless)).name == "ada"

    issuer.keys["two"] = ec_key()
    issuer.publish()

    assert verifier.identify(sign(key=issuer.keys["two"], headers={"kid": "two"})).name == "ada"
    assert "no kid, which must say which of 2 keys" in refused(verifier, sign(**nameless))[1]
    assert "signature" in refused(verifier, sign(headers={"kid": "two"}))[1]
    assert "no JWT" in refused(verifier, sign(headers={"kid": ["one"]}))[1]


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256"])
def test_a_key_for_rsa_takes_all_algorithms_of_rsa(issuer, sign, verifier, rsa_key, algorithm):
    issuer.write([public(rsa_key, kid="one")])

    assert verifier.identify(sign(key=rsa_key, algorithm=algorithm)).name == "ada"


def test_a_key_that_names_its_algorithm_is_for_that_only(issuer, sign, verifier, rsa_key):
    issuer.write([public(rsa_key, kid="one", alg="PS256")])

    assert verifier.identify(sign(key=rsa_key, algorithm="PS256")).name == "ada"
    assert "is not known" in refused(verifier, sign(key=rsa_key, algorithm="RS256"))[1]


def test_keys_on_an_edwards_curve_are_known(issuer, sign, verifier):
    key = ed25519.Ed25519PrivateKey.generate()
    issuer.write([public(key, kid="one")])

    assert verifier.identify(sign(key=key, algorithm="EdDSA")).name == "ada"


def test_keys_can_be_exchanged_and_the_old_one_is_not_believed_any_more(issuer, sign, verifier):
    old = sign()
    assert verifier.identify(old).name == "ada"

    issuer.keys = {"two": ec_key()}
    issuer.publish()

    assert verifier.identify(sign(key=issuer.keys["two"], headers={"kid": "two"})).name == "ada"
    assert "is not known" in refused(verifier, old)[1]


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"keys": 1}', '{"keys": []}'])
def test_a_broken_file_keeps_the_keys_and_is_logged_once(issuer, sign, verifier, caplog, broken):
    good = issuer.path.read_text()

    issuer.path.write_text(broken)
    for name in ("ada", "bob"):
        assert verifier.identify(sign(sub=name)).name == name
    issuer.path.unlink()
    for name in ("cyd", "dan"):
        assert verifier.identify(sign(sub=name)).name == name

    logged = [entry.getMessage() for entry in caplog.records]
    assert len(logged) == 2
    assert all("said before stays in force: Jwt.jwks" in message for message in logged)
    issuer.path.write_text(good)
    assert verifier.identify(sign(sub="eve")).name == "eve"


def test_a_signature_is_checked_once_and_the_time_always(verifier, sign, now, monkeypatch):
    checks = []
    decode = jwt.decode
    monkeypatch.setattr(jwt, "decode", lambda *a, **k: checks.append(1) or decode(*a, **k))
    token = sign()

    for _ in range(3):
        verifier.identify(token)
    assert len(checks) == 1

    now[0] += 311
    assert "expired" in refused(verifier, token)[1]


def test_only_so_many_tokens_are_remembered(verifier, sign, monkeypatch):
    monkeypatch.setattr(ours, "_MOST_KNOWN", 3)

    for number in range(5):
        verifier.identify(sign(sub=f"user{number}"))

    assert len(verifier._known) == 3


def test_what_was_refused_is_not_remembered(verifier, sign):
    refused(verifier, sign(role="king"))
    refused(verifier, sign(key=ec_key()))

    assert not verifier._known


PRIVATE = {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": "c2VjcmV0"}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([], "has no key for signatures by RS256"),
        ([1], 'must be {"keys": [...]} in JSON'),
        ([{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}], "has no key for signatures"),
        ([{"kty": "EC", "crv": "P-256", "x": "c2VjcmV0"}], "keys[0] is no EC key"),
        ([{"kty": "EC", "crv": "secp256k1"}], "has no key for signatures"),
        ([{"kty": "RSA", "n": "AQAB", "e": "AQAB"}], "keys[0] is"),
        ([PRIVATE], "keys[0] is a private key, which belongs to the issuer alone"),
        ([public(ec_key(), kid=7)], "keys[0] has a kid that is no text"),
        ([public(ec_key(), kid="a")] * 2, "keys[1] has the kid of another, 'a'"),
        ([public(ec_key()), public(ec_key())], "keys[1] has the kid of another, None"),
        ([public(ec_key(), use="enc")], "has no key for signatures"),
        ([public(ec_key(), key_ops=["deriveKey"])], "has no key for signatures"),
        ([public(ec_key(), alg="ES512")], "has no key for signatures"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_file_that_is_wrong_names_the_setting_and_the_key(issuer, keys, said):
    issuer.write(keys)

    with pytest.raises(ConfigError) as caught:
        JwtVerifier(issuer.settings)

    assert said in str(caught.value)
    assert caught.value.path == "Jwt.jwks"
    assert "c2VjcmV0" not in str(caught.value)


def test_short_rsa_keys_are_refused(issuer):
    issuer.write([public(rsa.generate_private_key(65537, 1024))])

    with pytest.raises(ConfigError, match="an RSA key has 2048 bits at least"):
        jwks.load(issuer.path)


def test_keys_for_something_else_do_no_harm(issuer, sign, verifier):
    own = public(issuer.keys["one"], kid="one")
    issuer.write([{"kty": "oct", "k": "AA"}, public(ec_key(), use="enc"), {"kty": "x"}, own])

    assert verifier.identify(sign(headers={"kid": None})).name == "ada"


@pytest.mark.parametrize("name", ["issuer", "audience", "role_claim", "roles"])
def test_a_setting_must_not_be_empty(issuer, name):
    settings = {"issuer": URL, "audience": AUDIENCE, "jwks": issuer.path, name: ""}

    with pytest.raises(ConfigError, match=rf"Jwt\.{name}: must not be empty"):
        JwtVerifier(Jwt(**settings))
    with pytest.raises(ConfigError, match=r"Jwt\.jwks: /nowhere cannot be read"):
        JwtVerifier(Jwt(issuer=URL, audience=AUDIENCE, jwks=Path("/nowhere")))


def test_tokens_of_both_kinds_are_told_apart(verifier, sign, tokens, tokens_path):
    both = Authenticator(TokenFile(tokens_path), jwt=verifier)

    assert both.identify(Credentials(token=sign())).proof is Proof.JWT
    assert both.identify(Credentials(token=tokens["agent"])).proof is Proof.TOKEN
    with pytest.raises(CommandError, match="the token is unknown; ask for one made by"):
        both.identify(Credentials(token="ninelives_x"))
    with pytest.raises(CommandError, match="show a token"):
        both.identify(Credentials(loopback=True))


def test_an_identity_provider_alone_is_enough(verifier, sign):
    alone = Authenticator(jwt=verifier)

    assert not alone.read_only
    assert alone.identify(Credentials(token=sign())).name == "ada"
    with pytest.raises(CommandError, match="is unknown; ask the identity provider for one"):
        alone.identify(Credentials(token="ninelives_x"))
    with pytest.raises(CommandError, match="show a token"):
        alone.identify(Credentials(loopback=True))


def test_tokens_are_known_over_grpc_until_their_key_is_gone(registry, shop, issuer, audit_path):
    request, token = pb.SetParameterRequest(path="shop/retry/max_attempts"), issuer.token()
    request.value.number_value = 5
    shown = (("authorization", f"Bearer {token}"),)
    with (
        ControlPlane(
            registry, grpc_port=0, http_port=None, jwt=issuer.settings, audit=audit_path
        ) as plane,
        grpc.insecure_channel(f"127.0.0.1:{plane.grpc_port}") as channel,
    ):
        stub = ControlServiceStub(channel)
        assert stub.SetParameter(request, metadata=shown, timeout=10).new.number_value == 5

        issuer.keys = {"two": ec_key()}
        issuer.publish()
        with pytest.raises(grpc.RpcError, match="signed with a key that is not known") as caught:
            stub.SetParameter(request, metadata=shown, timeout=10)

    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    written = audit_path.read_bytes()
    assert b"ada" in written
    assert token.encode() not in written


def test_a_certificate_that_cannot_be_read_has_no_name():
    assert names_of(b"nonsense") == ()


def test_without_an_identity_provider_its_tokens_are_unknown(sign, tokens_path, tokens):
    with pytest.raises(CommandError, match="the token is unknown"):
        Authenticator(TokenFile(tokens_path)).identify(Credentials(token=sign()))
