"""What the environment of the process says: a switch for everything, and values of parameters."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
from typing import TYPE_CHECKING

from ninelives_grpc.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ninelives_grpc.parameters import Change
    from ninelives_grpc.stacks.stack import Stack

_LOGGER = logging.getLogger("ninelives_grpc")

DISABLED = "NINELIVES_DISABLED"
"""Set it to 1, and every stack lets calls pass untouched."""

_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"", "0", "false", "no", "off"})


def disabled() -> bool:
    """Tell whether stacks are to let calls pass untouched.

    It is asked once, when a channel is wrapped, an interceptor is made, or a stack for functions.

    Raises:
        ConfigError: The variable says neither yes nor no.
    """
    text = os.environ.get(DISABLED, "")
    if text.lower() in _YES:
        _warn()
        return True
    if text.lower() in _NO:
        return False
    raise ConfigError(f"must be 1 or 0, not {text!r}", path=DISABLED)


@functools.cache
def _warn() -> None:
    """Say it once: a switch that was forgotten is found in the log."""
    _LOGGER.warning("%s is set: no call is protected", DISABLED)


def apply_environment(
    stacks: Iterable[Stack], environ: Mapping[str, str] | None = None
) -> list[Change]:
    """Set parameters to what `NINELIVES_<STACK>__<POLICY>__<PARAMETER>` says.

    Names are in capitals, with an underscore for whatever is no letter or digit: the parameter
    `everything-else/retry/max_attempts` is `NINELIVES_EVERYTHING_ELSE__RETRY__MAX_ATTEMPTS`. A
    value is read as JSON if it is that (5, true, null), and is a word otherwise. Variables for
    stacks that are not among the given ones are left alone. `config.load` does this by itself; for
    stacks made in code: `config.apply_environment(default_registry)`.

    Args:
        stacks: The stacks to change; a `Registry` will do.
        environ: The variables; by default those of the process.

    Returns:
        What was changed.

    Raises:
        ConfigError: A value is not allowed, or there is no such parameter: names the variable.
            Nothing is changed then.
    """
    wanted = _wanted(list(stacks), os.environ if environ is None else environ)
    for dry_run in (True, False):
        changes: list[Change] = []
        for (stack, policy), values in wanted.items():
            changes += _change(stack, policy, values, dry_run=dry_run)
    return changes


Values = dict[str, tuple[str, object]]
"""From a parameter's name to the variable that sets it, and the value."""


def _wanted(stacks: list[Stack], environ: Mapping[str, str]) -> dict[tuple[Stack, str], Values]:
    """Find the stack, policy and parameter of each variable."""
    prefixes: dict[str, Stack] = {}
    for stack in stacks:
        prefix = f"NINELIVES_{re.sub(r'[^A-Z0-9]', '_', stack.name.upper())}__"
        if any(name.startswith(prefix) for name in environ) and prefix in prefixes:
            names = f"{prefixes[prefix].name!r} and {stack.name!r}"
            raise ConfigError(f"stands for the stacks {names}; rename one", path=f"{prefix}*")
        prefixes[prefix] = stack
    wanted: dict[tuple[Stack, str], Values] = {}
    for variable in sorted(environ):
        prefix = max((p for p in prefixes if variable.startswith(p)), key=len, default="")
        if not prefix:
            continue
        stack = prefixes[prefix]
        policy, _, name = variable.removeprefix(prefix).lower().rpartition("__")
        path = f"{policy}/{name}" if policy else name
        if path not in stack.parameters:
            error = UnknownNameError(f"parameter in stack {stack.name!r}", path, stack.parameters)
            raise ConfigError(str(error), path=variable)
        wanted.setdefault((stack, policy), {})[name] = (variable, _value(environ[variable]))
    return wanted


def _change(stack: Stack, policy: str, values: Values, *, dry_run: bool) -> list[Change]:
    variables = [variable for variable, _ in values.values()]
    try:
        return stack.policy(policy).change(
            {name: value for name, (_, value) in values.items()},
            dry_run=dry_run,
            by="environment",
            reason=", ".join(variables),
        )
    except ConfigError as error:
        name = error.path.rpartition("/")[2]
        path = values[name][0] if name in values else ", ".join(variables)
        raise ConfigError(error.message, path=path) from None


def _value(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value
