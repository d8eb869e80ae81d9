"""Every attack of the table, one after another, on one control plane."""

import pytest

from tests.attacks import authentication, authorization, confirmation, crafted, flooding, times
from tests.attacks.world import PATIENCE
from tests.waiting import until

TABLE = (
    *authentication.TOKENS,
    *authentication.JWTS,
    *authorization.ROLES,
    *authorization.BOUNDS,
    *authorization.OTHERS,
    *crafted.COMMANDS,
    *crafted.REQUESTS,
    *crafted.DOCUMENTS,
    *crafted.MESSAGES,
    *confirmation.CONFIRMATIONS,
    *times.CLOCKS,
    *flooding.FLOODS,
)


@pytest.fixture
def restored(world):
    """Leave the control plane as it was found, whatever came of an attack."""
    yield
    until(world.is_left, patience=PATIENCE)
    world.restore()


@pytest.mark.parametrize("attack", TABLE, ids=lambda attack: attack.name)
@pytest.mark.usefixtures("restored")
def test_an_attack_is_refused_is_in_the_audit_and_changes_nothing(attack, world):
    attack.before(world)
    world.new_entries()
    before = world.state()

    told = attack.do(world)

    assert told == attack.told
    world.await_entries(len(attack.audit))
    written = world.new_entries()
    found = [f"{entry.transport} {entry.command} {entry.reason}" for entry in written]
    assert found == list(attack.audit)
    assert {entry.status for entry in written} <= {"refused", "failed"}
    assert all(token not in str(written) for token in world.tokens.values())
    assert bool(attack.audit) != bool(attack.unseen)
    assert world.state() == before
    assert world.works()


def test_the_table_is_long_enough_and_says_each_thing_once():
    names = [attack.name for attack in TABLE]

    assert len(names) >= 60
    assert len(set(names)) == len(names)


def test_the_audit_of_all_that_still_fits_together(world):
    assert world.audit.verify().finding is None
