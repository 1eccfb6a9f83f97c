"""The virtual booth takes a minute to boot: its tests run when they are asked for, by `make test-system`.

All of them share one machine. A test leaves it as it found it; what several need is installed once, by `installed`.
"""

import os
from collections.abc import Iterator

import pytest

from tests.virtual_booth.booth import NEEDS, VirtualBooth
from tests.virtual_booth.healed import RESULTS, table
from tests.virtual_booth.image import CannotBuild, image
from tests.virtual_booth.inside import FILES, SLOW
from tests.virtual_booth.lamps import Lamps, Recorded
from tests.virtual_booth.network import plugged_in
from tests.virtual_booth.paper import Paper
from tests.virtual_booth.policies import LOCKS

if os.environ.get("BOOTH_SYSTEM_TESTS") != "1":
    collect_ignore_glob = ["test_*.py", "*/test_*.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """For docs/performance.md."""
    if RESULTS:
        terminalreporter.write_sep("-", "healed in the virtual booth")
        terminalreporter.write_line(table())


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
def locks_after_installing(booth: VirtualBooth) -> str:
    """What of the policy is on the machine right after `make install`."""
    booth.run(f"{FILES} > /var/lib/files-before")
    booth.run("make -C /repository install WHEELS=/opt/wheels", timeout_s=400)
    return booth.run(LOCKS)


@pytest.fixture(scope="session")
def installed(booth: VirtualBooth, locks_after_installing: str) -> VirtualBooth:
    """The machine, with the agent as `make install` installs it; a test starts it."""
    del locks_after_installing
    booth.run("systemctl --quiet disable booth-agent")
    # What a flood of acts may cost a Raspberry Pi is too little for a single one on an emulated processor.
    booth.run(f"mkdir -p {SLOW} && printf '[Slice]\\nCPUQuota=\\n' > {SLOW}/slow.conf && systemctl daemon-reload")
    return booth


@pytest.fixture(scope="module")
def network(installed: VirtualBooth) -> Iterator[VirtualBooth]:
    """The machine, with a network: `eth0` has an address and a route from its router."""
    with plugged_in(installed):
        yield installed


@pytest.fixture(scope="module")
def cups(installed: VirtualBooth) -> Iterator[Paper]:
    """A print server with the queue `forms`."""
    with Paper(installed) as paper:
        yield paper


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
