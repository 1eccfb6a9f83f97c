"""`agent.toml`: what the booth must know before it can be told anything. Every problem is found at once."""

import datetime
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.contract.button import ButtonTable
from agent.contract.state import Hours
from agent.contract.typed import Invalid, Problem, build
from agent.contract.words import RESERVED_PERIPHERAL
from agent.peripherals.declaration import Peripheral
from agent.rules.services import DEFAULT_RULES, Need, ServiceRule
from agent.settings_tables import (
    BoothTable,
    ChecksTable,
    Document,
    HealTable,
    LightTable,
    ReportingTable,
    ServiceTable,
    TicketTable,
    UpdatesTable,
)
from agent.system.broker import BrokerAddress, url_problem


@dataclass(frozen=True)
class PeripheralSettings:
    """One `[peripherals.NAME]`: its declaration, and its options as the declaration's own type."""

    name: str
    peripheral: Peripheral
    options: Any


@dataclass(frozen=True)
class Settings:
    """`file`: the `agent.toml` that they came from; the operator's documents may lie over it."""

    file: Path
    booth: BoothTable
    broker: BrokerAddress
    reporting: ReportingTable
    hours: Hours
    checks: ChecksTable
    appointments: tuple[datetime.datetime, ...]
    light: LightTable
    button: ButtonTable | None
    heal: HealTable
    ticket: TicketTable
    updates: UpdatesTable
    services: Mapping[str, ServiceRule]
    peripherals: tuple[PeripheralSettings, ...]


def load(file: Path, kinds: Mapping[str, Peripheral]) -> Settings:
    """Read `agent.toml`. Raises `Invalid` with every problem in it, and OSError where it cannot be read."""
    return replace(read(data_of(file), kinds, file.parent), file=file)


def data_of(file: Path) -> dict[str, Any]:
    """The plain data of `agent.toml`. Raises `Invalid` where it is not TOML, and OSError where it cannot be read."""
    import tomllib  # noqa: PLC0415 - the daemon is handed the data, and does without the parser

    try:
        with open(file, "rb") as stream:
            return tomllib.load(stream)
    except (ValueError, RecursionError) as error:  # not only TOMLDecodeError: bad UTF-8, 5,000 digits, 1,000 brackets
        raise Invalid([Problem("", f"this is not TOML: {error}")]) from error


def read(data: Mapping[str, Any], kinds: Mapping[str, Peripheral], directory: Path) -> Settings:
    """The settings in plain TOML data; file names are relative to `directory`. Raises `Invalid`."""
    problems: list[Problem] = []
    document: Document | None = None
    try:
        document = build(Document, data)
    except Invalid as error:
        problems += error.problems
    # Even when something else is wrong: the operator corrects all of it in one go.
    peripherals = list(_peripherals(data.get("peripherals"), kinds, problems))
    broker = _broker(data.get("broker"), directory, problems)
    services = _services(data.get("services"), kinds, problems)
    problems += _ticket_problems(document, peripherals)
    if problems or document is None or broker is None:
        raise Invalid(problems)
    hours = Hours(document.hours.tz or document.booth.timezone, document.hours.week, document.hours.exceptions)
    broker = replace(broker, keepalive_s=document.broker.keepalive_s)
    return Settings(
        file=directory / "agent.toml",
        booth=document.booth,
        broker=broker,
        reporting=document.reporting,
        hours=hours,
        checks=document.checks,
        appointments=tuple(datetime.datetime.fromisoformat(moment) for moment in document.appointments.at),
        light=document.light,
        button=document.button,
        heal=document.heal,
        ticket=document.ticket,
        updates=document.updates,
        services=services,
        peripherals=tuple(peripherals),
    )


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


def _ticket_problems(document: Document | None, peripherals: list[PeripheralSettings]) -> Iterator[Problem]:
    printers = [item.name for item in peripherals if item.peripheral.kind == "receipt-printer"]
    wanted = None if document is None else document.ticket.printer
    if wanted is not None and printers and wanted not in printers:  # without a printer, it is said of other booths of the layer
        yield Problem("ticket.printer", f"no receipt printer {wanted!r}; write one of {', '.join(printers)}")


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
