"""The agent is taken over: what a stranger in its place tries, as its user and in its sandbox, and that nothing is gained."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.inside import ask, done, write
from tests.virtual_booth.paper import Paper
from tests.virtual_booth.printers import UsbPrinter
from tests.virtual_booth.taken_over import taken_over, told

_SLOTS = """
[usb]
receipt-printer = "usb-1"
[boards]
board = []
"""


@pytest.fixture(scope="module")
def rows(cups: Paper) -> Iterator[list[dict[str, Any]]]:
    """Each attempt, its outcome, and whether something was gained; with devices to reach for, a document, and a secret."""
    booth = cups.booth
    write(booth, "/etc/booth-agent/slots.toml", _SLOTS)
    booth.run("touch /etc/booth-agent/operator.key && chmod 600 /etc/booth-agent/operator.key")
    booth.run("systemctl start booth-act-free-disk.socket && modprobe mac80211_hwsim radios=1")
    cups.stop_queue()
    cups.send("a citizen's")
    for driver, port in (("usb-kbd", "2"), ("usb-storage", "3")):
        booth.plug(driver, driver, port=port)
    booth.wait_for("test -e /dev/input/event0 && udevadm settle")
    try:
        with UsbPrinter(booth), taken_over(booth, "acts") as found:
            yield found
    finally:
        booth.run("rm /etc/booth-agent/operator.key")
        for driver in ("usb-storage", "usb-kbd"):
            booth.unplug(driver)
        booth.wait_for("modprobe --remove mac80211_hwsim")


def test_nothing_is_gained(rows: list[dict[str, Any]]) -> None:
    table = told(rows)
    print(table)
    assert len(rows) > 150, table
    assert rows[-1]["attempt"] == "300 MiB of memory", table  # the last of them
    assert [row for row in rows if row["gained"]] == [], table


def test_after_the_flood_root_still_does_what_it_may(rows: list[dict[str, Any]], installed: VirtualBooth) -> None:
    assert rows
    verdict = ask(installed, "usb-reset", "receipt-printer")
    assert done(verdict), verdict
    sockets = "systemctl list-units --all --plain --no-legend 'booth-act-*.socket'"
    states = [line.split()[3] for line in installed.run(sockets).splitlines()]
    assert set(states) == {"listening"}
    assert installed.run("systemctl list-units --state=failed --plain --no-legend 'booth-*'") == ""
