"""The agent is taken over: what a stranger in its place tries, as its user and in its sandbox, and that nothing is gained."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.virtual_booth.booth import PYTHON, VirtualBooth
from tests.virtual_booth.inside import ask, done, write
from tests.virtual_booth.paper import Paper
from tests.virtual_booth.printers import UsbPrinter

_SLOTS = """
[usb]
receipt-printer = "usb-1"
[boards]
board = []
"""
_DROP_IN = "/run/systemd/system/booth-agent.service.d"
# All that the unit gives and takes stays; only the program is another one.
_IN_ITS_PLACE = f"""
[Service]
Type=exec
ExecStart=
ExecStart={PYTHON} -B -m tests.virtual_booth.guest.hijacked
ExecStopPost=
WatchdogSec=0
Restart=no
StandardOutput=truncate:/run/hijacked.rows
"""
_LASTS_S = 300.0


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
    booth.run(f"mkdir -p {_DROP_IN}")
    write(booth, f"{_DROP_IN}/hijacked.conf", _IN_ITS_PLACE)
    try:
        with UsbPrinter(booth):
            booth.run("systemctl daemon-reload && systemctl start booth-agent")
            booth.wait_for("systemctl is-active booth-agent | grep -v ^active", _LASTS_S)
            lines = booth.run("cat /run/hijacked.rows").splitlines()
            yield [json.loads(line) for line in lines]
    finally:
        booth.run(f"systemctl stop booth-agent; rm -r {_DROP_IN} /etc/booth-agent/operator.key; systemctl daemon-reload")
        for driver in ("usb-storage", "usb-kbd"):
            booth.unplug(driver)
        booth.wait_for("modprobe --remove mac80211_hwsim")


def test_nothing_is_gained(rows: list[dict[str, Any]]) -> None:
    table = "\n".join(f"{'GAINED' if row['gained'] else '-':8}{row['attempt']:60}{row['outcome']}" for row in rows)
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
