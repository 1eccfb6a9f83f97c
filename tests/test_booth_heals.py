"""A booth that heals itself, with real peers, as its readers see it; and whose documents come out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from agent.engine import heal
from agent.settings import Settings
from agent.simulator.booth import SimulatedBooth
from tests.peripherals.whole_booth import WHOLE, processes_of
from tests.world import Observer


class HastyBooth(SimulatedBooth):
    """Its remedies need no patience, and settle soon."""

    def _settings(self) -> Settings:
        settings = super()._settings()
        items = []
        for item in settings.peripherals:
            ladder = tuple(
                replace(remedy, patience_s=2.0, settle_s=min(remedy.settle_s, 1.0)) for remedy in item.peripheral.ladder
            )
            items.append(replace(item, peripheral=replace(item.peripheral, ladder=ladder)))
        return replace(settings, peripherals=tuple(items))


@contextlib.asynccontextmanager
async def healing_booth(folder: Path) -> AsyncIterator[tuple[HastyBooth, Observer]]:
    booth = HastyBooth(folder, alarm_after_s=1)
    observer: Observer | None = None
    try:
        await booth.start()
        observer = Observer(booth.broker.port)
        await observer.until(lambda: observer.last("led") == "ok", "a booth where all is well")
        yield booth, observer
        assert not observer.problems, observer.problems[:5]
    finally:
        if observer is not None:
            observer.close()
        await booth.stop()
    assert processes_of(folder) == []


def heals(observer: Observer) -> list[tuple[str, str, str]]:
    """(peripheral, remedy, outcome) of every attempt that was told."""
    return [
        (event["peripheral"], event["data"]["remedy"], event["data"]["outcome"])
        for event in observer.events()
        if event["class"] == "heal"
    ]


@WHOLE
async def test_faults_end_without_a_visit_and_everybody_can_see_what_was_done(tmp_path: Path) -> None:
    async with healing_booth(tmp_path) as (booth, observer):
        await booth.act("cutter-jammed")
        await observer.until(lambda: observer.last("alarm/receipt-printer/cutter-error"), "the alarm")
        for fault in ("queue-stopped", "app-crashed"):
            await booth.act(fault)
        await observer.until(lambda: len(heals(observer)) >= 3, "three cures", 90)
        assert set(heals(observer)) == {
            ("receipt-printer", "recover", "cured"),
            ("document-printer", "enable-queue", "cured"),
            ("kiosk", "restart-kiosk", "cured"),
        }
        # What ran, while it ran: in its peripheral's health, and on the light.
        running = {
            message.json["healing"]["remedy"]: message.json["healing"]
            for message in observer.messages
            if "/health/" in message.topic and message.payload and message.json["healing"]
        }
        assert running.keys() == {"recover", "enable-queue", "restart-kiosk"}
        assert (running["enable-queue"]["rung"], running["enable-queue"]["attempt"]) == (1, 1)
        assert "working" in [message.text for message in observer.of("led")]
        tried = [m.json["tried"] for m in observer.of("alarm/receipt-printer/cutter-error") if m.payload]
        assert tried[0] == []
        assert [(item["remedy"], item["outcome"]) for item in tried[-1]] == [("recover", "cured")]
        await observer.until(lambda: not any(observer.codes(kind) for kind in booth.profile), "all well")
        assert all(observer.last(f"health/{kind}")["healing"] is None for kind in booth.profile)


@WHOLE
async def test_f75_the_held_document_of_an_earlier_citizen_is_purged_and_never_printed(tmp_path: Path) -> None:
    async with healing_booth(tmp_path) as (booth, observer):
        await booth.citizen.comes()
        booth.cups.change(paper="out")
        hers = await booth.cups.print_something("her form\n")
        await observer.until(lambda: observer.codes("document-printer") == ["media-empty"], "paper out")
        await booth.cups.stop_queue()
        await observer.until(lambda: "queue-stopped" in observer.codes("document-printer"), "a stopped queue")
        await asyncio.sleep(2 * 2.0)  # longer than the patience of a remedy: a quiet interval
        assert booth.machine.acts.asked == [], "nothing is touched while she is there"
        booth.citizen.goes()
        booth.cups.change(paper="plenty")
        await observer.until(lambda: observer.codes("document-printer") == [], "the queue enabled", heal.SESSION_AGAIN_S + 60)
        his = await booth.cups.print_something("his form\n")
        await observer.until(lambda: his in booth.cups.printed, "the next citizen's document")
        assert hers not in booth.cups.printed


@WHOLE
async def test_a_document_is_forgotten_after_its_session_and_nobody_is_told(tmp_path: Path) -> None:
    async with healing_booth(tmp_path) as (booth, observer):
        await booth.citizen.comes()
        booth.cups.change(paper="out")
        hers = await booth.cups.print_something("her form\n")
        await observer.until(lambda: observer.codes("document-printer") == ["media-empty"], "paper out")
        booth.citizen.goes()
        await observer.until(lambda: ("purge-spool", "document-printer") in booth.machine.acts.done, "the purge")
        assert observer.last("led") == "your-turn"  # the paper is still out
        booth.cups.change(paper="plenty")
        await observer.until(lambda: observer.codes("document-printer") == [], "the alarm to go though nobody prints")
        await observer.until(lambda: observer.last("led") == "ok", "the light")
        assert hers not in booth.cups.printed
        assert heals(observer) == []


@WHOLE
async def test_f76_healing_waits_for_the_citizen_and_begins_soon_after_she_left(tmp_path: Path) -> None:
    async with healing_booth(tmp_path) as (booth, observer):
        await booth.citizen.comes()
        await booth.act("app-crashed")
        await booth.act("cutter-jammed")
        await observer.until(lambda: observer.last("alarm/kiosk/app-not-running"), "the alarm")
        await observer.until(lambda: observer.last("alarm/receipt-printer/cutter-error"), "the alarm")
        assert heals(observer) == []
        booth.citizen.goes()
        await observer.until(lambda: len(heals(observer)) == 2, "both healed", 60)
        assert {outcome for _, _, outcome in heals(observer)} == {"cured"}
