"""Refusals of what never became a command, in an audit that bears a flood of them."""

import json
import threading

import pytest

from ninelives_control.audit import early
from ninelives_control.audit.early import EarlyRefusal, EarlyRefusals, marked, set_mark
from ninelives_control.errors import Code
from tests.waiting import until


def refusal(request="GET /", answer="421", peer="127.0.0.1:4711", transport="http"):
    return EarlyRefusal(
        transport=transport,
        request=request,
        answer=answer,
        code=Code.INVALID_ARGUMENT,
        peer=peer,
    )


@pytest.fixture
def refusals(audit, clock):
    made = EarlyRefusals(audit, clock)
    yield made
    made.close()


@pytest.fixture
def counts(audit):
    """Return the numbers in the audit, by row."""
    return lambda: [json.loads(entry.arguments)["count"] for entry in audit.entries()]


def test_the_first_is_written_down_at_once_without_its_secrets(refusals, audit):
    refusals.add(refusal(f"GET /ninelives_secret{'x' * 1000}"))

    (entry,) = audit.entries()
    assert (entry.transport, entry.command, entry.status) == ("http", "http", "refused")
    assert (entry.reason, entry.identity, entry.peer) == ("invalid_argument", "", "127.0.0.1:4711")
    arguments = json.loads(entry.arguments)
    assert arguments | {"request": ""} == {"request": "", "answer": "421", "count": 1}
    assert arguments["request"].startswith("GET /****")
    assert len(arguments["request"]) <= 200
    assert "secret" not in entry.arguments


def test_those_that_follow_within_a_second_are_one_row_with_their_number(refusals, counts, clock):
    for port in range(10):
        refusals.add(refusal(peer=f"127.0.0.1:{port}"))
    assert counts() == [1]

    clock.advance(1.0)

    until(lambda: counts() == [1, 9], counts)


def test_a_flood_is_a_row_a_second(refusals, counts, clock):
    for second in range(1, 4):
        for _ in range(50):
            refusals.add(refusal())
        clock.advance(1.0)
        until(lambda second=second: len(counts()) == second + 1, counts)

    assert counts() == [1, 49, 50, 50]


def test_what_comes_after_a_quiet_second_is_written_down_at_once(refusals, counts, clock):
    refusals.add(refusal())
    clock.advance(1.0)

    refusals.add(refusal())

    assert counts() == [1, 1]


def test_kinds_are_told_apart(refusals, counts):
    for changed in ({"answer": "403"}, {"peer": "10.0.0.1:1"}, {"transport": "grpc"}, {}):
        refusals.add(refusal(**changed))

    assert counts() == [1, 1, 1, 1]


def test_beyond_so_many_kinds_all_others_count_as_one(audit, counts, clock, monkeypatch):
    monkeypatch.setattr(early, "MOST_KINDS", 3)
    refusals = EarlyRefusals(audit, clock)
    for number in range(20):
        refusals.add(refusal(peer=f"10.0.0.{number}:1"))
    assert counts() == [1, 1, 1, 1]

    clock.advance(1.0)

    until(lambda: counts() == [1, 1, 1, 1, 16], counts)
    refusals.close()


def test_what_was_only_counted_is_written_down_in_the_end(refusals, counts):
    before = set(threading.enumerate())
    for _ in range(5):
        refusals.add(refusal())

    refusals.close()

    assert counts() == [1, 4]
    assert set(threading.enumerate()) <= before


def test_one_that_can_not_be_written_down_is_logged(refusals, audit, caplog):
    audit._connection.execute("PRAGMA query_only = 1")

    refusals.add(refusal())

    assert "http was refused: the audit cannot be written" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_mark_is_seen_outside_and_by_none_beside(refusals):
    with marked() as outer:
        with marked() as beside:
            pass
        with marked() as inner:
            refusals.add(refusal())
        assert (outer.written, inner.written, beside.written) == (True, True, False)
    set_mark()
