"""What every declaration owes the engine and its readers, whichever peripherals there are."""

import inspect
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contract.words import FixBy, Severity
from agent.peripherals import declared
from agent.peripherals.declaration import Peripheral
from agent.peripherals.printer_reasons import KNOWN
from agent.rules.declaration import Fact, FactType, Unreadable
from agent.rules.declaration import Reading as RulesReading
from agent.system.session import _SHARED_S
from tests.peripherals.toy import toy_package

KINDS = pytest.mark.parametrize("peripheral", declared().values(), ids=lambda peripheral: peripheral.kind)
NAME = re.compile("[a-z0-9]+(-[a-z0-9]+)*")
RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook"
UNITS = {"°C": "_c", "%": "_pct", "bytes": "_bytes", "ms": "_ms", "s": "_s", "V": "_v", "dBm": "_dbm", "d": "_days"}
LINE: Final = 80  # the light's companion: one line on a ticket or a small screen
CITIZEN_WAITS_S: Final = 60.0  # contract §12

# Words that a string fact can hold and that `find` compares with, everything else being unknown to it; and for facts that
# matter little together, fewer values than their type has: every combination of a kind's facts is tried.
_SOUND = (None, "ok", "absent", "muted", "taken")
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
    "storage_free_bytes": (None,),
    "scheduler": (True, False),
    "queue": (True, False),
    "trouble": (None,),
    "present": (None, True, False),
    "state": (None, "idle", "stopped"),
    "accepting": (None, True, False),
    "reasons": (None, *(f"{reason}-error" for reason in KNOWN), "media-low-report,vendor-specific"),
    "stale_reasons": (None, "media-jam-error"),
    "queued_jobs": (None,),
    "toner_lowest": (None,),
    "status": (
        None, "ok", "jammed", "cover-open", "no-docs", "busy", "io-error", "access-denied", "warming-up", "no-memory", "invalid",
        "end-of-file", "something new",
    ),
    "cover_open": (None, True, False),
    "microphone": _SOUND,
    "speaker": _SOUND,
    "running": (None, True, False),
}  # fmt: skip
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


def any_facts(peripheral: Peripheral) -> st.SearchStrategy[dict[str, Any]]:
    """Facts as a source could report them: each measured or not, words that are known, any number."""
    return st.fixed_dictionaries({fact.name: _any_value(fact) for fact in peripheral.facts})


def _any_value(fact: Fact) -> st.SearchStrategy[Any]:
    known = st.sampled_from((None, *WORDS.get(fact.name, OF_TYPE[fact.type])))
    numbers = {"integer": st.integers(-(10**6), 10**6), "number": st.floats(allow_nan=False, allow_infinity=False)}
    return known | numbers.get(fact.type, st.none())


@KINDS
def test_every_finding_that_can_be_found_is_declared_and_every_declared_one_can_be_found(peripheral: Peripheral) -> None:
    options = options_of(peripheral)
    found = {item.code for facts in every_state(peripheral) for item in peripheral.find(facts, options)}
    assert found <= set(peripheral.finding_kinds)
    unreadable = set(get_args(inspect.get_annotations(Unreadable)["code"]))  # said instead of facts, with words of the kind's own
    # A chore that root refuses is noted by the healer, and by no reading.
    noted = {"access-denied"} if peripheral.chores else set()
    assert found >= {kind.code for kind in peripheral.findings} - unreadable - noted


@KINDS
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_findings_are_a_function_of_the_reading(peripheral: Peripheral, data: st.DataObject) -> None:
    """Neither what was asked before nor how often matters, and the facts stay as they were."""
    options = options_of(peripheral)
    readings = data.draw(st.lists(any_facts(peripheral), min_size=2, max_size=4))
    copies = [dict(facts) for facts in readings]
    first = [list(peripheral.find(facts, options)) for facts in readings]
    for number in data.draw(st.permutations(range(len(readings)))):
        assert list(peripheral.find(readings[number], options)) == first[number]
    assert readings == copies
    assert {item.code for items in first for item in items} <= set(peripheral.finding_kinds)


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
        assert len(kind.text.fr) <= LINE, kind.text.fr
        assert len(kind.text.en) <= LINE, kind.text.en
        assert kind.raise_after_s >= 0 <= kind.clear_after_s


@KINDS
def test_every_fact_is_named_with_its_unit_and_explained(peripheral: Peripheral) -> None:
    assert len({fact.name for fact in peripheral.facts}) == len(peripheral.facts)
    for fact in peripheral.facts:
        assert re.fullmatch("[a-z0-9]+(_[a-z0-9]+)*", fact.name)
        assert fact.type in get_args(FactType)
        assert fact.meaning.strip()
        if fact.unit is not None:
            assert fact.name.endswith(UNITS[fact.unit]), fact.name
        elif fact.type in ("number", "integer"):
            assert not fact.name.endswith(tuple(UNITS.values())), f"{fact.name} has a unit, and does not declare it"
        if fact.telemetry:
            assert fact.type in ("number", "integer")


@KINDS
def test_the_facts_of_any_reading_are_exactly_the_declared_ones(peripheral: Peripheral) -> None:
    names = [fact.name for fact in peripheral.facts]
    assert list(peripheral.all_facts(RulesReading())) == names
    assert list(peripheral.all_facts(RulesReading({"something-else": 1}))) == names


@KINDS
def test_every_code_has_a_page_of_the_runbook(peripheral: Peripheral) -> None:
    for code in peripheral.finding_kinds:
        page = RUNBOOK / peripheral.kind / f"{code}.md"
        assert page.is_file(), f"{page} is missing"
        title, _, text = page.read_text().partition("\n")
        assert title == f"# {peripheral.kind}/{code}"
        assert text.strip()


def test_a_citizen_waits_for_no_device_longer_than_the_contract_says() -> None:
    """In the worst case the longest check joins a hold at the last moment that it may."""
    taking = {
        kind.kind: kind.deadline_s
        for kind in declared().values()
        if re.search(r"session\.taken\(", inspect.getsource(sys.modules[kind.open.__module__]))
    }
    assert {"scanner", "camera"} <= set(taking)
    assert _SHARED_S + max(taking.values()) < CITIZEN_WAITS_S, taking


def test_a_new_peripheral_is_one_file_that_nothing_lists(tmp_path: Path) -> None:
    with toy_package(tmp_path) as package:
        kinds = declared(package)
    assert list(kinds) == ["toy"]
    toy = kinds["toy"]
    (found,) = toy.findings_of(RulesReading({"asleep": True}), toy.options())
    assert toy.finding_kinds[found.code].severity == "info"
    assert {"no-device", "not-responding", "wedged", "probe-failed", "asleep"} == set(toy.finding_kinds)
    assert toy.finding_kinds["not-responding"].text.fr == "Le jouet ne répond pas : éteignez puis rallumez."


def test_what_the_booth_does_by_itself_stands_on_the_page_of_each_finding_that_it_may_cure() -> None:
    for kind in declared().values():
        cured = frozenset().union(*(remedy.cures for remedy in kind.ladder))
        for code in kind.finding_kinds:
            text = (RUNBOOK / kind.kind / f"{code}.md").read_text()
            assert ("## What the booth does" in text) == (code in cured), f"{kind.kind}/{code}"
