"""The network's ladder, climbed by the running agent with the patience that a booth has: up to half an hour a rung."""

from collections.abc import Iterator

import pytest

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.healed import Patient, heals
from tests.virtual_booth.inside import agent, until_heard, until_said, write
from tests.virtual_booth.network import plugged_in

SETTINGS = """
[booth]
id = "61-0001"
area = "61"
timezone = "Europe/Paris"
[broker]
url = "mqtt://127.0.0.1"
[reporting]
alarm_after_s = 1
[peripherals.network]
kind = "network"
interface = "eth0"
"""
SLOTS = '[interfaces]\nnetwork = "eth0"\n'
# By our clock, a bound where others use this machine too; by the booth's, half an hour may have passed.
_HEALED_S = 400.0
_EIGHT_HOURS_S = 8 * 3600  # longer than what lies between two reboots
# It answers to nothing; the address that it gave still stands.
_BOX_DIES = "; ".join(
    (
        "nft add table arp box && nft 'add chain arp box in { type filter hook input priority 0; policy drop; }'",
        "nft add table ip box && nft 'add chain ip box in { type filter hook input priority 0; }'",
        "nft add rule ip box in iifname eth0 drop && ip neighbour flush dev eth0",
    )
)
_BOX_LIVES = "nft delete table arp box; nft delete table ip box; true"
_NETWORKD = "/run/systemd/system/systemd-networkd.service.d"


@pytest.fixture(scope="module")
def lan(hurried: VirtualBooth) -> Iterator[VirtualBooth]:
    with plugged_in(hurried):
        yield hurried


@pytest.fixture
def network(lan: VirtualBooth) -> Iterator[Patient]:
    """Well, and nothing was tried yet."""
    with agent(lan, SETTINGS, SLOTS):
        until_said(lan, "health/network", '"status":"ok"')
        yield Patient(lan, "network")


@heals("network", "link hangs")
def test_a_link_that_was_left_down_is_bounced(network: Patient) -> None:
    network.breaks("ip link set dev eth0 down")
    network.healed("link hangs", "bounce-link", _HEALED_S)
    assert network.attempts() == [("bounce-link", "cured")]


@heals("network", "manager hangs")
def test_a_manager_that_hangs_is_started_anew(network: Patient) -> None:
    booth = network.booth
    # Its own watchdog would end it sooner; a manager of another make has none.
    booth.run(f"mkdir -p {_NETWORKD}")
    write(booth, f"{_NETWORKD}/hangs.conf", "[Service]\nWatchdogSec=0")
    booth.run("systemctl daemon-reload && systemctl restart systemd-networkd")
    until_said(booth, "health/network", '"status":"ok"')
    try:
        network.breaks("systemctl kill -s STOP systemd-networkd && ip address flush dev eth0")
        network.healed("manager hangs", "restart-network", _HEALED_S)
        *before, last = [remedy for remedy, _ in network.attempts()]
        assert (before, last) == (["renew-address", "bounce-link"], "restart-network")
    finally:
        booth.run(f"systemctl kill -s CONT systemd-networkd || true; rm -r {_NETWORKD}; systemctl daemon-reload")


@heals("network", "driver hangs")
def test_a_card_that_receives_nothing_any_more_is_given_to_its_driver_anew(network: Patient) -> None:
    """What hangs goes away with the interface, and with nothing less."""
    network.breaks(
        "tc qdisc add dev eth0 clsact && tc filter add dev eth0 ingress matchall action drop && ip address flush dev eth0"
    )
    network.healed("driver hangs", "reload-driver", _HEALED_S)
    assert network.attempts() == [
        ("renew-address", "failed"),
        ("bounce-link", "failed"),
        ("restart-network", "failed"),
        ("radio-cycle", "refused"),  # it has none
        ("reload-driver", "cured"),
    ]


@heals("network", "the box is dead")
def test_a_dead_box_is_in_vain_and_costs_one_reboot_in_all(lan: VirtualBooth) -> None:
    booth, boot = lan, "cat /proc/sys/kernel/random/boot_id"
    try:
        with agent(booth, SETTINGS, SLOTS + "[boards]\nboard = []\n"):
            until_said(booth, "health/network", '"status":"ok"')
            network = Patient(booth, "network")
            network.breaks(_BOX_DIES)
            # Its last rung: the machine goes off instead of starting again, and is switched on by us. What was said of the rungs
            # before went with it: by our clock it is seconds from the one to the other.
            booth.wait_until_off(2 * _HEALED_S)
            booth.boot(hurried=True)
        first = booth.run(boot)
        with plugged_in(booth):
            booth.run(_BOX_DIES)
            with agent(booth, SETTINGS, SLOTS, remembers=True):
                until_heard(booth, "event/heal", '"remedy":"reboot","outcome":"rebooted"')
                began_s = int(booth.run("cut -d. -f1 /proc/uptime"))
                booth.wait_for(f"test $(cut -d. -f1 /proc/uptime) -gt {began_s + _EIGHT_HOURS_S}", 2 * _HEALED_S)
                assert booth.run(boot) == first, "it was rebooted again"
                tried = [remedy for remedy, _ in network.attempts()]
                assert tried.count("reboot") == 1
                assert 2 <= tried.count("renew-address") + 1 <= 3, "it goes on, and slowly"
    finally:
        booth.run(_BOX_LIVES)
