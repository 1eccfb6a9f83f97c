"""Opening hours: whether the booth is open at a local time. Contract §3, `hours`."""

from datetime import datetime
from typing import Final

from agent.contract.state import Hours

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def is_open(hours: Hours, local: datetime) -> bool:
    """Whether the booth is open at `local`, the wall clock's time in the zone of `hours`.

    An exception replaces its whole day. Without any week the booth is open on all other days: nobody said when it
    closes. A span such as 08:00-12:00 begins with 08:00:00 and ends before 12:00:00. The wall clock also decides on
    the two days a year on which it jumps: what is written on the shop's door means the same clock.
    """
    spans = hours.exceptions.get(local.date().isoformat())
    if spans is None:
        if not hours.week:
            return True
        spans = hours.week.get(_DAYS[local.weekday()], [])
    time = f"{local:%H:%M}"
    return any(begin <= time < end for begin, _, end in (span.partition("-") for span in spans))
