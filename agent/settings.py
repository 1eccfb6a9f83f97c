"""`agent.toml`: what the booth must know before it can be told anything. Every problem is found at once."""

import datetime
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final

from agent.contract.state import Hours
from agent.contract.typed import Check, Invalid, Problem, Range, build, shown
from agent.contract.words import RESERVED_PERIPHERAL, Area, BoothId
from agent.peripherals.declaration import Peripheral
from agent.rules.services import DEFAULT_RULES, Need, ServiceRule
from agent.system.broker import BrokerAddress, url_problem

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


Zone = Annotated[str, Check(_zone_problem, "IANA time zone")]
Spans = Annotated[list[str], Check(_spans_problem, "spans such as 07:00-12:30")]
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


def _week_problem(week: dict[str, object]) -> str | None:
    wrong = [day for day in week if day not in DAYS]
    return f"days are {', '.join(DAYS)} (here: {', '.join(wrong)})" if wrong else None


def _date_problem(text: str) -> str | None:
    try:
        known = datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        known = False
    return None if known else f"write a date such as 2026-12-25 (here: {shown(text)})"


@dataclass(frozen=True)
class HoursTable:
    tz: Zone | None = None
    week: Annotated[dict[str, Spans], Check(_week_problem, "spans by day")] = field(default_factory=dict)
    exceptions: dict[Annotated[str, Check(_date_problem, "a date")], Spans] = field(default_factory=dict)


@dataclass(frozen=True)
class ServiceTable:
    """One service, over the default: lists of kinds of peripheral. `offered = false` takes it away."""

    offered: bool = True
    needs: list[str] | None = None
    either: list[str] | None = None
    helps: list[str] | None = None


@dataclass(frozen=True)
class _Document:
    booth: BoothTable
    broker: BrokerTable
    peripherals: dict[str, dict[str, Any]]
    reporting: ReportingTable = field(default_factory=ReportingTable)
    hours: HoursTable = field(default_factory=HoursTable)
    services: dict[str, ServiceTable] = field(default_factory=dict)


@dataclass(frozen=True)
class PeripheralSettings:
    """One `[peripherals.NAME]`: its declaration, and its options as the declaration's own type."""

    name: str
    peripheral: Peripheral
    options: Any


@dataclass(frozen=True)
class Settings:
    booth: BoothTable
    broker: BrokerAddress
    reporting: ReportingTable
    hours: Hours
    services: Mapping[str, ServiceRule]
    peripherals: tuple[PeripheralSettings, ...]


def load(file: Path, kinds: Mapping[str, Peripheral]) -> Settings:
    """Read `agent.toml`. Raises `Invalid` with every problem in it, and OSError where it cannot be read."""
    try:
        with open(file, "rb") as stream:
            data = tomllib.load(stream)
    except (ValueError, RecursionError) as error:  # not only TOMLDecodeError: bad UTF-8, 5,000 digits, 1,000 brackets
        raise Invalid([Problem("", f"this is not TOML: {error}")]) from error
    return read(data, kinds, file.parent)


def read(data: Mapping[str, Any], kinds: Mapping[str, Peripheral], directory: Path) -> Settings:
    """The settings in plain TOML data; file names are relative to `directory`. Raises `Invalid`."""
    problems: list[Problem] = []
    document: _Document | None = None
    try:
        document = build(_Document, data)
    except Invalid as error:
        problems += error.problems
    # Even when something else is wrong: the operator corrects all of it in one go.
    peripherals = list(_peripherals(data.get("peripherals"), kinds, problems))
    broker = _broker(data.get("broker"), directory, problems)
    services = _services(data.get("services"), kinds, problems)
    if problems or document is None or broker is None:
        raise Invalid(problems)
    hours = Hours(document.hours.tz or document.booth.timezone, document.hours.week, document.hours.exceptions)
    broker = replace(broker, keepalive_s=document.broker.keepalive_s)
    return Settings(document.booth, broker, document.reporting, hours, services, tuple(peripherals))


