"""The tables of `agent.toml`, as types: what may be written, and what is wrong with what is."""

import datetime
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from agent.contract import hours
from agent.contract.button import Button
from agent.contract.hours import Exceptions, Week, Zone
from agent.contract.typed import Check, Length, Pattern, Range, shown
from agent.contract.words import Area, BoothId, Name
from agent.system.broker import url_problem

DAYS: Final = hours.DAYS
Seconds = Annotated[int, Range(5, 86400)]


@dataclass(frozen=True)
class BoothTable:
    id: BoothId
    area: Area
    timezone: Zone = "Europe/Paris"


@dataclass(frozen=True)
class BrokerTable:
    url: Annotated[str, Check(url_problem, "mqtts://HOST:PORT")]
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    keepalive_s: Annotated[int, Range(5, 3600)] = 30


@dataclass(frozen=True)
class ReportingTable:
    heartbeat_s: Seconds = 3600
    telemetry_s: Seconds = 900
    alarm_after_s: Annotated[int, Range(0, 3600)] = 30


@dataclass(frozen=True)
class HoursTable:
    tz: Zone | None = None
    week: Week = field(default_factory=dict)
    exceptions: Exceptions = field(default_factory=dict)


@dataclass(frozen=True)
class ChecksTable:
    """How often each device is used for real in opening hours, though nothing happened."""

    every_s: Annotated[int, Range(60, 604_800)] = 14_400


def _appointments_problem(moments: list[str]) -> str | None:
    for moment in moments:
        try:
            known = datetime.datetime.fromisoformat(moment).strftime("%Y-%m-%dT%H:%M") == moment
        except ValueError:
            known = False
        if not known:
            return f"write local times such as 2026-12-01T09:30 (here: {shown(moment)})"
    return None


@dataclass(frozen=True)
class AppointmentsTable:
    """When somebody is expected, in the booth's local time: each device is checked half an hour before."""

    at: Annotated[list[str], Check(_appointments_problem, "local times such as 2026-12-01T09:30")] = field(default_factory=list)


LedName = Annotated[str, Pattern("[A-Za-z0-9_:.-]{1,64}", "the name of a folder in /sys/class/leds, such as booth:green:status")]


@dataclass(frozen=True)
class LightTable:
    """The shopkeeper's light: three LEDs of the kernel, or `white` alone, or the lines that booth-light owns."""

    red: LedName | None = None
    green: LedName | None = None
    blue: LedName | None = None
    white: LedName | None = None
    gpio: bool = False
    dim_pct: Annotated[int, Range(1, 100)] = 20


def _light_problem(light: LightTable) -> str | None:
    colours = (light.red, light.green, light.blue)
    ways = [any(colours), light.white is not None, light.gpio]
    if sum(ways) > 1:
        return "write red, green and blue; or white alone; or gpio = true"
    if any(colours) and not all(colours):
        return "write red, green and blue together; a light of one colour is white"
    return None


@dataclass(frozen=True)
class HealTable:
    """What the booth may do about faults by itself. `per_day`: remedies for one peripheral; `retry_s`: after giving up;
    `longest_session_s`: a session that lasts longer is told, and left alone."""

    enabled: bool = True
    per_day: Annotated[int, Range(1, 50)] = 24
    retry_s: Annotated[int, Range(600, 604_800)] = 14_400
    longest_session_s: Annotated[int, Range(600, 86_400)] = 14_400


PhoneNumber = Annotated[str, Pattern("[0-9+][0-9 .+-]{1,23}", "a phone number as it is dialled, such as 02 33 00 00 00")]


@dataclass(frozen=True)
class TicketTable:
    """The shopkeeper's status ticket. `phone` is printed on it; `auto`: it is printed by itself when the light says that it is
    her turn; `printer`: which receipt printer, where there are several."""

    phone: PhoneNumber | None = None
    auto: bool = False
    printer: Name | None = None


@dataclass(frozen=True)
class UpdatesTable:
    """How updates are fetched. `spread_s`: over so long the booths of a fleet begin with the same one, and
    less than a booth is on in a day; `rate_kib_s`: so much of the
    line it may take, KiB/s."""

    spread_s: Annotated[int, Range(0, 14_400)] = 3600
    rate_kib_s: Annotated[int, Range(8, 1_000_000)] = 512


_Kinds = Annotated[list[str], Length(64)]


@dataclass(frozen=True)
class ServiceTable:
    """One service, over the default: lists of kinds of peripheral. `offered = false` takes it away."""

    offered: bool = True
    needs: _Kinds | None = None
    either: _Kinds | None = None
    helps: _Kinds | None = None


@dataclass(frozen=True)
class Document:
    booth: BoothTable
    broker: BrokerTable
    peripherals: dict[str, dict[str, Any]]
    reporting: ReportingTable = field(default_factory=ReportingTable)
    hours: HoursTable = field(default_factory=HoursTable)
    checks: ChecksTable = field(default_factory=ChecksTable)
    appointments: AppointmentsTable = field(default_factory=AppointmentsTable)
    light: Annotated[LightTable, Check(_light_problem, "the light's LEDs")] = field(default_factory=LightTable)
    button: Button | None = None
    heal: HealTable = field(default_factory=HealTable)
    ticket: TicketTable = field(default_factory=TicketTable)
    updates: UpdatesTable = field(default_factory=UpdatesTable)
    services: dict[str, ServiceTable] = field(default_factory=dict)
