"""The forms cache as a citizen depends on it: what is missing, what is out of date, and what that is called."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from agent.contract.typed import Invalid, build
from agent.contract.words import ServiceWord, Severity, Status
from agent.peripherals.declaration import LOCAL
from agent.peripherals.forms import PERIPHERAL, FormsSource, Options, find
from agent.peripherals.surroundings import ClockView
from agent.rules.declaration import Reading
from agent.rules.health import Judgement, Now, judge
from agent.rules.services import DEFAULT_RULES, PeripheralState, services
from tests.forms_folder import form, furnish, pdf, shipped
from tests.peripherals.surroundings import Around, Recorded

TODAY = date(2026, 12, 1)
FINE: dict[str, Any] = {
    "catalogue": "2026-11-01", "total": 10, "printable": 10, "missing": 0, "missing_forms": "", "flaws": "", "expired": 0,
    "expired_forms": "", "withdrawn": 0, "withdrawn_forms": "", "verified_on": "2026-11-01", "next_not_after": None,
}  # fmt: skip


class Cache:
    """A source that looks at a folder, and how often it had files read."""

    def __init__(self, folder: Path) -> None:
        self.around = Around()
        self.around.clock = ClockView(synced=True, below_floor=False, today=TODAY)
        self.signals = Recorded()
        self.looks = 0
        call = self.around.view.workers.call

        async def counted(*arguments: Any, **named: Any) -> dict[str, Any]:
            self.looks += 1
            return await call(*arguments, **named)

        self.around.view.workers.call = counted  # type: ignore[method-assign]
        self.options = Options(str(folder))
        self.source = FormsSource(self.options, self.around.view, self.signals)

    async def read(self, *, active: bool = False) -> Reading:
        reading = await self.source.probe(active=active)
        if reading.unreadable is None:
            assert list(reading.facts) == [fact.name for fact in PERIPHERAL.facts]
        return reading

    async def found(self, *, active: bool = False) -> dict[str, Any]:
        reading = await self.read(active=active)
        return {item.code: dict(item.detail) for item in PERIPHERAL.findings_of(reading, self.options)}


@asynccontextmanager
async def cache_of(folder: Path) -> AsyncIterator[Cache]:
    cache = Cache(folder)
    try:
        yield cache
    finally:
        await cache.source.close()
        assert cache.around.view.workers.alive == 0


def judged(facts: dict[str, Any]) -> tuple[Status, list[tuple[str, Severity]], ServiceWord]:
    """Status, findings with their severity, and what becomes of the service `forms`, with a printer that works."""
    findings = PERIPHERAL.findings_of(Reading(facts), Options())
    judgement, _ = judge(Judgement(), findings, PERIPHERAL.finding_kinds, Now(0.0, "w"))
    booth = [
        PeripheralState("printer", "document-printer", "ok"),
        PeripheralState("forms", "forms", judgement.status, judgement.findings),
    ]
    said = [(finding.code, finding.severity) for finding in judgement.findings]
    return judgement.status, said, services(DEFAULT_RULES, booth)["forms"]


# --- the judgement ---


@pytest.mark.parametrize(
    ("facts", "status", "findings", "service"),
    [
        ({}, "ok", [], "ok"),
        ({"missing": 1, "printable": 9}, "degraded", [("form-missing", "warning")], "degraded"),
        ({"missing": 10, "printable": 0}, "fault", [("form-missing", "fault")], "down"),
        ({"expired": 1}, "degraded", [("form-expired", "warning")], "degraded"),
        ({"expired": None}, "ok", [], "ok"),
        ({"withdrawn": 1}, "ok", [("form-withdrawn", "info")], "ok"),
        ({"withdrawn": 10, "printable": 0, "total": 0}, "fault", [("form-withdrawn", "fault")], "down"),
        (
            {"withdrawn": 9, "missing": 1, "printable": 0}, "fault",
            [("form-missing", "fault"), ("form-withdrawn", "info")], "down",
        ),
    ],
)  # fmt: skip
def test_one_form_less_degrades_the_service_and_none_left_takes_it_down(
    facts: dict[str, Any], status: str, findings: list[tuple[str, str]], service: str
) -> None:
    assert judged(FINE | facts) == (status, findings, service)


def test_a_finding_names_the_forms_that_it_is_about() -> None:
    facts = FINE | {"missing": 2, "missing_forms": "10840 13750", "flaws": "absent wrong-size"}
    [found] = find(facts, Options())
    assert found.detail == {"forms": "10840 13750", "flaws": "absent wrong-size"}


def test_what_somebody_can_do_is_never_the_shopkeepers() -> None:
    """She can neither fetch a form nor mend a card: her light must not call her."""
    assert {kind.fix_by for code, kind in PERIPHERAL.finding_kinds.items()} <= {"remote", "technician"}


def test_the_folder_is_for_agent_toml_alone_and_a_whole_path() -> None:
    assert [f.name for f in Options.__dataclass_fields__.values() if f.metadata == LOCAL] == ["device"]
    assert build(Options, {}).device == "/var/lib/booth-forms/current"
    with pytest.raises(Invalid) as caught:
        build(Options, {"device": "forms", "interval_s": 5})
    assert [problem.path for problem in caught.value.problems] == ["device", "interval_s"]


# --- the measurement ---


async def test_the_shipped_forms_are_ten_and_all_is_well(tmp_path: Path) -> None:
    async with cache_of(shipped(tmp_path / "forms")) as cache:
        assert (await cache.read(active=True)).facts == FINE
        assert cache.source.interval_s() == 300.0


async def test_what_is_wrong_is_counted_and_named_by_cerfa_numbers(tmp_path: Path) -> None:
    folder = furnish(
        tmp_path, form("15776*02"), form("13750", not_after="2026-11-30"), form("10840", not_after="2026-12-01"),
        form("14011*02", verified_on="2025-01-31", not_after="2027-01-31"),
        form("12669*02", withdrawn=True, not_after="2020-01-01"),
    )  # fmt: skip
    (folder / "15776-02.pdf").unlink()
    (folder / "14011-02.pdf").write_bytes(pdf("14011*03"))
    async with cache_of(folder) as cache:
        reading = await cache.read()
        assert reading.facts == {
            "catalogue": "2026-11-01", "total": 4, "printable": 2, "missing": 2, "missing_forms": "14011*02 15776*02",
            "flaws": "absent wrong-content", "expired": 1, "expired_forms": "13750",
            "withdrawn": 1, "withdrawn_forms": "12669*02", "verified_on": "2025-01-31", "next_not_after": "2026-12-01",
        }  # fmt: skip
        assert [item.code for item in PERIPHERAL.findings_of(reading, cache.options)] == [
            "form-missing", "form-expired", "form-withdrawn",
        ]  # fmt: skip


async def test_a_form_expires_at_the_end_of_its_last_day_without_any_file_being_read_again(tmp_path: Path) -> None:
    async with cache_of(furnish(tmp_path, form(not_after="2026-12-01"))) as cache:
        assert await cache.found() == {}
        cache.around.clock = replace(cache.around.clock, today=date(2026, 12, 2))
        assert await cache.found() == {"form-expired": {"forms": "10840"}}
        assert cache.looks == 1


async def test_below_the_clocks_floor_nothing_expires(tmp_path: Path) -> None:
    async with cache_of(furnish(tmp_path, form(not_after="1999-12-31"))) as cache:
        cache.around.clock = ClockView(synced=False, below_floor=True, today=None)
        reading = await cache.read()
        assert (reading.facts["expired"], reading.facts["expired_forms"]) == (None, None)
        assert PERIPHERAL.findings_of(reading, cache.options) == []
        cache.around.clock = ClockView(synced=False, below_floor=False, today=TODAY)
        assert set(await cache.found()) == {"form-expired"}


async def test_files_are_read_again_only_when_one_has_changed_or_a_check_asks(tmp_path: Path) -> None:
    async with cache_of(furnish(tmp_path, form())) as cache:
        for _ in range(3):
            assert await cache.found() == {}
        assert cache.looks == 1
        status = (tmp_path / "10840.pdf").stat()
        with open(tmp_path / "10840.pdf", "r+b") as file:  # a bit flips on the card: no time stamp tells
            file.seek(9)
            file.write(b"#")
        os.utime(tmp_path / "10840.pdf", ns=(status.st_atime_ns, status.st_mtime_ns))
        assert await cache.found() == {}
        assert await cache.found(active=True) == {"form-missing": {"forms": "10840", "flaws": "wrong-content"}}
        assert cache.looks == 2


async def test_what_changes_wakes_the_engine_and_a_switch_brings_the_new_catalogue(tmp_path: Path) -> None:
    furnish(tmp_path / "slots" / "a", form())
    furnish(tmp_path / "slots" / "b", form("13750"), form("10840"), version="2026-12-01")
    link = tmp_path / "current"
    link.symlink_to("slots/a")
    async with cache_of(link) as cache:
        assert (await cache.read()).facts["total"] == 1
        assert cache.signals.wakes == 0
        fresh = tmp_path / "current.new"
        fresh.symlink_to("slots/b")
        fresh.rename(link)
        await cache.signals.until(lambda: cache.signals.wakes > 0)
        reading = await cache.read()
        assert (reading.facts["catalogue"], reading.facts["total"]) == ("2026-12-01", 2)
        wakes = cache.signals.wakes
        (tmp_path / "slots/b/13750.pdf").unlink()
        await cache.signals.until(lambda: cache.signals.wakes > wakes)
        assert set(await cache.found()) == {"form-missing"}
        assert cache.signals.active_wakes == 0


async def test_without_a_catalogue_the_cache_is_absent_and_looked_for_every_ten_seconds(tmp_path: Path) -> None:
    link = tmp_path / "current"
    async with cache_of(link) as cache:
        assert await cache.found() == {"no-device": {"reason": f"there is no folder {link}"}}
        assert cache.source.interval_s() == 10.0
        assert cache.looks == 0, "no process is started for what is not there"
        link.mkdir()
        assert await cache.found() == {"no-device": {"reason": "catalogue.json: No such file or directory"}}
        (link / "catalogue.json").write_text("{")
        [[code, detail]] = (await cache.found()).items()
        assert code == "no-device"
        assert "no JSON" in detail["reason"]
        assert cache.source.interval_s() == 10.0
        furnish(link, form())
        assert await cache.found() == {}
        assert cache.source.interval_s() == 300.0
    texts = PERIPHERAL.finding_kinds["no-device"]
    assert (texts.fix_by, texts.text.fr) == ("remote", "Les formulaires ne sont pas installés sur la borne.")


async def test_a_session_is_no_reason_to_look_away(tmp_path: Path) -> None:
    """A file is read, and nobody is disturbed by it."""
    around = Around(runtime_dir=tmp_path)
    source = FormsSource(Options(str(furnish(tmp_path / "forms", form()))), around.view, Recorded())
    try:
        with around.view.session.taken() as ours:
            assert ours
            assert (await source.probe(active=True)).facts["printable"] == 1
    finally:
        await source.close()


async def test_a_card_that_does_not_answer_is_said_and_asked_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.peripherals.forms._LOOK_S", 0.001)
    async with cache_of(furnish(tmp_path, form())) as cache:
        assert set(await cache.found()) == {"not-responding"}
        assert cache.source.interval_s() == 60.0
        monkeypatch.setattr("agent.peripherals.forms._LOOK_S", 20.0)
        assert await cache.found() == {}


async def test_nothing_of_a_closed_source_stays(tmp_path: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    async with cache_of(furnish(tmp_path, form())) as cache:
        await cache.read()
    await asyncio.sleep(0)
    assert set(Path("/proc/self/fd").iterdir()) == before
