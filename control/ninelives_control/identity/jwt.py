"""Tokens that somebody else signs: JSON Web Tokens (RFC 7519) of an identity provider."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import jwt

from ninelives_control.errors import Code, CommandError
from ninelives_control.files import Reloaded
from ninelives_control.identity import jwks
from ninelives_control.identity.identity import ANONYMOUS, APPLICATION, PEER, Identity, Proof, Role
from ninelives_grpc.clock import rfc3339
from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_LEEWAY = 10.0
"""Seconds that clocks may differ by."""
_LONGEST = 2**14
_LONGEST_NAME = 100
_LATEST = 2**37
_MOST_KNOWN = 1000
_REQUIRED = ("exp", "iss", "aud", "sub")
_RESERVED = {ANONYMOUS.name, APPLICATION.name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Jwt:
    """Which tokens of an identity provider are believed.

    A token must be signed with one of `jwks.ALGORITHMS`, and have `exp`, `iss`, `aud` and `sub`;
    the last of them is the name in the audit.

    Attributes:
        issuer: What `iss` must be: the URL of the identity provider.
        audience: What `aud` must be or have: what the provider calls this control plane.
        jwks: The file with the public keys, which is read again when it has changed.
        role_claim: The claim that has the role, or a list in which it is the only one.
        roles: The role for each value of that claim; by default they are called as we call them.
        resource: The URL under which MCP clients know the endpoint, for what they are told of the
            issuer (RFC 9728); by default the one they have asked.
    """

    issuer: str
    audience: str
    jwks: Path
    role_claim: str = "role"
    roles: Mapping[str, Role] = field(
        default_factory=lambda: {str(role): Role(role) for role in Role}
    )
    resource: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A token whose signature was right."""

    identity: Identity
    begins: float
    expires: float


class JwtVerifier:
    """Finds out who a token was made for.

    Args:
        settings: Which tokens are believed.
        now: Tells the time, in seconds since 1970.
    """

    def __init__(self, settings: Jwt, now: Callable[[], float] = time.time) -> None:
        """Read the keys.

        Raises:
            ConfigError: A setting or the file is wrong; names it.
        """
        for name in ("issuer", "audience", "role_claim", "roles"):
            if not getattr(settings, name):
                raise ConfigError("must not be empty", path=f"Jwt.{name}")
        self._settings = settings
        self._now = now
        self._keys = Reloaded([settings.jwks], partial(jwks.load, settings.jwks))
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._known_by: jwks.KeySet | None = None

    def identify(self, token: str) -> Identity:
        """Return who a token was made for.

        Raises:
            CommandError: `unauthenticated`: it is not believed; or `permission_denied`: it is, but
                says no role.
        """
        if len(token) > _LONGEST or not token.isascii():
            _refuse("the token is no JWT that can be read")
        keys, key = self._keys.current(), hashlib.sha256(token.encode()).digest()
        known = self._remembered(keys, key)
        if known is None:
            known = self._verified(token, keys)
            self._remember(keys, key, known)
        self._check_time(known)
        return known.identity

    def _remembered(self, keys: jwks.KeySet, key: bytes) -> _Known | None:
        with self._lock:
            if keys is not self._known_by:
                # Whoever was believed by a key that is gone is not any more.
                self._known.clear()
                self._known_by = keys
            return self._known.get(key)

    def _remember(self, keys: jwks.KeySet, key: bytes, known: _Known) -> None:
        with self._lock:
            if keys is self._known_by:
                self._known[key] = known
                if len(self._known) > _MOST_KNOWN:
                    self._known.popitem(last=False)

    def _verified(self, token: str, keys: jwks.KeySet) -> _Known:
        issuer, audience = self._settings.issuer, self._settings.audience
        try:
            key = self._key(jwt.get_unverified_header(token), keys)
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=audience,
                issuer=issuer,
                # Times are looked at each time, and by our clock.
                options={
                    "require": list(_REQUIRED),
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidSignatureError:
            _refuse("the signature of the token is wrong")
        except jwt.InvalidAudienceError:
            _refuse(f"the token is for another audience; ask {issuer} for one for {audience}")
        except jwt.InvalidIssuerError:
            _refuse(f"the token is of another issuer than {issuer}")
        except jwt.MissingRequiredClaimError as error:
            _refuse(f"the token has no {error.claim}")
        except (jwt.PyJWTError, ValueError, RecursionError):
            _refuse("the token is no JWT that can be read")
        times = {"begins": _time(claims, "nbf"), "expires": _time(claims, "exp")}
        name = _name(claims["sub"])
        role = self._role(claims.get(self._settings.role_claim))
        return _Known(identity=Identity(name=name, role=role, proof=Proof.JWT), **times)

    def _key(self, header: Mapping[str, Any], keys: jwks.KeySet) -> jwt.PyJWK:
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in jwks.ALGORITHMS:
            _refuse(f"the token must be signed with one of {', '.join(jwks.ALGORITHMS)}")
        if "crit" in header:
            _refuse("the token has a crit, and nothing that it could name is known")
        if kid is None and len(keys) > 1:
            _refuse(f"the token has no kid, which must say which of {len(keys)} keys has signed it")
        key = keys.find(kid, algorithm)
        if key is None:
            _refuse(f"the token is signed with a key that is not known of {self._settings.issuer}")
        return key

    def _role(self, value: object) -> Role:
        roles, claim = self._settings.roles, self._settings.role_claim
        values = value if isinstance(value, list) else [value]
        ours = {roles[each] for each in values if isinstance(each, str) and each in roles}
        if len(ours) == 1:
            return ours.pop()
        known = ", ".join(sorted(roles))
        message = f"the claim {claim} of the token must be one of {known}, and is {value!r}"
        raise CommandError(Code.PERMISSION_DENIED, message)

    def _check_time(self, known: _Known) -> None:
        now, issuer = self._now(), self._settings.issuer
        if now >= known.expires + _LEEWAY:
            _refuse(f"the token expired at {_written(known.expires)}; ask {issuer} for another")
        if now < known.begins - _LEEWAY:
            _refuse(f"the token is none before {_written(known.begins)}")


def _refuse(message: str) -> NoReturn:
    raise CommandError(Code.UNAUTHENTICATED, message)


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:
        _refuse(f"the {name} of the token is no time")
    return float(value)


def _name(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME or not value.isprintable():
        _refuse(f"the sub of the token must be a name of 1 to {_LONGEST_NAME} characters")
    if value in _RESERVED or value.startswith(PEER):
        _refuse(f"the sub of the token must not be {value!r}, which stands for somebody else")
    return value


def _written(seconds: float) -> str:
    return rfc3339(datetime.fromtimestamp(seconds, UTC), "seconds")
