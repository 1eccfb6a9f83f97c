"""The booth's application and its board: a unit that failed, a disk full of scans."""

from collections.abc import Iterator

import pytest

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.healed import Patient, heals
from tests.virtual_booth.inside import agent, until_said, write

_SETTINGS = """
[booth]
id = "61-0001"
area = "61"
timezone = "Europe/Paris"
[broker]
url = "mqtt://127.0.0.1"
[reporting]
alarm_after_s = 1
[peripherals.kiosk]
kind = "kiosk"
unit = "booth-kiosk.service"
heartbeat = "/run/kiosk-heartbeat"
frozen_after_s = 20
interval_s = 5
[peripherals.board]
kind = "board"
interval_s = 10
units_interval_s = 20
"""
_SLOTS = """
[units]
kiosk = "booth-kiosk.service"
[boards]
board = ["sound.service"]
"""
_BEATS = "while :; do touch /run/kiosk-heartbeat; sleep 5; done"
_UNITS = {
    # Killed, it is not running, and no failed unit of the board's besides.
    "booth-kiosk": f"[Service]\nExecStart=/bin/sh -c '{_BEATS}'\nSuccessExitStatus=SIGKILL\n",
    # It fails while its card is busy, and is not tried again by itself.
    "sound": "[Service]\nExecStart=/bin/sh -c 'test -e /run/card-is-free && exec sleep infinity'\n",
}
_SCANS = "/var/spool/booth-scans"
_FILES = " ".join(f"/run/systemd/system/{name}.service" for name in _UNITS)
_HEALED_S = 400.0  # by our clock: a bound, where others use this machine too


@pytest.fixture(scope="module")
def served(hurried: VirtualBooth) -> Iterator[VirtualBooth]:
    """Its agent runs, and all is well."""
    for name, text in _UNITS.items():
        write(hurried, f"/run/systemd/system/{name}.service", text)
    hurried.run("touch /run/card-is-free && systemctl daemon-reload && systemctl start booth-kiosk sound")
    try:
        with agent(hurried, _SETTINGS, _SLOTS):
            until_said(hurried, "health/kiosk", '"status":"ok"')
            until_said(hurried, "health/board", '"failed_units":""')
            yield hurried
    finally:
        hurried.run(f"systemctl stop booth-kiosk sound; rm -rf /run/card-is-free {_SCANS} {_FILES}; systemctl daemon-reload")


@heals("kiosk", "crashed")
def test_an_application_that_crashed_is_started_anew(served: VirtualBooth) -> None:
    kiosk = Patient(served, "kiosk")
    kiosk.breaks("systemctl kill -s KILL booth-kiosk")
    kiosk.healed("crashed", "restart-kiosk", _HEALED_S)
    assert kiosk.attempts() == [("restart-kiosk", "cured")]


@heals("kiosk", "frozen")
def test_an_application_that_stands_still_is_started_anew(served: VirtualBooth) -> None:
    kiosk, process = Patient(served, "kiosk"), "systemctl show -P MainPID booth-kiosk"
    until_said(served, "health/kiosk", '"status":"ok"')
    already, before = len(kiosk.attempts()), served.run(process)
    kiosk.breaks("systemctl kill -s STOP booth-kiosk")
    served.wait_for(f"test $({process}) != {before.strip()}", _HEALED_S)
    served.wait_for(f"test $(grep -c '/event/heal .*restart-kiosk' /run/heard) -gt {already}", _HEALED_S)
    kiosk.healed("frozen", "restart-kiosk", _HEALED_S)
    assert {outcome for _, outcome in kiosk.attempts()} == {"cured"}


@heals("board", "a unit failed")
def test_a_unit_that_failed_is_started_anew(served: VirtualBooth) -> None:
    board = Patient(served, "board")
    board.breaks("rm /run/card-is-free && systemctl restart sound")
    until_said(served, "health/board", '"failed_units":"sound.service"')
    served.run("touch /run/card-is-free")
    board.healed("a unit failed", "restart-units", _HEALED_S)
    assert served.run("systemctl is-active sound") == "active\n"


@heals("board", "disk nearly full")
def test_a_disk_full_of_scans_has_room_again(served: VirtualBooth) -> None:
    board = Patient(served, "board")
    until_said(served, "health/board", '"findings":\\[\\]')
    before = served.run("df --output=avail / | tail -1")
    most = "$(($(stat -f -c '%a * %S' /) * 97 / 100))"
    board.breaks(f"mkdir -p {_SCANS} && fallocate -l {most} {_SCANS}/page.pnm")
    until_said(served, "health/board", '"code":"storage-low"')
    board.healed("disk nearly full", "free-disk", _HEALED_S)
    assert served.run(f"ls -A {_SCANS}") == ""
    assert int(served.run("df --output=avail / | tail -1")) > int(before) * 0.9
