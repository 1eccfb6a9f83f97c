"""Opening hours as documents write them: zones, spans of a day, weeks and exceptions. Contract §7, `hours`."""

import datetime
import re
from pathlib import Path
from typing import Annotated, Final

from agent.contract.typed import Check, Length, shown

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ZONES: Final = Path("/usr/share/zoneinfo")  # package tzdata
_TIME: Final = "([01][0-9]|2[0-3]):[0-5][0-9]"
_SPAN: Final = re.compile(f"{_TIME}-({_TIME}|24:00)")


def _zone_problem(name: str) -> str | None:
    # Looked up as a file: the module zoneinfo would stay in the daemon's memory for this one question.
    if re.fullmatch("[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", name) and (_ZONES / name).is_file():
        return None
    return f"write a time zone of the IANA database, such as Europe/Paris (here: {name!r})"


def _spans_problem(spans: list[str]) -> str | None:
    for span in spans:
        if not _SPAN.fullmatch(span) or span[:5] >= span[6:]:
            return f"write spans such as 07:00-12:30, the end after the beginning (here: {span!r})"
    return None


def _week_problem(week: dict[str, object]) -> str | None:
    wrong = [day for day in week if day not in DAYS]
    return f"days are {', '.join(DAYS)} (here: {', '.join(wrong)})" if wrong else None


def _date_problem(text: str) -> str | None:
    try:
        known = datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        known = False
    return None if known else f"write a date such as 2026-12-25 (here: {shown(text)})"


Zone = Annotated[str, Check(_zone_problem, "IANA time zone")]
Spans = Annotated[list[str], Check(_spans_problem, "spans such as 07:00-12:30")]
Week = Annotated[dict[str, Spans], Check(_week_problem, "spans by day")]
Exceptions = Annotated[dict[Annotated[str, Check(_date_problem, "a date")], Spans], Length(400)]
