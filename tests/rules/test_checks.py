"""When a device is used for real though nothing happened: opening time, cadence, appointments."""

from datetime import datetime, timedelta

import pytest

from agent.contract.state import Hours
from agent.rules.checks import check_due

SHOP = Hours("Europe/Paris", {"mon": ["07:00-12:30", "14:00-19:30"]}, {"2026-12-28": []})
ALWAYS = Hours("Europe/Paris", {}, {})
EVERY_S = 4 * 3600.0


def due(now: str, hours: Hours = SHOP, quiet_s: float = 600.0, looked_before_s: float = 60.0, at: str = "") -> bool:
    """On Monday 7 December 2026 unless a date is given, after a look a minute earlier."""
    moment = datetime.fromisoformat(now if "T" in now else f"2026-12-07T{now}")
    looked = moment - timedelta(seconds=looked_before_s)
    return check_due(looked, moment, quiet_s, EVERY_S, hours, [datetime.fromisoformat(at)] if at else [])


@pytest.mark.parametrize("moment", ["07:00:00", "07:00:59", "14:00:30"])
def test_at_opening_time(moment: str) -> None:
    assert due(moment)


@pytest.mark.parametrize("moment", ["06:59:59", "07:01:00", "12:30:30", "19:30:30", "2026-12-28T07:00:30", "2026-12-08T07:00:30"])
def test_not_at_other_times_nor_on_closed_days(moment: str) -> None:
    assert not due(moment)


def test_at_the_cadence_while_open() -> None:
    assert not due("10:00", quiet_s=EVERY_S - 1)
    assert due("10:00", quiet_s=EVERY_S)


def test_a_dark_shop_is_not_filmed() -> None:
    assert not due("22:00", quiet_s=10 * EVERY_S)


def test_without_hours_the_cadence_alone_counts() -> None:
    assert due("03:00", ALWAYS, quiet_s=EVERY_S)
    assert not due("00:00:10", ALWAYS)  # and nothing opens


@pytest.mark.parametrize("hours", [SHOP, ALWAYS])
def test_half_an_hour_before_an_appointment_open_or_not(hours: Hours) -> None:
    assert due("09:00:20", hours, at="2026-12-07T09:30")
    assert due("12:45:20", hours, at="2026-12-07T13:15")
    assert not due("09:01:20", hours, at="2026-12-07T09:30")
    assert not due("08:59:59", hours, at="2026-12-07T09:30")


def test_f35_a_clock_that_jumps_makes_no_opening_time() -> None:
    assert due("07:10", looked_before_s=1800)  # a late look is still one
    assert not due("07:30", looked_before_s=10 * 365 * 86400)
    assert not due("07:00:30", looked_before_s=-3600)
