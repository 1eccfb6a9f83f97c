"""Root's acts through their sockets, in their sandboxes, on a real kernel and real peers: asked for as the agent does."""

from collections.abc import Iterator

import pytest

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.inside import ask, asks, done, write
from tests.virtual_booth.printers import UsbPrinter

_USB = ("usb-rebind", "usb-reset", "usb-authorize", "usb-power")
_SLOTS = """
[usb]
receipt-printer = "usb-1"
line = "usb-2.1"
hub = "usb-2"
stick = "usb-3"
dongle = "usb-4"
empty = "usb-2.3"
[units]
kiosk = "booth-kiosk.service"
[boards]
board = ["sound.service", "failing.service"]
"""
_RUNS = "[Service]\nExecStart=/bin/sleep infinity\n"
_FAILS_ONCE = "[Service]\nExecStart=/bin/sh -c 'test -e /run/cause-is-gone && exec sleep infinity'\n"


@pytest.fixture(scope="module")
def booth_with_slots(installed: VirtualBooth) -> Iterator[VirtualBooth]:
    write(installed, "/etc/booth-agent/slots.toml", _SLOTS)
    yield installed
    installed.run("systemctl stop 'booth-act-*@*.service'")


@pytest.fixture(scope="module")
def hub(booth_with_slots: VirtualBooth) -> Iterator[VirtualBooth]:
    """A hub that switches each port's power, with a serial line; a disk and a network card beside it."""
    booth = booth_with_slots
    booth.plug("usb-hub", "hub", port="2", port_power=True)
    booth.plug("usb-serial", "line", port="2.1")
    booth.plug("usb-storage", "stick", port="3")
    booth.plug("usb-net", "dongle", port="4")
    booth.wait_for(
        "test -e /dev/booth/usb-2.1/tty && ls /sys/bus/usb/devices/?-3/*/host*/*/*/block /sys/bus/usb/devices/?-4/*/net"
    )
    yield booth
    for name in ("dongle", "stick", "line", "hub"):
        booth.unplug(name)
    booth.wait_for("test ! -e /sys/bus/usb/devices/1-2")


def test_each_usb_act_reaches_the_printer_and_is_what_its_name_says(booth_with_slots: VirtualBooth) -> None:
    with UsbPrinter(booth_with_slots) as printer:
        for act in _USB:
            verdict = ask(booth_with_slots, act, "receipt-printer")
            assert done(verdict), verdict
            booth_with_slots.wait_for("test -e /dev/booth/usb-1/lp")
        assert printer.happened() == ["plugged", "rebind", "reset", "authorize", "power"]


def test_a_port_of_a_hub_loses_its_power_and_nothing_else_at_the_hub(hub: VirtualBooth) -> None:
    numbers = "cat /sys/bus/usb/devices/1-2/devnum /sys/bus/usb/devices/1-2.1/devnum"
    hub_before, line_before = hub.run(numbers).split()
    verdict = ask(hub, "usb-power", "line")
    assert done(verdict), verdict
    hub_after, line_after = hub.wait_for(numbers).split()
    assert hub_after == hub_before
    assert line_after != line_before
    hub.wait_for("test -e /dev/booth/usb-2.1/tty")


def test_a_port_keeps_its_power_while_a_disk_is_at_the_same_hub(hub: VirtualBooth) -> None:
    hub.plug("usb-storage", "beside", port="2.2")
    try:
        hub.wait_for("ls /sys/bus/usb/devices/1-2.2/*/host*/*/*/block")
        verdict = ask(hub, "usb-power", "line")
        assert (verdict["code"], "a disk" in verdict["detail"]) == ("refused", True), verdict
    finally:
        hub.unplug("beside")


@pytest.mark.parametrize(("slot", "what"), [("hub", "a hub"), ("stick", "a disk"), ("dongle", "a network interface")])
def test_hubs_disks_and_network_cards_are_refused(hub: VirtualBooth, slot: str, what: str) -> None:
    numbers = hub.run("cat /sys/bus/usb/devices/*/devnum")
    for verdict in asks(hub, *((act, slot) for act in _USB)):
        assert verdict["code"] == "refused", verdict
        assert what in verdict["detail"], verdict
    assert hub.run("cat /sys/bus/usb/devices/*/devnum") == numbers


def test_what_is_not_there_not_listed_or_not_certain_is_left_alone(hub: VirtualBooth) -> None:
    assert ask(hub, "usb-reset", "empty")["code"] == "failed"
    assert ask(hub, "usb-reset", "booth-kiosk")["code"] == "unknown-slot"
    assert ask(hub, "usb-reset", "kiosk")["code"] == "unknown-slot"  # it is in another list
    with UsbPrinter(hub):
        hub.plug("usb-kbd", "twin", port="1")
        hub.wait_for("test -e /sys/bus/usb/devices/1-1")
        verdict = ask(hub, "usb-reset", "receipt-printer")
        hub.unplug("twin")
    assert (verdict["code"], verdict["detail"].partition(":")[0]) == ("refused", "ambiguous")


def test_the_kiosk_and_what_failed_of_the_board_are_started_anew(booth_with_slots: VirtualBooth) -> None:
    booth = booth_with_slots
    units = {"booth-kiosk": _RUNS, "sound": _RUNS, "failing": _FAILS_ONCE}
    for name, text in units.items():
        write(booth, f"/run/systemd/system/{name}.service", text)
    booth.run("systemctl daemon-reload && systemctl start booth-kiosk sound failing")
    try:
        booth.wait_for("systemctl is-failed failing")
        before = booth.run("systemctl show -P MainPID booth-kiosk sound").split()
        assert done(ask(booth, "restart-kiosk", "kiosk"))
        booth.run("touch /run/cause-is-gone")
        assert done(ask(booth, "restart-units", "board"))
        booth.wait_for("systemctl is-active failing")
        after = booth.run("systemctl show -P MainPID booth-kiosk sound").split()
        assert (after[0] != before[0], after[1] != before[1]) == (True, False)  # what runs well goes on
        assert ask(booth, "restart-units", "board")["code"] == "failed"  # nothing has
    finally:
        files = " ".join(f"/run/systemd/system/{name}.service" for name in units)
        booth.run(f"systemctl stop {' '.join(units)}; rm -f /run/cause-is-gone {files}; systemctl daemon-reload")


def test_scans_that_were_left_are_deleted_and_nothing_that_they_point_at(booth_with_slots: VirtualBooth) -> None:
    booth = booth_with_slots
    booth.run("mkdir -p /var/spool/booth-scans/deep && touch /run/precious /var/spool/booth-scans/deep/page.pnm")
    booth.run("ln -s /run/precious /var/spool/booth-scans/link && ln -s /etc /var/spool/booth-scans/folder")
    try:
        assert done(ask(booth, "free-disk", "board"))
        assert booth.run("ls -A /var/spool/booth-scans") == ""
        booth.run("test -e /run/precious && test -e /etc/passwd")
    finally:
        booth.run("rm -rf /var/spool/booth-scans /run/precious")


def test_too_often_is_too_often(booth_with_slots: VirtualBooth) -> None:
    """Four times in an hour, for this one."""
    codes = [ask(booth_with_slots, "free-disk", "board")["code"] for _ in range(5)]
    assert codes[-1] == "rate-limited"
    assert codes.count("done") <= 4
