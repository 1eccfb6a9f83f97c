"""What every declaration owes the engine and its readers, whichever peripherals there are."""

import inspect
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

from agent.contract.words import FixBy, Severity
from agent.peripherals import declared
from agent.peripherals.declaration import Peripheral
from agent.rules.declaration import FactType, Unreadable
from agent.rules.declaration import Reading as RulesReading

KINDS = pytest.mark.parametrize("peripheral", declared().values(), ids=lambda peripheral: peripheral.kind)
NAME = re.compile("[a-z0-9]+(-[a-z0-9]+)*")

# Words that a string fact can hold and that `find` compares with; everything else is unknown to it.
WORDS: dict[str, tuple[Any, ...]] = {
    "paper": ("adequate", "low", "empty"),
    "error": (None, "cutter", "recoverable", "unrecoverable", "auto-recoverable"),
    "store": ("ok", "full", "damaged", "failed", "hangs"),
    "dns": (None, "ok", "timeout"),
    "check": (None, "ok", "portal", "http-503", "tls:unknown-ca", "connect:timeout"),
    "broker": (None, "connected", "tls:unknown-ca", "connect:refused"),
    "gateway_reachable": (None, True, False),
    "check_ms": (None,),
    "interface": ("eth0",),
}
OF_TYPE: dict[str, tuple[Any, ...]] = {
    "boolean": (True, False),
    "integer": (None, 0, 10**9),
    "number": (None, -(10.0**9), 10.0**9),
    "string": (None, "something"),
}


def every_state(peripheral: Peripheral) -> Iterator[dict[str, Any]]:
    """Every combination of the values that `find` can tell apart."""
    names = [fact.name for fact in peripheral.facts]
    choices = [WORDS.get(fact.name, OF_TYPE[fact.type]) for fact in peripheral.facts]
    for values in itertools.product(*choices):
        yield dict(zip(names, values, strict=True))


def options_of(peripheral: Peripheral) -> Any:
    needed = [name for name, p in inspect.signature(peripheral.options).parameters.items() if p.default is p.empty]
    return peripheral.options(**dict.fromkeys(needed, "tcp://127.0.0.1:9100"))


@KINDS
def test_every_finding_that_can_be_found_is_declared_and_every_declared_one_can_be_found(peripheral: Peripheral) -> None:
    options = options_of(peripheral)
    found = {item.code for facts in every_state(peripheral) for item in peripheral.find(facts, options)}
    assert found == {kind.code for kind in peripheral.findings}


@KINDS
def test_what_makes_a_device_unreadable_is_declared(peripheral: Peripheral) -> None:
    for code in get_args(inspect.get_annotations(Unreadable)["code"]):
        reading = RulesReading(unreadable=Unreadable(code, {"reason": "x"}))
        (found,) = peripheral.findings_of(reading, options_of(peripheral))
        assert found.code in peripheral.finding_kinds


@KINDS
def test_every_finding_says_who_fixes_it_in_both_languages(peripheral: Peripheral) -> None:
    for kind in peripheral.finding_kinds.values():
        assert NAME.fullmatch(kind.code)
        assert kind.severity in get_args(Severity)
        assert kind.fix_by in get_args(FixBy)
        for text in (kind.text.fr, kind.text.en, peripheral.noun.fr, peripheral.noun.en):
            assert text.strip() == text != ""
            assert text.isprintable()
        assert kind.text.fr != kind.text.en
        assert kind.text.fr.endswith(".")
        assert kind.text.en.endswith(".")
        assert len(kind.text.fr) <= 80  # the light's companion: one line on a ticket or a small screen
        assert kind.raise_after_s >= 0 <= kind.clear_after_s


@KINDS
def test_every_fact_is_named_with_its_unit_and_explained(peripheral: Peripheral) -> None:
    suffixes = {"°C": "_c", "%": "_pct", "bytes": "_bytes", "ms": "_ms", "s": "_s", "V": "_v", "dBm": "_dbm"}
    assert len({fact.name for fact in peripheral.facts}) == len(peripheral.facts)
    for fact in peripheral.facts:
        assert re.fullmatch("[a-z0-9]+(_[a-z0-9]+)*", fact.name)
        assert fact.type in get_args(FactType)
        assert fact.meaning.strip()
        if fact.unit is not None:
            assert fact.name.endswith(suffixes[fact.unit]), fact.name
        if fact.telemetry:
            assert fact.type in ("number", "integer")


@KINDS
def test_the_facts_of_any_reading_are_exactly_the_declared_ones(peripheral: Peripheral) -> None:
    names = [fact.name for fact in peripheral.facts]
    assert list(peripheral.all_facts(RulesReading())) == names
    assert list(peripheral.all_facts(RulesReading({"something-else": 1}))) == names


TOY = """
from dataclasses import dataclass

from agent.contract.alarm import Text
from agent.peripherals.declaration import Peripheral
from agent.rules.declaration import Fact, FindingKind, Observed


@dataclass(frozen=True)
class Options:
    pass


def find(facts, options):
    if facts["asleep"]:
        yield Observed("asleep")


PERIPHERAL = Peripheral(
    kind="toy", noun=Text("le jouet", "the toy"), options=Options,
    facts=(Fact("asleep", "boolean", "it sleeps"),),
    findings=(FindingKind("asleep", "info", "nobody", Text("Il dort.", "It sleeps.")),),
    find=find, open=lambda options, surroundings, signals: None, deadline_s=1.0,
)
"""


@pytest.fixture
def toy_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    folder = tmp_path / "toy_peripherals"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "toy.py").write_text(TOY)
    (folder / "helper.py").write_text("PERIPHERAL = 'not one'\n")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("toy_peripherals")
    yield sys.modules["toy_peripherals"]
    for name in [name for name in sys.modules if name.startswith("toy_peripherals")]:
        del sys.modules[name]


def test_a_new_peripheral_is_one_file_that_nothing_lists(toy_package: ModuleType) -> None:
    kinds = declared(toy_package)
    assert list(kinds) == ["toy"]
    toy = kinds["toy"]
    (found,) = toy.findings_of(RulesReading({"asleep": True}), toy.options())
    assert toy.finding_kinds[found.code].severity == "info"
    assert {"no-device", "not-responding", "wedged", "probe-failed", "asleep"} == set(toy.finding_kinds)
    assert toy.finding_kinds["not-responding"].text.fr == "Le jouet ne répond pas : éteignez puis rallumez."
