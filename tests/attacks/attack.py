"""What a row of the table says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attacks.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One attack.

    Attributes:
        name: What is tried.
        do: Tries it, and returns what the attacker was told, such as `403 permission_denied`.
        told: What that must be; one for each thing that is tried.
        audit: What must stand in the audit of it, each as `transport command reason`.
        unseen: Why nothing stands in the audit, where that is so.
        before: What has to be there first.
    """

    name: str
    do: Callable[[World], str]
    told: str
    audit: tuple[str, ...] = ()
    unseen: str = ""
    before: Callable[[World], object] = lambda _world: None
