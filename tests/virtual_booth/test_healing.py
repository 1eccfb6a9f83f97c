"""The agent as it is installed, and root beside it: faults end by themselves, and nothing else is done."""

import json
from collections.abc import Iterator

import pytest

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.healed import Patient, heals
from tests.virtual_booth.inside import agent, remedies, said, start_broker, until_said
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
_NETWORK = """
[peripherals.network]
kind = "network"
"""
_SLOTS = f"""
[usb]
receipt-printer = "{UsbPrinter.port}"
[interfaces]
network = "eth0"
"""
_CLIMBED_S = 240.0  # a minute of patience, on an emulated processor
_PORT = "/sys/bus/usb/devices/1-2/1-2:1.0/1-2-port1/disable"


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


@pytest.fixture
def hub(installed: VirtualBooth) -> Iterator[VirtualBooth]:
    """One that switches each port's power, at port 2."""
    installed.plug("usb-hub", "hub", port="2", port_power=True)
    installed.wait_for(f"test -e {_PORT}")
    yield installed
    installed.unplug("hub")


@heals("receipt-printer", "hangs before it is enumerated")
def test_a_printer_that_hangs_before_it_is_enumerated_has_its_power_cut(hub: VirtualBooth) -> None:
    booth = hub
    slots = _SLOTS.replace(f'"{UsbPrinter.port}"', '"usb-2.1"')
    with SerialPrinter() as printer, agent(booth, _BOOTH + _LINE.replace("usb-2", "usb-2.1"), slots):
        booth.plug("usb-serial", "printer", port="2.1", talks_to=printer.port)
        until_said(booth, "health/receipt-printer", '"status":"ok"')
        patient = Patient(booth, "receipt-printer")
        seen = "systemd-run --quiet --unit seen sh -c 'until grep -qx 1 {}; do sleep 0.1; done; touch /run/dark'"
        patient.breaks(f"rm -f /run/dark; {seen.format(_PORT)}")
        booth.unplug("printer")
        until_said(booth, "health/receipt-printer", '"status":"absent"')
        # It shows itself again once it has had no power.
        booth.wait_for("test -e /run/dark", _CLIMBED_S)
        booth.plug("usb-serial", "printer", port="2.1", talks_to=printer.port)
        patient.healed("hangs before it is enumerated", "usb-power", _CLIMBED_S)
        assert patient.attempts() == [("usb-power", "cured")]
        booth.unplug("printer")


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
