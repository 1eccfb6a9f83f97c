"""A virtual booth's network card: systemd-networkd gives it an address and a route from the router at its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.inside import write

# The router's DHCP is cut off from the world, and so names no way there.
_NETWORK: Final = """
[Match]
Name=eth0
[Network]
DHCP=ipv4
LinkLocalAddressing=no
[Route]
Gateway=10.0.2.2
GatewayOnLink=yes
"""


@contextmanager
def plugged_in(booth: VirtualBooth) -> Iterator[None]:
    booth.run("mkdir -p /run/systemd/network")
    write(booth, "/run/systemd/network/booth.network", _NETWORK)
    booth.run("systemctl start systemd-networkd")
    booth.wait_for("ip route | grep -F 'default via 10.0.2.2'", 60)
    try:
        yield
    finally:
        booth.run("systemctl stop systemd-networkd.socket systemd-networkd; rm -f /run/systemd/network/booth.network")
        booth.run("ip address flush dev eth0 && ip link set dev eth0 down")
