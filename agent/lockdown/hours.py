"""Rule `hours`: outside opening hours the kiosk's units are stopped, and nothing starts them. Never while a citizen is there.

With a clock that is certainly wrong the booth counts as open: a wrong clock must not close it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from agent.contract.hours import DAYS, Exceptions, Week, Zone
from agent.contract.state import Hours
from agent.contract.typed import Check, Length
from agent.lockdown.rule import COMPLIANT, Machine, Measured, Place, Rule
from agent.rules.hours import is_open

# Above every other folder for units but its like in /etc (systemd.unit(5)), and gone at the next boot. An empty unit file
# masks the unit: it cannot be started by anything.
_MASKS: Final = "run/systemd/system.control"
_DEADLINE_S: Final = 30.0  # of one systemctl; stopping may take a moment
_COMING_DAYS: Final = 400
_A_MONDAY: Final = date(2026, 1, 5)
_MOST_SPANS: Final = 24


def _crowded(days: dict[str, list[str]]) -> str | None:
    wrong = [day for day, spans in days.items() if len(spans) > _MOST_SPANS]
    return f"write at most {_MOST_SPANS} spans a day (here: {', '.join(wrong)[:60]})" if wrong else None


@dataclass(frozen=True)
class Opening:
    """Unlike the hours of a configuration, a week without any span is never open. `tz` is the booth's own where it is None."""

    tz: Zone | None = None
    week: Annotated[Week, Check(_crowded, "at most 24 spans a day")] = field(default_factory=dict)
    exceptions: Annotated[Exceptions, Check(_crowded, "at most 24 spans a day"), Length(400)] = field(default_factory=dict)
    outside: Literal["kiosk-off", "open"] = "kiosk-off"


def looser(before: Opening, after: Opening) -> bool:
    """Whether `after` is open at any minute at which `before` is not."""
    if "open" in (before.outside, after.outside):
        return before.outside != "open"
    if before.tz != after.tz:  # no minute of one is certainly a minute of the other
        return any(after.week.values()) or any(after.exceptions.values())
    days = {_A_MONDAY + timedelta(days=n) for n in range(7)}  # any other date of the same weekday is the same
    days |= {date.fromisoformat(text) for part in (before, after) for text in part.exceptions}
    return any(_minutes(after, day) & ~_minutes(before, day) for day in days)


def apply(machine: Machine, place: Place, part: Opening) -> None:
    if not machine.has("systemctl"):
        return
    if _is_open(place, part):
        _open(machine, place)
    elif not place.in_session:
        _close(machine, place)


def measure(machine: Machine, place: Place, part: Opening) -> Measured:
    if not machine.has("systemctl"):
        return Measured("not-applicable", "systemctl is not installed")
    if not place.units:
        return Measured("not-applicable", "this booth has no unit of a kiosk")
    for unit in place.units.values():
        mask = _mask(machine, unit)
        if _is_open(place, part):
            if _masked(mask):
                return Measured("violated", f"{unit} is held stopped in opening hours")
        elif place.in_session:
            return Measured("compliant", "it closes when the citizen has left")
        elif not _masked(mask):
            return Measured("violated", f"{unit} is not held stopped")
        elif _runs(machine, unit):
            return Measured("violated", f"{unit} runs outside opening hours")
    return COMPLIANT


def undo(machine: Machine, place: Place) -> None:
    if machine.has("systemctl"):
        _open(machine, place)
    else:
        for unit in place.units.values():
            machine.remove(_mask(machine, unit))


def next_change(place: Place, part: Opening) -> datetime | None:
    here = _local(place, part)
    if place.now is None or here is None or part.outside == "open":
        return None
    state = is_open(_hours(part), here)
    for moment in _boundaries(part, here):
        if is_open(_hours(part), moment) != state:
            return place.now + (moment - here)
    return None


def _is_open(place: Place, part: Opening) -> bool:
    here = _local(place, part)
    return here is None or part.outside == "open" or is_open(_hours(part), here)


def _local(place: Place, part: Opening) -> datetime | None:
    """The wall clock in the zone of `part`."""
    if place.now is None:
        return None
    if part.tz is None or place.now_utc is None:
        return place.now.replace(tzinfo=None)
    return place.now_utc.astimezone(ZoneInfo(part.tz)).replace(tzinfo=None)


def _hours(part: Opening) -> Hours:
    week = part.week or {DAYS[0]: []}  # without any week a configuration is open
    return Hours(part.tz or "", week, part.exceptions)


def _spans(part: Opening, day: date) -> list[str]:
    return part.exceptions.get(day.isoformat(), part.week.get(DAYS[day.weekday()], []))


def _minutes(part: Opening, day: date) -> int:
    """The minutes of a day at which it is open, each a bit: as sets, 400 days of 24 spans took a second."""
    found = 0
    for span in _spans(part, day):
        (begin_h, begin_min), (end_h, end_min) = (map(int, time.split(":")) for time in span.split("-"))
        found |= (1 << end_h * 60 + end_min) - (1 << begin_h * 60 + begin_min)
    return found


def _boundaries(part: Opening, after: datetime) -> Iterator[datetime]:
    midnight = after.replace(hour=0, minute=0, second=0, microsecond=0)
    for _ in range(_COMING_DAYS):
        minutes = _minutes(part, midnight.date())
        edges = minutes ^ minutes << 1  # unlike the minute before
        # Midnight too: what is open until 24:00 may go on.
        for minute in [0, *(minute for minute, bit in enumerate(f"{edges:b}"[::-1]) if minute and bit == "1")]:
            if (moment := midnight + timedelta(minutes=minute)) > after:
                yield moment
        midnight += timedelta(days=1)


def _close(machine: Machine, place: Place) -> None:
    fresh = [unit for unit in place.units.values() if not _masked(_mask(machine, unit))]
    for unit in fresh:
        machine.put(_mask(machine, unit), "")
    if fresh:
        _systemctl(machine, "daemon-reload")
    for unit in place.units.values():
        # Early at boot it does not run yet: to stop it takes back that it was to be started.
        if unit in fresh or _runs(machine, unit):
            _systemctl(machine, "stop", unit)


def _open(machine: Machine, place: Place) -> None:
    held = [unit for unit in place.units.values() if _mask(machine, unit).exists()]
    for unit in held:
        machine.remove(_mask(machine, unit))
    if held:
        _systemctl(machine, "daemon-reload")
        _systemctl(machine, "start", *held)


def _mask(machine: Machine, unit: str) -> Path:
    return machine.path(_MASKS) / unit


def _masked(mask: Path) -> bool:
    return mask.is_file() and not mask.is_symlink() and mask.stat().st_size == 0


def _runs(machine: Machine, unit: str) -> bool:
    state = machine.ask("systemctl", "is-active", unit, within_s=_DEADLINE_S).output.strip()
    return state not in ("inactive", "failed", "unknown", "")


def _systemctl(machine: Machine, verb: str, *units: str) -> None:
    machine.do("systemctl", "--no-ask-password", verb, *units, within_s=_DEADLINE_S)


RULE: Final = Rule("hours", Opening, looser, apply, measure, undo, next_change=next_change)
