"""Arguments without their secrets: by the names of arguments, and by what tokens look like.

Fields of the type `SecretStr` are masked by pydantic. This is for the rest: what was sent to a
command that is not there or takes no such argument, and a token in a header or a free text.
"""

from __future__ import annotations

import re

MASK = "**********"
"""What stands in place of a secret, as with pydantic."""

_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_SECRET_WORDS = frozenset({
    "apikey", "auth", "authorization", "bearer", "cookie", "credential", "credentials", "jwt",
    "passphrase", "passwd", "password", "passwords", "pwd", "secret", "secrets", "token", "tokens",
})  # fmt: skip
_SECRET_KEYS = frozenset({"access", "api", "encryption", "private", "secret", "signing", "ssh"})
_TOKEN = re.compile(
    r"""
    (?i:\b(?:bearer|basic)\s+)[\w.~+/=-]{16,}   # a header
    | \beyJ[\w-]+\.eyJ[\w-]+\.[\w-]*            # a JWT
    | \bninelives_[\w-]+                        # one of ours
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----(?:.*?-----END[ ][A-Z ]*PRIVATE[ ]KEY-----|.*)
    """,
    re.VERBOSE | re.DOTALL,
)


def redacted(value: object) -> object:
    """Return plain JSON with a mask in place of each secret."""
    if isinstance(value, str):
        return without_tokens(value)
    if isinstance(value, list):
        return [redacted(each) for each in value]
    if isinstance(value, dict):
        return {without_tokens(name): _of(name, each, value) for name, each in value.items()}
    return value


def without_tokens(text: str) -> str:
    """Return a text with a mask in place of each token in it."""
    return _TOKEN.sub(MASK, text)


def _of(name: str, value: object, around: dict[str, object]) -> object:
    """Return the value of a name; in `{"name": "password", "value": …}` that is the other one."""
    named = around.get("name") or around.get("key")
    if value is None or value == "":
        return value
    if _is_secret(name) or (name == "value" and isinstance(named, str) and _is_secret(named)):
        return MASK
    return redacted(value)


def _is_secret(name: str) -> bool:
    # An address has a policy's name in it and a parameter's, such as the tokens of a budget.
    if "/" in name:
        return False
    words = [word.lower() for word in _WORD.findall(name)]
    compound = "key" in words and not _SECRET_KEYS.isdisjoint(words)
    return compound or not _SECRET_WORDS.isdisjoint(words)
