"""The virtual booth takes a minute to boot: its tests run when they are asked for, by `make test-system`.

All of them share one machine. A test leaves it as it found it; what several need is installed once, by `installed`.
"""

import os
from collections.abc import Iterator

import pytest

from tests.virtual_booth.booth import NEEDS, VirtualBooth
from tests.virtual_booth.image import CannotBuild, image
from tests.virtual_booth.lamps import Lamps, Recorded

if os.environ.get("BOOTH_SYSTEM_TESTS") != "1":
    collect_ignore_glob = ["test_*.py"]

# What `make install` will do one day: user, udev rules, units, and the programs where the units look for them.
_INSTALL = r"""
set -e
systemd-sysusers /repository/systemd/booth-agent.sysusers
systemd-tmpfiles --create /repository/systemd/booth-agent.tmpfiles
install -m 644 /repository/udev/*.rules /etc/udev/rules.d/
install -m 644 /repository/systemd/*.service /etc/systemd/system/
mkdir -p /opt/booth-agent/bin /etc/booth-agent
for name in agent light; do
    module=agent; [ $name = agent ] || module=agent.booth_$name
    printf '#!/bin/sh\nexec /opt/virtual-booth/bin/python -B -m %s "$@"\n' $module > /opt/booth-agent/bin/booth-$name
    chmod 755 /opt/booth-agent/bin/booth-$name
done
systemctl daemon-reload
udevadm control --reload
"""


@pytest.fixture(scope="session")
def booth() -> Iterator[VirtualBooth]:
    """The machine, booted."""
    missing = [package for package, program in NEEDS.items() if not program.exists()]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    try:
        built = image()
    except CannotBuild as error:
        pytest.skip(str(error))
    with VirtualBooth(built) as running:
        yield running


@pytest.fixture(scope="session")
def installed(booth: VirtualBooth) -> VirtualBooth:
    """The machine, with what the repository gives a booth's system."""
    booth.run(_INSTALL, timeout_s=120)
    return booth


@pytest.fixture(scope="module")
def leds(installed: VirtualBooth) -> Iterator[Lamps]:
    """Red, green and blue, as LEDs of the kernel."""
    recorded = Recorded(installed, "leds", "booth:red:status", "booth:green:status", "booth:blue:status")
    installed.run("modprobe uleds")
    with recorded as lamps:
        installed.wait_for("test -e /sys/class/leds/booth:blue:status/brightness && udevadm settle")
        yield lamps


@pytest.fixture(scope="module")
def lines(installed: VirtualBooth) -> Iterator[Lamps]:
    """Red, green and blue, as GPIO lines of a chip."""
    installed.run("modprobe gpio-sim")
    with Recorded(installed, "lines", "GPIO17", "GPIO27", "GPIO22") as lamps:
        installed.wait_for("test -e /dev/gpiochip0 && udevadm settle")
        yield lamps
