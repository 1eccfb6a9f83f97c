"""The broker is away for a day: nothing in the booth is at fault for that, and nothing is done about it.

Where intervals are options they are the longest: each look costs an emulated processor what it costs a booth in twenty.
"""

from collections.abc import Iterator

import pytest

from tests.virtual_booth.booth import PYTHON, VirtualBooth
from tests.virtual_booth.inside import agent, start_broker, until_said, write
from tests.virtual_booth.network import plugged_in

_SETTINGS = """
[booth]
id = "61-0001"
area = "61"
timezone = "Europe/Paris"
[broker]
url = "mqtt://127.0.0.1"
[peripherals.network]
kind = "network"
[peripherals.board]
kind = "board"
interval_s = 3600
units_interval_s = 3600
[peripherals.kiosk]
kind = "kiosk"
unit = "booth-kiosk.service"
heartbeat = "/run/kiosk-heartbeat"
frozen_after_s = 1200
interval_s = 300
[peripherals.receipt-printer]
kind = "receipt-printer"
device = "tcp://127.0.0.1:9100"
check_s = 3600
"""
_SLOTS = """
[interfaces]
network = "eth0"
[units]
kiosk = "booth-kiosk.service"
[boards]
board = []
"""
_KIOSK = "[Service]\nExecStart=/bin/sh -c 'while :; do touch /run/kiosk-heartbeat; sleep 600; done'\n"
_UNIT = "/run/systemd/system/booth-kiosk.service"
_HOUR_WITHIN_S = 300.0  # of ours, as a bound: what it does in an hour is some seconds of work
_KINDS = ("network", "kiosk", "receipt-printer")
_PROCESS = "systemctl show -P MainPID,NRestarts booth-agent"
# What the healer has ever begun is stored before it is done; and what root was asked for is in its journal, with its verdict.
_ATTEMPTS = f"""{PYTHON} -I -c '
import sqlite3
store = sqlite3.connect("file:/var/lib/booth-agent/store.db?mode=ro", uri=True)
print([body for key, body in store.execute("SELECT key, body FROM state") if key == "healing"])'"""
_ASKED = "journalctl -t booth-act -o cat --no-pager --since=@{since} | grep -c : || true"


@pytest.fixture
def served(hurried: VirtualBooth) -> Iterator[VirtualBooth]:
    write(hurried, _UNIT, _KIOSK)
    hurried.run("systemctl daemon-reload && systemctl start booth-kiosk")
    hurried.run(f"systemd-run --quiet --unit desk --property WorkingDirectory=/ {PYTHON} -B -m tests.virtual_booth.guest.desk")
    try:
        with plugged_in(hurried):
            yield hurried
    finally:
        hurried.run(f"systemctl stop desk booth-kiosk; rm {_UNIT}; systemctl daemon-reload")


def test_a_day_without_a_broker_is_no_reason_to_heal_anything(served: VirtualBooth) -> None:
    with agent(served, _SETTINGS, _SLOTS):
        for kind in _KINDS:
            until_said(served, f"health/{kind}", '"status":"ok"')
        before, since = served.run(_PROCESS), served.run("date +%s").strip()
        began_s = int(served.run("systemctl stop broker && cut -d. -f1 /proc/uptime"))
        for hour in range(1, 25):
            served.wait_for(f"test $(cut -d. -f1 /proc/uptime) -ge {began_s + 3600 * hour}", _HOUR_WITHIN_S)
        assert served.run(_ATTEMPTS) == "[]\n"
        assert served.run(_ASKED.format(since=since)) == "0\n"
        assert served.run(_PROCESS) == before, "the agent was started anew"
        start_broker(served)
        until_said(served, "state", '"state":"online"', 120)
        for kind in _KINDS:
            until_said(served, f"health/{kind}", '"status":"ok"')
        assert served.run(_ATTEMPTS) == "[]\n"
        # What would have been seen, had there been something.
        served.run("systemctl stop booth-kiosk")
        served.wait_for(f"test \"$({_ATTEMPTS})\" != '[]' && systemctl is-active booth-kiosk", 120)
        served.wait_for(f"test $({_ASKED.format(since=since)}) -gt 0")
