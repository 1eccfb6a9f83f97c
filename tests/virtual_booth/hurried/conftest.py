"""What lasts for minutes and hours: the machine is booted once more for these tests, with clocks that jump where nobody works.

They wait for what the booth says, never for a time: a second here is hours there, or none. A device of the kernel's own that
polls (dummy_hcd) holds the clock close to ours.
"""

from collections.abc import Iterator

import pytest

from tests.virtual_booth.booth import VirtualBooth


@pytest.fixture(scope="package")
def hurried(installed: VirtualBooth) -> Iterator[VirtualBooth]:
    """The machine with all that is installed on it."""
    installed.run("sync")
    installed.cut_power()
    installed.boot(hurried=True)
    yield installed
    installed.run("sync")
    installed.cut_power()
    installed.boot()
