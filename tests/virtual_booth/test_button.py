"""The button on a line of a GPIO chip: the kernel's edges, booth-button in its sandbox, the agent in its own, and root."""

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.virtual_booth.booth import SETTINGS, VirtualBooth
from tests.virtual_booth.inside import AS_AGENT, JOURNAL, agent, ask, heard, until_heard

_LINE: Final = "GPIO23"
_SETTINGS: Final = f"""
{SETTINGS}[peripherals.board]
kind = "board"
[button]
line = "{_LINE}"
"""
_SLOTS: Final = """
[boards]
board = []
"""
_CHIP: Final = "/sys/kernel/config/gpio-sim/button"
_STATUS: Final = "{ systemctl status --no-pager booth-button; false; }"
_PRESSED: Final = "journalctl -u booth-agent -o cat --no-pager | grep -c 'the button was pressed'"


@pytest.fixture(scope="module")
def line(installed: VirtualBooth) -> Iterator[str]:
    """The file that pulls it up or down; pulled down, the button is pressed."""
    booth = installed
    booth.run(
        f"modprobe gpio-sim && mkdir -p {_CHIP}/bank0/line0 && echo {_LINE} > {_CHIP}/bank0/line0/name"
        f" && echo 1 > {_CHIP}/bank0/num_lines && echo 1 > {_CHIP}/live && udevadm settle"
    )
    device = booth.run(f"echo /sys/devices/platform/$(cat {_CHIP}/dev_name)/$(cat {_CHIP}/bank0/chip_name)").strip()
    yield f"{device}/sim_gpio0/pull"
    booth.run(f"test ! -e {_CHIP} || {{ echo 0 > {_CHIP}/live; rmdir {_CHIP}/bank0/line0 {_CHIP}/bank0 {_CHIP}; }}")


@pytest.fixture
def button(installed: VirtualBooth, line: str) -> Iterator[Callable[[bool], None]]:
    """Both units run: who presses, and lets go. Root has rebooted nothing yet."""

    def move(down: bool) -> None:
        installed.run(f"echo {'pull-down' if down else 'pull-up'} > {line}")

    installed.run("rm -rf /var/lib/booth-acts")
    with agent(installed, _SETTINGS, _SLOTS):
        installed.run(f"systemctl start booth-button || {_STATUS}")
        installed.wait_for(f"gpioinfo | grep {_LINE} | grep booth-button || {_STATUS}")
        yield move
        installed.run("systemctl stop booth-button || true; rm -rf /var/lib/booth-acts", 60)


def test_a_press_reaches_the_agent_through_both_sandboxes_and_a_bounce_does_not(
    installed: VirtualBooth, button: Callable[[bool], None], line: str
) -> None:
    installed.run(f"for _ in 1 2 3 4 5; do echo pull-down > {line}; echo pull-up > {line}; done; sleep 1")
    button(True)
    installed.run("sleep 0.3")
    button(False)
    assert installed.wait_for(f"{_PRESSED} || {{ {JOURNAL}; false; }}") == "1\n", "there is no ticket, and it says so once"
    assert installed.run("systemctl show -P NRestarts booth-button") == "0\n"


def test_nobody_but_the_agents_user_presses_by_the_socket(installed: VirtualBooth, button: Callable[[bool], None]) -> None:
    del button
    say = 'import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"held", "/run/booth-agent/button.sock")'
    assert installed.run("stat -c '%U %G %a' /run/booth-agent/button.sock") == "booth-agent booth-agent 660\n"
    assert installed.try_run(f"runuser -u nobody -- /usr/bin/python3 -c '{say}'")[0] == 1


def test_held_in_a_session_it_is_refused(installed: VirtualBooth, button: Callable[[bool], None]) -> None:
    installed.run("systemd-run --quiet --unit citizen flock /run/booth-agent/session.lock sleep infinity")
    try:
        button(True)
        until_heard(installed, "event/command", '"code":"reboot".*session-active')
        button(False)
        assert len(heard(installed, "event/command")) == 1
    finally:
        installed.run("systemctl stop citizen")


def test_held_for_eight_seconds_root_starts_the_board_anew(installed: VirtualBooth, button: Callable[[bool], None]) -> None:
    button(True)
    installed.wait_until_off(120)
    installed.boot()
    assert ask(installed, "reboot", "board")["code"] == "rate-limited", "it was root's act, and counts as one"
    assert installed.run(f"{AS_AGENT} test -d /run/booth-agent && echo there") == "there\n"
