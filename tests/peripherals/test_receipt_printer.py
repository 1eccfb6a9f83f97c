"""What a receipt printer's facts mean, and how often it is asked."""

from dataclasses import replace
from typing import Any

import pytest

from agent.contract.typed import Invalid, build
from agent.peripherals import receipt_printer
from agent.peripherals.receipt_printer import PERIPHERAL, Options, PrinterSource
from agent.rules.declaration import Reading, Unreadable
from agent.simulator.receipt_printer import ReceiptPrinter
from tests.peripherals.surroundings import Around, Recorded

FINE: dict[str, Any] = {"online": True, "cover_open": False, "paper": "adequate", "error": None, "feeding": False}
OPTIONS = Options("tcp://127.0.0.1:9100")


@pytest.mark.parametrize(
    ("facts", "codes"),
    [
        ({}, []),
        ({"paper": "low"}, ["media-low"]),
        ({"paper": "empty", "online": False}, ["media-empty"]),
        ({"cover_open": True, "online": False}, ["cover-open"]),
        # A paper sensor can be wrong while the cover is open.
        ({"cover_open": True, "online": False, "paper": "empty"}, ["cover-open"]),
        ({"cover_open": True, "online": False, "paper": "low"}, ["cover-open"]),
        ({"error": "cutter", "online": False}, ["cutter-error"]),
        ({"error": "recoverable", "online": False}, ["recoverable-error"]),
        ({"error": "unrecoverable", "online": False}, ["unrecoverable-error"]),
        ({"error": "auto-recoverable", "online": False}, ["auto-recoverable-error"]),
        ({"error": "cutter", "paper": "empty", "online": False}, ["cutter-error", "media-empty"]),
        ({"error": "cutter", "cover_open": True, "online": False}, ["cutter-error", "cover-open"]),
        ({"online": False}, ["offline"]),
        ({"online": False, "feeding": True}, []),  # somebody is at it
        ({"online": False, "paper": "low"}, ["media-low", "offline"]),
    ],
)
def test_findings_follow_from_facts(facts: dict[str, Any], codes: list[str]) -> None:
    assert [item.code for item in receipt_printer.find(FINE | facts, OPTIONS)] == codes


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "device"),
        ({"device": "lp0"}, "device"),
        ({"device": "tcp://127.0.0.1:9100", "poll_s": 16}, "poll_s"),
        ({"device": "tcp://127.0.0.1:9100", "absent_s": 11}, "absent_s"),
        ({"device": "tcp://127.0.0.1:9100", "baud": 9600}, "baud"),
    ],
)
def test_wrong_options_are_named_by_their_path(options: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        build(Options, options, "peripherals.receipt-printer")
    assert [problem.path for problem in caught.value.problems] == [f"peripherals.receipt-printer.{path}"]


class Asked:
    """A source of a printer that listens on TCP."""

    def __init__(self, printer: ReceiptPrinter, **options: Any) -> None:
        self.signals = Recorded()
        self.source = PrinterSource(
            replace(Options(f"tcp://127.0.0.1:{printer.port}"), **options),
            Around().view,
            self.signals,
        )

    async def codes(self) -> list[str]:
        reading = await self.source.probe(active=False)
        assert reading is not None
        return [item.code for item in PERIPHERAL.findings_of(reading, OPTIONS)]


async def test_how_often_it_is_asked_depends_on_what_it_does_by_itself() -> None:
    printer = ReceiptPrinter()
    await printer.listen()
    asked = Asked(printer, poll_s=3.0, check_s=60.0, absent_s=2.0)
    try:
        assert await asked.codes() == []
        assert asked.source.interval_s() == 3.0  # not heard to push yet
        await asked.signals.until(lambda: bool(asked.signals.reports))
        assert asked.source.interval_s() == 60.0  # it pushes: asked only whether it is still there

        await printer.unlisten()
        await asked.signals.until(lambda: asked.signals.wakes > 0)
        assert await asked.codes() == ["no-device"]
        assert asked.source.interval_s() == 2.0
    finally:
        await asked.source.close()
        await printer.close()


async def test_one_that_fell_mute_is_asked_again_soon_though_it_used_to_push(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.devices.escpos.printer.ASK_DEADLINE_S", 0.3)
    printer = ReceiptPrinter()
    await printer.listen()
    asked = Asked(printer, poll_s=3.0, check_s=60.0)
    try:
        await asked.codes()
        await asked.signals.until(lambda: bool(asked.signals.reports))
        printer.behaviour.mute = True
        assert await asked.codes() == ["not-responding"]
        assert asked.source.interval_s() == 2.0, "somebody may be mending it right now"
    finally:
        await asked.source.close()
        await printer.close()


async def test_a_print_server_that_closes_an_idle_connection_is_asked_again_not_called_absent() -> None:
    printer = ReceiptPrinter()
    await printer.listen()
    asked = Asked(printer)
    try:
        assert await asked.codes() == []
        await asked.signals.until(lambda: bool(asked.signals.reports))
        for line in list(printer._lines):
            line.hang_up()
        await asked.signals.until(lambda: asked.signals.wakes > 0)
        assert all(report.unreadable is None for report in asked.signals.reports)
        assert await asked.codes() == []
    finally:
        await asked.source.close()
        await printer.close()


async def test_a_usb_event_wakes_only_one_that_is_absent() -> None:
    printer = ReceiptPrinter()
    await printer.listen()
    signals = Recorded()
    around = Around()
    source = PrinterSource(Options(f"tcp://127.0.0.1:{printer.port}"), around.view, signals)
    try:
        for action in ("remove", "unbind"):
            around.usb_event(action)
        assert signals.wakes == 0
        around.usb_event("add")
        assert signals.wakes == 1
        await source.probe(active=False)
        around.usb_event("add")
        assert signals.wakes == 1
    finally:
        await source.close()
        await printer.close()


async def test_the_connection_of_a_reading_names_the_slot() -> None:
    printer = ReceiptPrinter()
    await printer.listen()
    asked = Asked(printer)
    try:
        reading = await asked.source.probe(active=False)
        assert reading is not None
        assert reading.identity.slot == "loopback"
        assert reading.facts == FINE
    finally:
        await asked.source.close()
        await printer.close()


def test_a_printer_that_could_not_be_read_has_that_finding_alone() -> None:
    reading = Reading(unreadable=Unreadable("not-responding", {"reason": "no answer to DLE EOT"}))
    (found,) = PERIPHERAL.findings_of(reading, OPTIONS)
    assert (found.code, found.detail) == ("not-responding", {"reason": "no answer to DLE EOT"})
    assert PERIPHERAL.all_facts(reading) == dict.fromkeys(FINE)
