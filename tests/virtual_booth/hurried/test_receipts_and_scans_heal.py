"""A device on USB whose printing and whose scanning part fail until the right thing is done to it."""

import json
from collections.abc import Iterator
from itertools import groupby

import pytest

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.healed import Patient, heals
from tests.virtual_booth.inside import agent, heard, until_heard, until_said
from tests.virtual_booth.printers import UsbPrinter

_BOOTH = """
[booth]
id = "61-0001"
area = "61"
timezone = "Europe/Paris"
[broker]
url = "mqtt://127.0.0.1"
[reporting]
alarm_after_s = 1
"""
_RECEIPTS = """
[peripherals.receipt-printer]
kind = "receipt-printer"
device = "{device}"
poll_s = 5
check_s = 5
absent_s = 2
"""
_SCANNER = f"""
[checks]
every_s = 60
[peripherals.scanner]
kind = "scanner"
device = "sane:test:1"
config_dir = "{UsbPrinter.scanner_folder}"
usb = "{UsbPrinter.ids}"
worker_s = 10
retry_s = 20
"""
_SLOTS = f"""
[usb]
receipt-printer = "{UsbPrinter.port}"
scanner = "{UsbPrinter.port}"
"""
_HEALED_S = 400.0  # by our clock: a bound, where others use this machine too
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
# The order of the rungs, and which fault of the table the rung cures.
_RECEIPT_FAULTS = {
    "rebind": "driver stuck",
    "reset": "interface hangs",
    "authorize": "wrongly configured",
    "power": "firmware hangs",
}
_SCANNER_FAULTS = {
    "reset": ("slow", "interface hangs"),
    "authorize": ("io-error", "wrongly configured"),
    "power": ("io-error", "firmware hangs"),
}


@pytest.fixture(scope="module")
def printer(hurried: VirtualBooth) -> Iterator[UsbPrinter]:
    with UsbPrinter(hurried, scans=True) as printer:
        yield printer


@heals("receipt-printer", *_RECEIPT_FAULTS.values())
def test_a_mute_receipt_printer_is_healed_by_whichever_rung_helps(printer: UsbPrinter) -> None:
    with agent(printer.booth, _BOOTH + _RECEIPTS.format(device=UsbPrinter.url), _SLOTS):
        until_said(printer.booth, "health/receipt-printer", '"status":"ok"')
        patient = Patient(printer.booth, "receipt-printer")
        for cure, fault in _RECEIPT_FAULTS.items():
            patient.breaks()
            printer.mute(cure)
            patient.healed(fault, f"usb-{cure}", _HEALED_S)
        # Soon again is not cured: what has not helped was not done twice.
        tried = [remedy for remedy, _ in patient.attempts()]
        assert tried == ["reopen", "usb-rebind", "usb-reset", "usb-authorize", "usb-power"]
        acts = [word for word in printer.happened() if word not in ("plugged", "mute")]
        assert acts == [word for cure in _RECEIPT_FAULTS for word in (cure, "cured")]
        # Everybody could see it.
        healths = [json.loads(text) for text in heard(printer.booth, "health/receipt-printer")]
        statuses = (health["status"] for health in healths if health["status"] in {"ok", "fault"})
        assert [status for status, _ in groupby(statuses)] == ["ok", "fault"] * len(_RECEIPT_FAULTS) + ["ok"]
        assert {health["healing"]["remedy"] for health in healths if health["healing"]} >= set(tried[1:])
        assert "working" in heard(printer.booth, "led")
        alarms = [json.loads(text) for text in heard(printer.booth, "alarm/receipt-printer/not-responding") if text != "(null)"]
        # The last one cured, and the alarm went.
        assert [item["remedy"] for item in max((alarm["tried"] for alarm in alarms), key=len)] == tried[:-1]


@heals("receipt-printer", "cutter stuck", "error that was mended")
def test_a_printer_that_waits_after_an_error_is_told_to_go_on(printer: UsbPrinter) -> None:
    with agent(printer.booth, _BOOTH + _RECEIPTS.format(device=UsbPrinter.url), _SLOTS):
        until_said(printer.booth, "health/receipt-printer", '"status":"ok"')
        for error, fault in (("cutter", "cutter stuck"), ("recoverable", "error that was mended")):
            patient = Patient(printer.booth, "receipt-printer", code=f"{error}-error")
            patient.breaks()
            printer.has_error(error)
            patient.healed(fault, "recover", _HEALED_S)
            assert patient.attempts() == [("recover", "cured")]


@heals("receipt-printer", "dead")
def test_a_dead_receipt_printer_has_each_rung_once_and_no_reboot(printer: UsbPrinter) -> None:
    booth = printer.booth
    boot = booth.run(_BOOT_ID)
    with agent(booth, _BOOTH + _RECEIPTS.format(device=UsbPrinter.url), _SLOTS):
        until_said(booth, "health/receipt-printer", '"status":"ok"')
        patient = Patient(booth, "receipt-printer")
        patient.breaks()
        printer.mute("never")
        until_heard(booth, "event/heal", '"remedy":"usb-power","outcome":"failed"', _HEALED_S)
        rungs = ["reopen", "usb-rebind", "usb-reset", "usb-authorize", "usb-power"]
        assert patient.attempts() == [(rung, "failed") for rung in rungs]
        patient.noted("dead", "", patient.events()[-1])
        assert booth.run(_BOOT_ID) == boot


@heals("scanner", *(fault for _, fault in _SCANNER_FAULTS.values()))
def test_a_scanner_that_fails_is_healed_by_whichever_rung_helps(printer: UsbPrinter) -> None:
    with agent(printer.booth, _BOOTH + _SCANNER, _SLOTS):
        until_said(printer.booth, "health/scanner", '"status":"ok"')
        patient = Patient(printer.booth, "scanner")
        for cure, (trouble, fault) in _SCANNER_FAULTS.items():
            patient.breaks()
            printer.scans_badly(trouble, cure)
            patient.healed(fault, f"usb-{cure}", _HEALED_S)
        assert [remedy for remedy, _ in patient.attempts()][:3] == ["try-again", "end-holders", "usb-reset"]


@heals("scanner", "dead")
def test_a_dead_scanner_has_each_rung_once_and_no_reboot(printer: UsbPrinter) -> None:
    booth = printer.booth
    boot = booth.run(_BOOT_ID)
    with agent(booth, _BOOTH + _SCANNER, _SLOTS):
        until_said(booth, "health/scanner", '"status":"ok"')
        patient = Patient(booth, "scanner")
        patient.breaks()
        printer.scans_badly("io-error", "never")
        until_heard(booth, "event/heal", '"remedy":"usb-power","outcome":"failed"', _HEALED_S)
        until_heard(booth, "alarm/scanner/io-error", '"fix_by":"technician"')
        rungs = ["try-again", "end-holders", "usb-reset", "usb-authorize", "usb-power"]
        assert patient.attempts() == [(rung, "failed") for rung in rungs]
        patient.noted("dead", "", patient.events()[-1])
        assert booth.run(_BOOT_ID) == boot
