"""When a rule holds: hours of the day and days of the week, in a time zone."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_HOURS = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")
_DAY = 24 * 60
_WEEK = 7


class Day(StrEnum):
    """A day of the week."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Times that come again every day or week, by the wall clock of a time zone.

    Hours that end before they begin go on after midnight, and belong to the day they begin on:
    22:00-06:00 on fri ends on Saturday at 06:00.

    Attributes:
        begin: Minutes after midnight at which it begins.
        end: Minutes after midnight at which it is over.
        days: The days on which it begins.
        zone: The time zone.
        text: How that is said, such as "09:00-17:00 on mon and tue (UTC)".
    """

    begin: int
    end: int
    days: frozenset[Day]
    zone: tzinfo
    text: str

    def holds(self, now: datetime) -> bool:
        """Tell whether a moment is one of its times."""
        local = now.astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        today, yesterday = _day(local), _day(local - timedelta(days=1))
        if self.begin < self.end:
            return today in self.days and self.begin <= minute < self.end
        return (today in self.days and minute >= self.begin) or (
            yesterday in self.days and minute < self.end
        )

    def next(self, now: datetime) -> str:
        """Say when it begins again, such as "Mon 2026-11-30 09:00"."""
        local = now.astimezone(self.zone)
        begin = time(self.begin // 60, self.begin % 60)
        dates = [local.date() + timedelta(days=days) for days in range(_WEEK + 1)]
        later = [datetime.combine(date, begin, self.zone) for date in dates]
        first = next(start for start in later if _day(start) in self.days and start > local)
        return first.strftime("%a %Y-%m-%d %H:%M")


@functools.lru_cache(maxsize=1000)
def schedule_of(hours: str, days: tuple[Day, ...], timezone: str) -> Schedule | None:
    """Return the schedule that a rule means, or None if it holds at any time.

    Args:
        hours: Such as "09:00-17:00", up to "24:00"; "" is the whole day.
        days: On which it begins; none given is every day.
        timezone: Name of the zone, such as "Europe/Berlin".

    Raises:
        ValueError: One of them is nothing of that kind; says what is allowed.
    """
    zone = _zone(timezone)
    if not hours and not days:
        if zone is UTC:
            return None
        msg = "timezone belongs to hours or days: give them, or leave it out"
        raise ValueError(msg)
    begin, end = _minutes(hours) if hours else (0, _DAY)
    said = f"{hours or 'all day'}"
    if days:
        said += f" on {' and '.join(days)}"
    return Schedule(
        begin=begin,
        end=end,
        days=frozenset(days or Day),
        zone=zone,
        text=f"{said} ({timezone})",
    )


def _minutes(hours: str) -> tuple[int, int]:
    match = _HOURS.fullmatch(hours)
    if match is not None:
        first, first_minute, last, last_minute = map(int, match.groups())
        begin, end = first * 60 + first_minute, last * 60 + last_minute
        if max(first_minute, last_minute) < 60 and begin < _DAY and end <= _DAY and begin != end:  # noqa: PLR2004
            return begin, end
    msg = f'hours must be two times such as "09:00-17:00" or "22:00-06:00", not {hours!r}'
    raise ValueError(msg)


def _zone(name: str) -> tzinfo:
    # It needs no data base of time zones, which slim systems do not have.
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        msg = (
            f'timezone must be a name that this machine knows, such as "Europe/Berlin", not '
            f"{name!r}; where it knows none, pip install tzdata"
        )
        raise ValueError(msg) from None


def _day(moment: datetime) -> Day:
    return tuple(Day)[moment.weekday()]
