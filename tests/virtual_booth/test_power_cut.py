"""The power goes and comes back: what was stored is there, and no booth begins the same thing over and over."""

import json

import pytest

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.inside import agent, heard, remedies, until_heard, until_said
from tests.virtual_booth.printers import UsbPrinter

_SETTINGS = f"""
[booth]
id = "61-0001"
area = "61"
timezone = "Europe/Paris"
[broker]
url = "mqtt://127.0.0.1"
[reporting]
alarm_after_s = 1
[peripherals.receipt-printer]
kind = "receipt-printer"
device = "{UsbPrinter.url}"
poll_s = 5
check_s = 5
absent_s = 2
"""
_SLOTS = f"""
[usb]
receipt-printer = "{UsbPrinter.port}"
"""
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
_CLIMBED_S = 240.0  # the rungs that are left, each with its patience, on an emulated processor


@pytest.fixture(scope="module")
def cut(installed: VirtualBooth) -> VirtualBooth:
    """The machine, booted again. Its power was cut while the agent had a mute printer reset."""
    booth = installed
    before = booth.run(_BOOT_ID)
    with UsbPrinter(booth) as printer, agent(booth, _SETTINGS, _SLOTS):
        until_said(booth, "health/receipt-printer", '"status":"ok"')
        printer.mute("never")
        until_heard(booth, "event/heal", '"remedy":"usb-rebind"', _CLIMBED_S)
        assert remedies(booth) == [("reopen", "failed"), ("usb-rebind", "failed")]
        booth.run("echo kept > /var/lib/kept && sync /var/lib/kept && echo gone > /run/gone")
        until_heard(booth, "health/receipt-printer", '"healing":[{]"remedy":"usb-reset"', _CLIMBED_S)
        booth.run("echo lost > /var/lib/lost")
        booth.cut_power()
        booth.boot()
    assert booth.run(_BOOT_ID) != before
    return booth


def test_what_was_synced_outlives_a_power_cut(cut: VirtualBooth) -> None:
    assert cut.run("cat /var/lib/kept") == "kept\n"
    assert cut.try_run("grep -q lost /var/lib/lost")[0] != 0
    assert cut.try_run("test -e /run/gone")[0] != 0
    cut.run("rm -f /var/lib/kept /var/lib/lost")


def test_a_rung_that_was_cut_short_is_not_begun_again_and_the_ladder_ends(cut: VirtualBooth) -> None:
    with UsbPrinter(cut) as printer:
        printer.mute("never")
        with agent(cut, _SETTINGS, _SLOTS, remembers=True):
            until_heard(cut, "event/heal", '"remedy":"usb-power"', _CLIMBED_S)
            # Neither what was interrupted nor what had failed before is done again, and that was the last rung.
            ended = [("usb-reset", "interrupted"), ("usb-authorize", "failed"), ("usb-power", "failed")]
            assert remedies(cut) == ended
            running = cut.run(_BOOT_ID)
            cut.run("sleep 15", 60)  # three times as long as between two rungs
            assert remedies(cut) == ended
            assert printer.happened() == ["plugged", "mute", "authorize", "power"]
            assert cut.run(_BOOT_ID) == running
            alarm = json.loads(heard(cut, "alarm/receipt-printer/not-responding")[-1])
            assert [tried["remedy"] for tried in alarm["tried"]] == ["reopen", "usb-rebind", *(name for name, _ in ended)]
