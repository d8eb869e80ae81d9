"""What authorization has to know of the stacks of a registry, and of the time."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ninelives_control.authorization.decision import Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ninelives_control.model import ParameterValue
    from ninelives_grpc.policies.policy import Live
    from ninelives_grpc.registry import Registry
    from ninelives_grpc.stacks.stack import Stack


def _utc() -> datetime:
    return datetime.now(UTC)


def facts_of(
    registry: Registry,
    *,
    wall: Callable[[], datetime] = _utc,
    now: Callable[[], float] = time.monotonic,
) -> Facts:
    """Return where to look them up.

    Args:
        registry: The stacks.
        wall: Returns the time of the day, with its time zone.
        now: Returns seconds that only ever grow.
    """

    def live(path: str) -> tuple[Live[Any], str]:
        policy, _, name = path.rpartition("/")
        found = registry.policy(policy)
        found.parameter(name)
        return found, name

    def declared(path: str) -> ParameterValue:
        policy, name = live(path)
        value: ParameterValue = getattr(policy.declared, name)
        return value

    def present(path: str) -> ParameterValue:
        policy, name = live(path)
        value: ParameterValue = getattr(policy.policy, name)
        return value

    def below(path: str) -> Sequence[str]:
        if not path:
            return list(_places(registry))
        # Not all places: a change of many parameters asks for each of them.
        around = [stack for stack in registry if stack.name == path.partition("/")[0]]
        return [place for place in _places(around) if place.startswith(f"{path}/")]

    return Facts(declared=declared, present=present, below=below, wall=wall, now=now)


def _places(stacks: Iterable[Stack]) -> Iterator[str]:
    for stack in stacks:
        yield stack.name
        for policy, live in stack.policies.items():
            yield f"{stack.name}/{policy}"
            for parameter in live.specs:
                yield f"{stack.name}/{policy}/{parameter}"
