"""An identity provider: keys, the file of their public parts, and tokens."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ninelives_control.identity.jwt import Jwt

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://issuer.example"
AUDIENCE = "control.example"

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def ec_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def public(key: Key, **more: object) -> dict[str, object]:
    """Return the public part of a key as it stands in a JWKS."""
    algorithms = {
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
    }
    (algorithm,) = (made for kind, made in algorithms.items() if isinstance(key, kind))
    return algorithm.to_jwk(key.public_key(), as_dict=True) | more


def pem(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class Issuer:
    """Signs with one key at first, whose id is `one`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys: dict[str, Key] = {"one": ec_key()}
        self.publish()

    @property
    def settings(self) -> Jwt:
        return Jwt(issuer=URL, audience=AUDIENCE, jwks=self.path)

    def publish(self) -> None:
        self.write([public(key, kid=kid, use="sig") for kid, key in self.keys.items()])

    def write(self, keys: object) -> None:
        """Replace the file, as everybody does who does not want a half of it to be read."""
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({"keys": keys}))
        new.replace(self.path)

    def token(
        self,
        *,
        key: Key | None = None,
        algorithm: str = "ES256",
        headers: dict[str, object] | None = None,
        at: float | None = None,
        **claims: Any,
    ) -> str:
        """Sign a token of ada, an operator; what is None is left out."""
        now = time.time() if at is None else at
        payload = {
            "iss": URL,
            "aud": AUDIENCE,
            "sub": "ada",
            "exp": now + 300,
            "role": "operator",
            **claims,
        }
        header = {"alg": algorithm, "kid": "one", **(headers or {})}
        # By hand, as the library would not sign what it should not believe.
        content = f"{_encoded(header)}.{_encoded(payload)}"
        signer = jwt.algorithms.get_default_algorithms()[algorithm]
        prepared = signer.prepare_key(self.keys["one"] if key is None else key)
        return f"{content}.{encoded(signer.sign(content.encode(), prepared))}"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _encoded(fields: dict[str, object]) -> str:
    given = {name: value for name, value in fields.items() if value is not None}
    return encoded(json.dumps(given).encode())
