"""When a device is to be used for real though nothing happened."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from agent.contract.state import Hours
from agent.rules.hours import is_open

BEFORE_APPOINTMENT: Final = timedelta(minutes=30)
_APPOINTMENT_LASTS: Final = timedelta(hours=1)
# A wall clock that was set forward passes many moments at once; a look that is so late is no opening time.
_LATEST: Final = timedelta(hours=1)


def check_due(
    looked: datetime, now: datetime, quiet_s: float, every_s: float, hours: Hours, appointments: Sequence[datetime]
) -> bool:
    """Whether a check is due at `now`, after a look at `looked`; both the booth's local time, without a zone.

    `quiet_s` is how long ago the last check was, by the monotonic clock. The cadence counts in opening hours
    only, or always where none are configured: a dark shop would make a camera look covered.
    """
    open_now = is_open(hours, now)
    if open_now and quiet_s >= every_s:
        return True
    if not looked < now <= looked + _LATEST:
        return False
    opened = open_now and not is_open(hours, looked)
    return opened or any(looked < appointment - BEFORE_APPOINTMENT <= now for appointment in appointments)


def people_expected(now: datetime | None, hours: Hours, appointments: Sequence[datetime]) -> bool:
    """Whether the booth is open at a local time, or somebody has an appointment; a time that is not known counts as open."""
    if now is None or is_open(hours, now):
        return True
    return any(appointment - BEFORE_APPOINTMENT <= now <= appointment + _APPOINTMENT_LASTS for appointment in appointments)
