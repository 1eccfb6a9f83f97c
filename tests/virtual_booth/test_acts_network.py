"""Root's acts on network interfaces: a card with a router at its end, and a radio."""

from collections.abc import Callable, Iterator

import pytest

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.inside import ask, done, write

_SLOTS = '[interfaces]\nnetwork = "eth0"\nradio = "wlan0"\nother = "wlan7"\n'


@pytest.fixture(scope="module")
def lan(network: VirtualBooth) -> VirtualBooth:
    write(network, "/etc/booth-agent/slots.toml", _SLOTS)
    return network


@pytest.fixture
def breaks(lan: VirtualBooth) -> Iterator[Callable[[], int]]:
    """How often its link went down, since the test began."""
    lan.run("systemd-run --quiet --unit links --property StandardOutput=truncate:/run/links ip -o monitor link dev eth0")
    lan.wait_for("pgrep -x ip")
    yield lambda: int(lan.run("grep -c 'state DOWN' /run/links || true"))
    lan.run("systemctl stop links")


@pytest.fixture
def radio(lan: VirtualBooth) -> Iterator[VirtualBooth]:
    lan.run("modprobe mac80211_hwsim radios=1")
    lan.wait_for("test -e /sys/class/net/wlan0 && udevadm settle")
    yield lan
    lan.wait_for("modprobe --remove mac80211_hwsim")


def is_up(booth: VirtualBooth) -> None:
    """Wait until it has its address and its route."""
    booth.wait_for("ip -4 -br address show dev eth0 | grep -F 10.0.2.15/24 && ip route | grep -F 'default via 10.0.2.2'", 40)


def test_the_address_is_asked_for_again_without_a_break(lan: VirtualBooth, breaks: Callable[[], int]) -> None:
    verdict = ask(lan, "renew-address", "network")
    assert done(verdict), verdict
    is_up(lan)
    assert breaks() == 0


def test_the_link_goes_down_and_comes_back_with_its_address(lan: VirtualBooth, breaks: Callable[[], int]) -> None:
    verdict = ask(lan, "bounce-link", "network")
    assert done(verdict), verdict
    is_up(lan)
    assert breaks() >= 1


def test_the_manager_is_started_anew(lan: VirtualBooth) -> None:
    before = lan.run("systemctl show -P MainPID systemd-networkd")
    verdict = ask(lan, "restart-network", "network")
    assert done(verdict), verdict
    is_up(lan)
    assert lan.run("systemctl show -P MainPID systemd-networkd") != before


def test_the_driver_lets_go_of_the_card_and_takes_it_again(lan: VirtualBooth) -> None:
    before = lan.run("cat /sys/class/net/eth0/ifindex")
    verdict = ask(lan, "reload-driver", "network")
    assert done(verdict), verdict
    is_up(lan)
    assert lan.run("cat /sys/class/net/eth0/ifindex") != before


def test_the_radio_goes_off_and_on(radio: VirtualBooth) -> None:
    radio.run(
        "systemd-run --quiet --unit switches --property StandardOutput=truncate:/run/switches"
        " udevadm monitor --kernel --property --subsystem-match=rfkill"
    )
    try:
        radio.wait_for("grep -q KERNEL /run/switches")
        verdict = ask(radio, "radio-cycle", "radio")
        assert done(verdict), verdict
        states = radio.wait_for("grep RFKILL_STATE /run/switches").split()
        assert states[-2:] == ["RFKILL_STATE=0", "RFKILL_STATE=1"]  # linux/rfkill.h: blocked, not blocked
    finally:
        radio.run("systemctl stop switches")


def test_what_has_no_radio_or_is_not_there_is_told(lan: VirtualBooth) -> None:
    assert ask(lan, "radio-cycle", "network")["code"] == "not-supported"
    assert ask(lan, "bounce-link", "other")["code"] == "failed"
    assert ask(lan, "bounce-link", "eth0")["code"] == "unknown-slot"  # a name of the list, not of an interface
