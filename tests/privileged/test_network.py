"""Network acts, with stand-ins for the programs, and kernel files in a folder."""

import errno
import struct
from collections.abc import Callable

import pytest

from agent.privileged import network
from agent.privileged.machine import Machine
from agent.privileged.slots import Slots
from agent.privileged.verdict import Ended
from tests.privileged.booth import Booth, Recorded

Act = Callable[[Machine, Slots, str], None]
SLOTS = Slots(interfaces={"network": "wlan0"})
# "$*" of systemctl, answered as for a machine on which only the units in ACTIVE run.
IS_ACTIVE = """
[ "$1" = is-active ] || exit 0
shift; all=0
for unit; do case " ACTIVE " in *" $unit "*) echo active ;; *) echo inactive; all=3 ;; esac; done
exit $all"""


def managed_by(booth: Booth, *units: str, nmcli: str = "exit 8") -> Recorded:
    booth.network("wlan0")
    booth.program("systemctl", IS_ACTIVE.replace("ACTIVE", " ".join(units)))
    for name in ("networkctl", "dhcpcd", "ip"):
        booth.program(name)
    booth.program("nmcli", nmcli)
    return Recorded(booth.root)


def changes(booth: Booth) -> list[str]:
    """What was asked for that changes something."""
    return [line for line in booth.said if " is-active " not in line and " device show " not in line]


CONNECTED = 'case "$*" in *show*) echo "100 (connected)" ;; esac'
UNMANAGED = 'case "$*" in *show*) echo "10 (unmanaged)" ;; esac'


@pytest.mark.parametrize(
    ("units", "nmcli", "asked"),
    [
        (["NetworkManager.service", "networking.service"], CONNECTED, ["nmcli --wait 10 device reapply wlan0"]),
        (["systemd-networkd.service", "networking.service"], UNMANAGED, ["networkctl --no-pager renew wlan0"]),
        (["dhcpcd.service", "networking.service"], "exit 8", ["dhcpcd --rebind wlan0"]),
    ],
)
def test_the_address_is_renewed_by_whoever_gave_it(booth: Booth, units: list[str], nmcli: str, asked: list[str]) -> None:
    machine = managed_by(booth, *units, nmcli=nmcli)
    network.renew(machine, SLOTS, "network")
    assert changes(booth) == asked


def test_networkmanager_connects_what_was_not_connected(booth: Booth) -> None:
    nmcli = 'case "$*" in *show*) echo "30 (disconnected)" ;; *reapply*) exit 4 ;; esac'
    network.renew(managed_by(booth, nmcli=nmcli), SLOTS, "network")
    assert changes(booth)[1:] == ["nmcli --wait 12 device connect wlan0", "nmcli device set wlan0 autoconnect yes"]


@pytest.mark.parametrize("act", [network.renew, network.bounce])
def test_ifupdown_can_only_be_restarted(booth: Booth, act: Act) -> None:
    with pytest.raises(Ended) as end:
        act(managed_by(booth, "networking.service"), SLOTS, "network")
    assert end.value.code == "not-supported"
    assert changes(booth) == []


def test_the_link_goes_down_and_up(booth: Booth) -> None:
    machine = managed_by(booth, "systemd-networkd.service")
    network.bounce(machine, SLOTS, "network")
    assert changes(booth) == ["ip link set dev wlan0 down", "ip link set dev wlan0 up"]
    assert machine.done == [1.0]


def test_the_link_comes_up_though_going_down_failed(booth: Booth) -> None:
    machine = managed_by(booth)
    booth.program("ip", 'case "$*" in *down*) echo "RTNETLINK answers: Busy" >&2; exit 2 ;; esac')
    with pytest.raises(Ended) as end:
        network.bounce(machine, SLOTS, "network")
    assert (end.value.code, end.value.detail) == ("failed", "ip: RTNETLINK answers: Busy")
    assert changes(booth)[-1] == "ip link set dev wlan0 up"


def test_networkmanager_is_never_left_disconnected(booth: Booth) -> None:
    """It would wait for a person then."""
    nmcli = 'case "$*" in *show*) echo "100 (connected)" ;; *" connect "*) exit 10 ;; esac'
    with pytest.raises(Ended):
        network.bounce(managed_by(booth, nmcli=nmcli), SLOTS, "network")
    assert changes(booth) == [
        "nmcli --wait 10 device disconnect wlan0",
        "nmcli --wait 12 device connect wlan0",
        "nmcli device set wlan0 autoconnect yes",
    ]


@pytest.mark.parametrize(
    ("running", "restarted"),
    [
        (["NetworkManager.service", "networking.service"], ["NetworkManager.service"]),
        (["systemd-networkd.service"], ["systemd-networkd.service"]),
        (["networking.service"], ["networking.service"]),
    ],
)
def test_the_manager_that_runs_is_restarted(booth: Booth, running: list[str], restarted: list[str]) -> None:
    network.restart(managed_by(booth, *running), SLOTS, "network")
    assert changes(booth) == [f"systemctl --no-ask-password restart {unit}" for unit in restarted]


def test_without_a_manager_none_is_restarted(booth: Booth) -> None:
    with pytest.raises(Ended) as end:
        network.restart(managed_by(booth), SLOTS, "network")
    assert end.value.code == "not-supported"


def test_the_radio_goes_off_and_on(booth: Booth) -> None:
    booth.network("wlan0", radio=3)
    machine = Recorded(booth.root)
    network.cycle_radio(machine, SLOTS, "network")
    off, on = (struct.pack("=IBBBB", 3, 0, 2, soft, 0) for soft in (1, 0))
    assert machine.done == [("dev/rfkill", off), 2.0, ("dev/rfkill", on)]


def test_the_driver_is_taken_and_given_back(booth: Booth) -> None:
    booth.network("wlan0", driver="brcmfmac")
    machine = Recorded(booth.root)
    network.reload_driver(machine, SLOTS, "network")
    folder = "sys/bus/sdio/drivers/brcmfmac"
    assert machine.done == [(f"{folder}/unbind", "mmc1:0001:1"), 1.0, (f"{folder}/bind", "mmc1:0001:1")]


def test_the_driver_is_given_back_though_it_was_not_taken(booth: Booth) -> None:
    booth.network("wlan0", driver="brcmfmac")

    def kernel(name: str, _: str | bytes) -> None:
        if name.endswith("unbind"):
            raise OSError(errno.EPERM, "Operation not permitted")

    machine = Recorded(booth.root, kernel)
    with pytest.raises(OSError, match="not permitted"):
        network.reload_driver(machine, SLOTS, "network")
    assert machine.done[-1] == ("sys/bus/sdio/drivers/brcmfmac/bind", "mmc1:0001:1")


@pytest.mark.parametrize("act", [network.cycle_radio, network.reload_driver])
def test_a_cable_has_no_radio_and_a_virtual_interface_no_driver(booth: Booth, act: Act) -> None:
    booth.network("wlan0")
    machine = Recorded(booth.root)
    with pytest.raises(Ended) as end:
        act(machine, SLOTS, "network")
    assert end.value.code == "not-supported"
    assert machine.done == []


@pytest.mark.parametrize("act", [network.renew, network.bounce, network.restart, network.cycle_radio, network.reload_driver])
def test_an_interface_that_is_not_there(booth: Booth, act: Act) -> None:
    with pytest.raises(Ended) as end:
        act(Recorded(booth.root), SLOTS, "network")
    assert (end.value.code, end.value.detail) == ("failed", "there is no interface wlan0")