def _peripherals(tables: object, kinds: Mapping[str, Peripheral], problems: list[Problem]) -> Iterator[PeripheralSettings]:
    if not isinstance(tables, Mapping):
        return  # missing or no table: said already
    for name, table in tables.items():
        path = f"peripherals.{name}"
        if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name) or len(name) > 64:
            problems.append(Problem(path, "write the name in kebab-case, such as receipt-printer"))
        elif name in (RESERVED_PERIPHERAL, "agent"):  # tele/agent
            problems.append(Problem(path, f'the name "{name}" is the agent\'s own; take another one'))
        if not isinstance(table, Mapping):
            continue
        configurable = sorted(kind for kind in kinds if kind != RESERVED_PERIPHERAL)
        kind = table.get("kind")
        if kind not in configurable:
            said = "missing" if kind is None else f"unknown kind {kind!r}"
            problems.append(Problem(f"{path}.kind", f"{said}; write one of {', '.join(configurable)}"))
            continue
        peripheral = kinds[kind]
        try:
            options: Any = build(peripheral.options, {key: value for key, value in table.items() if key != "kind"}, path)
        except Invalid as error:
            problems += error.problems
        else:
            yield PeripheralSettings(name, peripheral, options)


def _broker(table: object, directory: Path, problems: list[Problem]) -> BrokerAddress | None:
    if not isinstance(table, Mapping):
        return None
    files: dict[str, Path | None] = {}
    for key in ("ca", "certificate", "key"):
        name = table.get(key)
        files[key] = directory / name if isinstance(name, str) else None
        if (file := files[key]) is not None and not file.is_file():
            problems.append(Problem(f"broker.{key}", f"there is no file {file}"))
    if (files["certificate"] is None) != (files["key"] is None):
        problems.append(Problem("broker", "write certificate and key together, or neither"))
    url = table.get("url")
    if not isinstance(url, str) or url_problem(url):
        return None
    if url.startswith("mqtt:") and any(files.values()):
        problems.append(Problem("broker.url", "write mqtts://…: mqtt:// uses none of ca, certificate and key"))
    return BrokerAddress.of_url(url, files["ca"], files["certificate"], files["key"])


def _services(tables: object, kinds: Mapping[str, Peripheral], problems: list[Problem]) -> Mapping[str, ServiceRule]:
    rules = dict(DEFAULT_RULES)
    if not isinstance(tables, Mapping):
        return rules
    for name, data in tables.items():
        try:
            table = build(ServiceTable, data, f"services.{name}")
        except Invalid:
            continue  # said already
        if name not in DEFAULT_RULES:
            problems.append(Problem(f"services.{name}", f"unknown service; write one of {', '.join(DEFAULT_RULES)}"))
            continue
        known = {need.kind for rule in DEFAULT_RULES.values() for need in rule.needs} | set(kinds)
        known |= {kind for rule in DEFAULT_RULES.values() for kind in (*rule.main, *rule.either, *rule.helps)}
        for key in ("needs", "either", "helps"):
            for kind in getattr(table, key) or ():
                if kind not in known:
                    message = f"unknown kind {kind!r}; write some of {', '.join(sorted(known))}"
                    problems.append(Problem(f"services.{name}.{key}", message))
        if table.offered:
            rules[name] = _overlaid(DEFAULT_RULES[name], table)
        else:
            del rules[name]
    return rules


def _overlaid(rule: ServiceRule, table: ServiceTable) -> ServiceRule:
    needs, either, helps = rule.needs, rule.either, rule.helps
    if table.needs is not None:
        defaults = {need.kind: need for need in rule.needs}
        needs = tuple(defaults.get(kind, Need(kind)) for kind in table.needs)
    if table.either is not None:
        either = tuple(table.either)
    if table.helps is not None:
        helps = tuple(table.helps)
    carriers = (*(need.kind for need in needs), *either)
    # What is the heart of a service by default stays it: a booth with a board and no scanner offers no scan.
    main = tuple(kind for kind in carriers if kind in rule.main) or carriers
    return ServiceRule(main, needs, either, helps)
