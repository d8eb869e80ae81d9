"""Attackers who wait until the clock of the machine is wrong, or who turn it."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from unittest.mock import patch

from ninelives_control.identity.identity import Credentials
from tests.attacks.attack import Attack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.attacks.world import World

LAB = "lab/retry/max_attempts"
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
WHO = "401 unauthenticated"
REST = ("rest set_parameter unauthenticated",)
NO = "403 permission_denied"
DENIED = ("rest set_parameter permission_denied",)


@contextmanager
def turned(world: World, moment: datetime) -> Iterator[None]:
    """Turn all clocks that tell the time of the day."""
    dispatcher = world.plane.dispatcher
    authenticator, conditions = dispatcher._authenticator, dispatcher._authorization._conditions
    facts = replace(conditions._facts, wall=lambda: moment)
    with (
        patch.object(authenticator._tokens, "_now", lambda: moment),
        patch.object(authenticator._jwt, "_now", moment.timestamp),
        patch.object(conditions, "_facts", facts),
        patch.object(world.audit, "_now", lambda: moment),
    ):
        yield


def at(moment: Callable[[], datetime], attack: Callable[[World], str]) -> Callable[[World], str]:
    def turning(world: World) -> str:
        with turned(world, moment()):
            return attack(world)

    return turning


def moved(**by: float) -> Callable[[], datetime]:
    return lambda: datetime.now(UTC) + timedelta(**by)


def used_up(world: World) -> None:
    """Make the one change that is allowed within an hour."""
    world.plane.dispatcher._authorization._quota._forget(math.inf)
    with turned(world, NOON):
        world.plane.dispatcher.execute(
            "set_parameter",
            {"path": LAB, "value": 4},
            caller=Credentials(token=world.tokens["agent"]),
            transport="test",
        )


def known(world: World) -> None:
    """Have a token looked at, and remembered."""
    world.kept["jwt"] = world.issuer.token(nbf=datetime.now(UTC).timestamp())
    assert world.rest("get_state", {}, world.kept["jwt"]) == "200"


CLOCKS = (
    Attack(
        name="clock: a day forward, with a token that ends in an hour",
        do=at(moved(days=1), lambda world: world.change("hourly")),
        told=WHO,
        audit=REST,
    ),
    Attack(
        name="clock: a day forward, with a JWT that ends in five minutes",
        do=at(moved(days=1), lambda world: world.change(world.issuer.token())),
        told=WHO,
        audit=REST,
    ),
    Attack(
        name="clock: a day back, with a JWT that holds from now on",
        do=at(
            moved(days=-1),
            lambda world: world.change(world.issuer.token(nbf=datetime.now(UTC).timestamp())),
        ),
        told=WHO,
        audit=REST,
    ),
    Attack(
        name="clock: a day back, once a JWT that holds from now on is known",
        before=known,
        do=at(moved(days=-1), lambda world: world.change(world.kept["jwt"])),
        told=WHO,
        audit=REST,
    ),
    Attack(
        name="clock: out of the hours of a rule",
        do=at(lambda: NOON.replace(hour=18), lambda world: world.change("agent", 4, path=LAB)),
        told=NO,
        audit=DENIED,
    ),
    Attack(
        name="clock: two hours forward, for one more change an hour",
        before=used_up,
        do=at(lambda: NOON + timedelta(hours=2), lambda world: world.change("agent", 5, path=LAB)),
        told=NO,
        audit=DENIED,
    ),
    Attack(
        name="clock: a day back, for one more change an hour",
        before=used_up,
        do=at(lambda: NOON - timedelta(days=1), lambda world: world.change("agent", 5, path=LAB)),
        told=NO,
        audit=DENIED,
    ),
)
