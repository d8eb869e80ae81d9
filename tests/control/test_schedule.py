from datetime import UTC, datetime

import pytest

from ninelives_control.authorization.schedule import Day, schedule_of


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "days", "zone", "moment", "holds"),
    [
        ("09:00-17:00", (), "UTC", "2026-11-27T09:00", True),
        ("09:00-17:00", (), "UTC", "2026-11-27T08:59:59", False),
        ("09:00-17:00", (), "UTC", "2026-11-27T16:59:59", True),
        ("09:00-17:00", (), "UTC", "2026-11-27T17:00", False),
        ("09:00-24:00", (), "UTC", "2026-11-27T23:59:59", True),
        ("22:00-06:00", (), "UTC", "2026-11-27T22:00", True),
        ("22:00-06:00", (), "UTC", "2026-11-27T05:59", True),
        ("22:00-06:00", (), "UTC", "2026-11-27T06:00", False),
        # 2026-11-27 is a Friday.
        ("22:00-06:00", (Day.FRI,), "UTC", "2026-11-28T05:59", True),
        ("22:00-06:00", (Day.FRI,), "UTC", "2026-11-27T05:59", False),
        ("22:00-06:00", (Day.FRI,), "UTC", "2026-11-28T22:00", False),
        ("", (Day.FRI,), "UTC", "2026-11-27T00:00", True),
        ("", (Day.FRI,), "UTC", "2026-11-28T00:00", False),
        ("09:00-17:00", (), "Europe/Berlin", "2026-11-27T08:00", True),
        ("09:00-17:00", (), "Europe/Berlin", "2026-07-03T07:00", True),
        ("09:00-17:00", (), "Europe/Berlin", "2026-07-03T15:00", False),
        ("", (Day.SAT,), "Asia/Tokyo", "2026-11-27T15:00", True),
        # The night in which 02:30 does not come, and that in which it comes twice.
        ("02:30-03:30", (), "Europe/Berlin", "2026-03-29T01:00", True),
        ("02:30-03:30", (), "Europe/Berlin", "2026-10-25T00:30", True),
        ("02:30-03:30", (), "Europe/Berlin", "2026-10-25T01:30", True),
    ],
)
def test_it_holds_by_the_wall_clock_of_its_zone(hours, days, zone, moment, holds):
    assert schedule_of(hours, days, zone).holds(at(moment)) is holds


@pytest.mark.parametrize(
    ("hours", "days", "moment", "said"),
    [
        ("09:00-17:00", (), "2026-11-27T08:00", "Fri 2026-11-27 09:00"),
        ("09:00-17:00", (), "2026-11-27T17:00", "Sat 2026-11-28 09:00"),
        ("09:00-17:00", (Day.FRI,), "2026-11-27T17:00", "Fri 2026-12-04 09:00"),
        ("", (Day.MON,), "2026-11-27T17:00", "Mon 2026-11-30 00:00"),
    ],
)
def test_it_says_when_it_holds_the_next_time(hours, days, moment, said):
    assert schedule_of(hours, days, "UTC").next(at(moment)) == said


def test_without_hours_and_days_there_is_none():
    assert schedule_of("", (), "UTC") is None
