"""The operator's configuration: what it may say over this booth's `agent.toml`, and what is reported of it. Contract §7."""

import copy
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.contract.documents import CONFIG_SECTIONS, LayerName
from agent.contract.typed import Invalid, Problem, build, plain
from agent.overlay import Table, merged
from agent.peripherals.declaration import Peripheral
from agent.rules.layers import by_name, effective
from agent.settings import Settings, read

BROKER_KEYS: Final = ("url", "keepalive_s")  # certificates and keys are files on the booth


@dataclass(frozen=True)
class HomeAssistantTable:
    enabled: bool = False


def layer_problems(document: Table, local: Table, kinds: Mapping[str, Peripheral], directory: Path) -> list[Problem]:
    """Everything that is wrong with one layer by itself, over this booth's `agent.toml`; paths begin with `doc.`"""
    rest = copy.deepcopy(dict(document))
    problems = [*_shape_problems(rest, local, kinds)]
    return problems + result_problems(merged(local, {"booth": rest}), kinds, directory)


def result_problems(data: Table, kinds: Mapping[str, Peripheral], directory: Path) -> list[Problem]:
    """What is wrong with merged settings; paths begin with `doc.`"""
    try:
        read(data, kinds, directory)
    except Invalid as error:
        return [Problem(f"doc.{problem.path}", problem.message) for problem in error.problems]
    return []


def _shape_problems(rest: dict[str, Any], local: Table, kinds: Mapping[str, Peripheral]) -> Iterator[Problem]:
    """What reading the merged settings would not find, or would find in the wrong place. It is taken out of `rest`."""
    for name in list(rest):
        if name not in CONFIG_SECTIONS:
            yield Problem(f"doc.{_shown(name)}", f"unknown section; known here: {', '.join(sorted(CONFIG_SECTIONS))}")
        elif not isinstance(rest[name], dict):
            yield Problem(f"doc.{name}", "write a table with its keys")
        else:
            continue
        del rest[name]
    yield from _forbidden(
        rest.get("broker", {}), lambda key: key not in BROKER_KEYS, "doc.broker",
        f"only {' and '.join(BROKER_KEYS)} may be set remotely",
    )  # fmt: skip
    yield from _peripheral_problems(rest.get("peripherals", {}), local, kinds)
    try:
        build(HomeAssistantTable, rest.get("home_assistant", {}), "doc.home_assistant")
    except Invalid as error:
        yield from error.problems


def _peripheral_problems(tables: dict[str, Any], local: Table, kinds: Mapping[str, Peripheral]) -> Iterator[Problem]:
    mine = local.get("peripherals", {})
    for name in list(tables):
        path = f"doc.peripherals.{_shown(name)}"
        if not isinstance(tables[name], dict):
            yield Problem(path, "write a table with the options of its kind")
            del tables[name]
            continue
        kind = kinds.get(mine[name].get("kind")) if name in mine else None
        forbidden = {"kind", "device"} | (local_options(kind) if kind is not None else set())
        yield from _forbidden(
            tables[name], forbidden.__contains__, path,
            "only agent.toml may set this: it names a device, a program or a file of the booth",
        )  # fmt: skip


def _forbidden(table: dict[str, Any], is_forbidden: Callable[[str], bool], path: str, why: str) -> Iterator[Problem]:
    for key in [key for key in table if is_forbidden(key)]:
        yield Problem(f"{path}.{_shown(key)}", why)
        del table[key]


def local_options(peripheral: Peripheral) -> set[str]:
    """The options of a kind that no document may set."""
    return {field.name for field in dataclasses.fields(peripheral.options) if field.metadata.get("local")}


def _shown(name: object) -> str:
    text = str(name)
    return text if re.fullmatch("[ -~]{1,60}", text) else repr(text)[:60]


# --- what is reported ---


def reported_sections(settings: Settings, local: Table, documents: Mapping[LayerName, Table]) -> dict[str, dict[str, Any]]:
    """Each section as it is in force, with the layer that gave it; no file's name, and nothing secret."""
    given = effective(documents)
    sections: dict[str, dict[str, Any]] = {}
    values = {
        "reporting": plain(settings.reporting),
        "services": {
            name: {"needs": [need.kind for need in rule.needs], "either": list(rule.either), "helps": list(rule.helps)}
            for name, rule in settings.services.items()
        },
        "hours": plain(settings.hours),
        "checks": plain(settings.checks),
        "heal": plain(settings.heal),
        "light": plain(settings.light),
        "ticket": plain(settings.ticket),
        "updates": plain(settings.updates),
        "broker": {"url": settings.broker.url, "keepalive_s": settings.broker.keepalive_s},
        "appointments": {"at": [f"{moment:%Y-%m-%dT%H:%M}" for moment in settings.appointments]},
    }
    for name, value in values.items():
        layer = given[name].layer if name in given else "local" if name in local else "default"
        sections[name] = {"status": "applied", "layer": layer, "value": value}
    if "home_assistant" in given:  # accepted, so that a fleet may say it; nothing here exports yet
        sections["home_assistant"] = {"status": "unsupported", "layer": given["home_assistant"].layer}
    named = by_name(documents, "peripherals")
    names = {}
    for item in settings.peripherals:
        hidden = local_options(item.peripheral)
        options = {key: value for key, value in plain(item.options).items() if key not in hidden}
        names[item.name] = {"layer": named[item.name].layer if item.name in named else "local", "value": options}
    sections["peripherals"] = {"status": "applied", "names": names}
    absent = sorted(set(named) - set(names))
    if absent:
        sections["peripherals"]["absent"] = absent  # of another booth of this layer
    return sections
