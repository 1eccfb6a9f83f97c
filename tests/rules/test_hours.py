"""Opening hours: spans of the week, exceptions, and the clock's two odd days."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from agent.contract.state import Hours
from agent.rules.hours import is_open

SHOP = Hours(
    "Europe/Paris",
    {"mon": ["07:00-12:30", "14:00-19:30"], "sat": ["08:00-24:00"], "sun": ["00:00-01:00"]},
    {"2026-12-24": ["07:00-12:00"], "2026-12-21": []},
)


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ("2026-12-07T06:59:59.999", False),  # a Monday
        ("2026-12-07T07:00:00", True),
        ("2026-12-07T12:29:59.999", True),
        ("2026-12-07T12:30:00", False),
        ("2026-12-07T13:59:59", False),
        ("2026-12-07T14:00:00", True),
        ("2026-12-07T19:30:00", False),
        ("2026-12-08T10:00:00", False),  # a Tuesday, which has no hours
        ("2026-12-12T23:59:59.999", True),  # until midnight
        ("2026-12-13T00:30:00", True),
        ("2026-12-13T01:00:00", False),
        ("2026-12-24T10:00:00", True),  # a Thursday, open by exception
        ("2026-12-24T12:00:00", False),
        ("2026-12-21T10:00:00", False),  # a Monday, closed by exception
        ("2026-12-28T10:00:00", True),  # the Monday after
    ],
)
def test_is_open(local: str, expected: bool) -> None:
    assert is_open(SHOP, datetime.fromisoformat(local)) is expected


def test_without_a_week_nobody_said_when_it_closes() -> None:
    hours = Hours("Europe/Paris", {}, {"2026-12-25": [], "2026-12-26": ["09:00-10:00"]})
    assert is_open(hours, datetime.fromisoformat("2026-12-07T03:00"))
    assert not is_open(hours, datetime.fromisoformat("2026-12-25T10:00"))
    assert is_open(hours, datetime.fromisoformat("2026-12-26T09:00"))
    assert not is_open(hours, datetime.fromisoformat("2026-12-26T08:59"))


@pytest.mark.parametrize(
    ("day", "really_open"),
    [(datetime(2026, 3, 29, tzinfo=UTC), 3), (datetime(2026, 10, 25, tzinfo=UTC), 5), (datetime(2026, 6, 7, tzinfo=UTC), 4)],
)
def test_on_the_days_of_the_jump_the_wall_clock_counts(day: datetime, really_open: int) -> None:
    hours = Hours("Europe/Paris", {"sun": ["01:00-05:00"]}, {})
    moments = [(day - timedelta(hours=4) + timedelta(minutes=15 * i)).astimezone(ZoneInfo(hours.tz)) for i in range(96)]
    assert sum(is_open(hours, moment) for moment in moments) == really_open * 4
