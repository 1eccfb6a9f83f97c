"""The virtual booth itself: a real machine, with what a booth has, that can be told what to do."""

import time

import pytest

from tests.virtual_booth.booth import PYTHON, VirtualBooth
from tests.virtual_booth.channel import BoothFailed


def test_it_boots_within_two_minutes(booth: VirtualBooth) -> None:
    assert booth.booted_in_s < 120
    assert booth.run("systemctl --failed --no-legend --plain") == ""


def test_it_runs_the_repositorys_agent_with_its_libraries(booth: VirtualBooth) -> None:
    libraries = "paho.mqtt.client, serial, systemd.daemon, sane, gpiod"
    assert (
        booth.run(f"cd / && {PYTHON} -B -I -c 'import agent, {libraries}; print(agent.__file__)'")
        == "/repository/agent/__init__.py\n"
    )
    assert booth.run(f"{PYTHON} -B -m agent --version").startswith("booth-agent ")


def test_a_command_that_fails_or_hangs_is_told(booth: VirtualBooth) -> None:
    assert booth.try_run("echo said; exit 3") == (3, "said\n")
    with pytest.raises(BoothFailed, match="status 3"):
        booth.run("exit 3")
    began = time.monotonic()
    assert booth.try_run("echo before; sleep 1000", timeout_s=1) == (None, "before\n")
    assert time.monotonic() - began < 15
    assert booth.run("pgrep -c sleep || true") == "0\n"
    with pytest.raises(BoothFailed, match="not in 1 s"):
        booth.wait_for("false", timeout_s=1)


def test_it_cannot_change_the_repository(booth: VirtualBooth) -> None:
    status, said = booth.try_run("touch /repository/changed; mount -o remount,rw /repository; touch /repository/changed")
    assert status != 0, said


def test_a_serial_printer_is_plugged_in_and_pulled_out(installed: VirtualBooth) -> None:
    installed.plug("usb-serial", "printer")
    installed.wait_for("test -e /dev/ttyUSB0 && udevadm settle")
    assert installed.run("stat -c '%G %a' /dev/ttyUSB0") == "dialout 660\n"
    assert "ID_MM_DEVICE_IGNORE=1" in installed.run("udevadm info /dev/ttyUSB0")
    installed.unplug("printer")
    installed.wait_for("test ! -e /dev/ttyUSB0")
