"""Policies in Cedar, read and checked against the schema."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import cedarpy

from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ninelives_control.command import Command

_EVERYWHERE = {"op": "All"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What a file of policies says.

    Attributes:
        text: Its text.
        all: All policies.
        somewhere: What is left of them where no place is looked at: those that permit, without
            conditions, and those that forbid everywhere and always.
        ids: What each policy is called, by the id that Cedar gives it.
        forbidding: Ids of those that forbid.
    """

    text: str
    all: cedarpy.PolicySet = field(compare=False)
    somewhere: cedarpy.PolicySet = field(compare=False)
    ids: dict[str, str]
    forbidding: frozenset[str]


def schema(commands: Iterable[Command[Any, Any]]) -> str:
    """Return the schema of policies about these commands."""
    frame = files(__package__).joinpath("schema.cedarschema").read_text(encoding="utf-8")
    actions = [
        f'action "{entry.name}" in ["{entry.effect}"] appliesTo '
        "{ principal: [Identity], resource: [Place], context: Change };"
        for entry in commands
    ]
    return "\n".join([frame, *actions, ""])


def read(path: Path, commands: Iterable[Command[Any, Any]]) -> Policies:
    """Read a file of policies.

    Raises:
        ConfigError: It cannot be read, or a policy is wrong; names the file and the policy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", path=str(path)) from None
    except ValueError as error:
        raise ConfigError(f"is not text in UTF-8: {error}", path=str(path)) from None
    try:
        found = cedarpy.PolicySet.from_str(text)
        parsed = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as error:
        raise ConfigError(f"is not Cedar: {_line(str(error))}", path=str(path)) from None
    if parsed["templates"]:
        raise ConfigError("has a template, which nothing fills: write policies", path=str(path))
    policies = parsed["staticPolicies"]
    ids = {
        name: policy.get("annotations", {}).get("id") or name for name, policy in policies.items()
    }
    for title, count in Counter(ids.values()).items():
        if count > 1:
            msg = f"a second policy {title!r}; each needs an @id of its own"
            raise ConfigError(msg, path=str(path))
    checked = cedarpy.validate_policies(text, schema(commands))
    for problem in checked.errors:
        sentence = re.sub(r"^for policy `\w+`, ", "", _line(problem.error))
        msg = f"policy {ids.get(problem.policy_id, problem.policy_id)!r}: {sentence}"
        raise ConfigError(msg, path=str(path))
    kept = {name: _placeless(policy) for name, policy in policies.items()}
    parsed["staticPolicies"] = {name: policy for name, policy in kept.items() if policy}
    return Policies(
        text=text,
        all=found,
        somewhere=cedarpy.PolicySet.from_json_str(json.dumps(parsed)),
        ids=ids,
        forbidding=frozenset(
            name for name, policy in policies.items() if policy["effect"] == "forbid"
        ),
    )


def _placeless(policy: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a policy says where no place is looked at, or None if that is nothing."""
    if policy["effect"] == "permit":
        return {**policy, "resource": _EVERYWHERE, "conditions": []}
    always = policy["resource"] == _EVERYWHERE and not policy["conditions"]
    return policy if always else None


def _line(text: str) -> str:
    return " ".join(text.split())
