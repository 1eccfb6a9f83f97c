"""The agent as it is installed, and root beside it: faults end by themselves, and nothing else is done."""

import json
from itertools import groupby

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.inside import agent, heard, remedies, said, start_broker, until_heard, until_said
from tests.virtual_booth.paper import Paper
from tests.virtual_booth.printers import SerialPrinter, UsbPrinter

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
_RECEIPTS = f"""
[peripherals.receipt-printer]
kind = "receipt-printer"
device = "{UsbPrinter.url}"
poll_s = 5
check_s = 5
absent_s = 2
"""
_LINE = _RECEIPTS.replace(UsbPrinter.url, "serial:///dev/booth/usb-2/tty")
_FORMS = """
[peripherals.document-printer]
kind = "document-printer"
device = "ipp://127.0.0.1:631/printers/forms"
"""
_NETWORK = """
[peripherals.network]
kind = "network"
"""
_SLOTS = f"""
[usb]
receipt-printer = "{UsbPrinter.port}"
[queues]
document-printer = "forms"
[interfaces]
network = "eth0"
"""
_CLIMBED_S = 240.0  # three rungs, each with its patience, on an emulated processor


def test_a_mute_printer_is_healed_by_the_rung_that_helps_and_higher_each_time(installed: VirtualBooth) -> None:
    booth = installed
    with UsbPrinter(booth) as printer, agent(booth, _BOOTH + _RECEIPTS, _SLOTS):
        expected = [("reopen", "failed"), ("usb-rebind", "failed")]
        until_said(booth, "health/receipt-printer", '"status":"ok"')
        for cure in ("reset", "authorize", "power"):
            printer.mute(cure)
            # What is mute again so soon was not cured by the rung before, which is not tried again.
            expected += [(f"usb-{cure}", "cured")]
            until_heard(booth, "event/heal", f'"remedy":"usb-{cure}","outcome":"cured"', _CLIMBED_S)
            until_said(booth, "health/receipt-printer", '"status":"ok"')
            assert remedies(booth) == expected
        first, *later = (["mute", cure, "cured"] for cure in ("reset", "authorize", "power"))
        assert printer.happened() == ["plugged", "mute", "rebind", *first[1:], *later[0], *later[1]]

        healths = [json.loads(text) for text in heard(booth, "health/receipt-printer")]
        statuses = (health["status"] for health in healths if health["status"] in {"ok", "fault"})
        assert [status for status, _ in groupby(statuses)][-7:] == ["ok", "fault"] * 3 + ["ok"]
        healing = {health["healing"]["remedy"] for health in healths if health["healing"]}
        assert healing >= {"usb-rebind", "usb-reset", "usb-authorize", "usb-power"}
        assert "working" in heard(booth, "led")
        *alarms, last = heard(booth, "alarm/receipt-printer/not-responding")
        assert last == "(null)"
        assert [tried["remedy"] for tried in json.loads(alarms[-1])["tried"]][:4] == [remedy for remedy, _ in expected[:4]]


def test_a_printer_that_is_pulled_out_is_absent_and_well_when_it_is_back(installed: VirtualBooth) -> None:
    booth = installed
    with SerialPrinter() as printer, agent(booth, _BOOTH + _LINE, _SLOTS):
        until_said(booth, "health/receipt-printer", '"status":"absent"')
        for _ in range(2):
            booth.plug("usb-serial", "printer", port="2", talks_to=printer.port)
            until_said(booth, "health/receipt-printer", '"status":"ok"')
            booth.unplug("printer")
            until_said(booth, "health/receipt-printer", '"status":"absent"')
        booth.plug("usb-serial", "printer", port="2", talks_to=printer.port)
        until_said(booth, "health/receipt-printer", '"status":"ok"')
        printer.change(paper="out")
        until_said(booth, "alarm/receipt-printer/media-empty", '"fix_by":"shopkeeper"')
        printer.change(paper="plenty")
        until_said(booth, "health/receipt-printer", '"status":"ok"')
        booth.unplug("printer")
        assert remedies(booth) == []


def test_a_stopped_queue_prints_again_and_an_earlier_citizens_document_is_gone(cups: Paper) -> None:
    booth = cups.booth
    with agent(booth, _BOOTH + _FORMS, _SLOTS):
        until_said(booth, "health/document-printer", '"status":"ok"')
        cups.stop_queue()
        cups.send("an earlier citizen's")
        until_heard(booth, "event/heal", '"outcome":"cured"')
        until_said(booth, "health/document-printer", '"status":"ok"')
        assert remedies(booth) == [("enable-queue", "cured")]
        assert cups.jobs() == ""
        cups.prints("a new one's")
        assert "an earlier" not in cups.printed()


def test_neither_a_pulled_cable_nor_a_lost_broker_does_harm(network: VirtualBooth) -> None:
    booth = network
    process = "systemctl show -P MainPID booth-agent"
    with UsbPrinter(booth), agent(booth, _BOOTH + _RECEIPTS + _NETWORK, _SLOTS):
        until_said(booth, "health/network", '"status":"ok"')
        until_said(booth, "health/receipt-printer", '"status":"ok"')
        before = booth.run(process)

        booth.cable(plugged=False)
        until_said(booth, "health/network", '"code":"no-carrier"')
        booth.cable(plugged=True)
        until_said(booth, "health/network", '"status":"ok"')

        booth.run("systemctl stop broker")
        booth.run("sleep 70", 120)  # longer than the patience of the network's first rung
        start_broker(booth)
        until_said(booth, "state", '"state":"online"')
        until_said(booth, "health/network", '"status":"ok"')
        assert json.loads(said(booth, "health/receipt-printer"))["status"] == "ok"
        assert remedies(booth) == []
        assert booth.run(process) == before
