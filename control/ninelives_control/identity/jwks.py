"""The public keys that tokens are signed with elsewhere: a JWKS file (RFC 7517)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from jwt import PyJWK, PyJWTError

from ninelives_control.files import content
from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}
ALGORITHMS = (*_RSA, *_CURVES.values())
"""Those that need a private key to sign: whoever can check a token cannot make one."""
_SMALLEST_RSA = 2048
_PRIVATE = ("d", "p", "q", "k")
_SETTING = "Jwt.jwks"


class KeySet:
    """Keys by their id.

    Args:
        keys: For each id, or None for the one key without, the key by algorithm.
    """

    def __init__(self, keys: Mapping[str | None, Mapping[str, PyJWK]]) -> None:
        """Hold the keys."""
        self._keys = keys

    def __len__(self) -> int:
        """Count the keys."""
        return len(self._keys)

    def find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """Return the key that a token says it is signed with; without an id, the only one."""
        if kid is None and len(self._keys) == 1:
            (fitting,) = self._keys.values()
        else:
            fitting = self._keys.get(kid, {})
        return fitting.get(algorithm)


def load(path: Path) -> KeySet:
    """Read the keys that signatures can be checked with; those for something else are left out.

    Raises:
        ConfigError: The file cannot be read or is broken, or has no such key.
    """
    text = content(path, _SETTING)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    entries = data.get("keys") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f'{path} must be {{"keys": [...]}} in JSON', path=_SETTING)
    keys: dict[str | None, dict[str, PyJWK]] = {}
    for index, entry in enumerate(entries):
        found = _key(entry, f"{path}: keys[{index}]")
        kid = entry.get("kid")
        if found and kid in keys:
            msg = f"{path}: keys[{index}] has the kid of another, {kid!r}; each needs one"
            raise ConfigError(msg, path=_SETTING)
        if found:
            keys[kid] = found
    if not keys:
        msg = f"{path} has no key for signatures by {', '.join(ALGORITHMS)}"
        raise ConfigError(msg, path=_SETTING)
    return KeySet(keys)


def _key(entry: Mapping[str, object], place: str) -> dict[str, PyJWK]:
    """Return a key by the algorithms that it can be used with."""
    kind = str(entry.get("kty"))
    possible = _RSA if kind == "RSA" else (_CURVES.get(str(entry.get("crv"))),)
    said, uses = entry.get("alg"), entry.get("key_ops", ["verify"])
    wanted = [name for name in possible if name is not None and said in {None, name}]
    if (
        kind not in {"RSA", "EC", "OKP"}
        or entry.get("use", "sig") != "sig"
        or not (isinstance(uses, list) and "verify" in uses)
    ):
        return {}
    if any(part in entry for part in _PRIVATE):
        msg = f"{place} is a private key, which belongs to the issuer alone; keep the public part"
        raise ConfigError(msg, path=_SETTING)
    if not isinstance(entry.get("kid", ""), str):
        raise ConfigError(f"{place} has a kid that is no text", path=_SETTING)
    try:
        found = {name: PyJWK.from_dict(dict(entry), name) for name in wanted}
    except (PyJWTError, ValueError, TypeError, KeyError):
        # Their own sentence would show the key.
        raise ConfigError(f"{place} is no {kind} key", path=_SETTING) from None
    if any(key.key.key_size < _SMALLEST_RSA for key in found.values() if kind == "RSA"):
        msg = f"{place} is too short: an RSA key has {_SMALLEST_RSA} bits at least"
        raise ConfigError(msg, path=_SETTING)
    return found
