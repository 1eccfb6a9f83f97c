"""The board as a whole: root reboots it once in six hours, and its own watchdog resets it where nobody can."""

import time
from contextlib import suppress

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.channel import BoothFailed
from tests.virtual_booth.inside import ask, done, write

_SLOTS = """
[boards]
board = []
"""


def test_a_second_reboot_is_refused_after_the_first(installed: VirtualBooth) -> None:
    write(installed, "/etc/booth-agent/slots.toml", _SLOTS)
    assert ask(installed, "reboot", "other")["code"] == "unknown-slot"
    with suppress(BoothFailed):  # it may be off before it can say so
        assert done(ask(installed, "reboot", "board"))
    installed.wait_until_off(90)
    installed.boot()
    assert ask(installed, "reboot", "board")["code"] == "rate-limited"
    assert installed.run("systemctl is-system-running --wait || true", 120) == "running\n"


def test_systemd_has_the_boards_watchdog(installed: VirtualBooth) -> None:
    installed.wait_for("grep -x active /sys/class/watchdog/watchdog0/state")
    assert int(installed.run("cat /sys/class/watchdog/watchdog0/timeout")) <= 15
    installed.run("ls -l /proc/1/fd | grep '/dev/watchdog'")


def test_a_board_whose_kernel_stands_still_is_reset_within_seconds(installed: VirtualBooth) -> None:
    installed.run("sysctl -q -w kernel.panic=0 && { sleep 1 && echo c > /proc/sysrq-trigger; } > /dev/null 2>&1 &")
    began = time.monotonic()
    installed.wait_until_off(60)
    assert time.monotonic() - began > 5  # it stood still first
    installed.boot()
