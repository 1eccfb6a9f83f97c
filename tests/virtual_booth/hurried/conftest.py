"""What lasts for minutes and hours: the machine is booted once more for these tests, with clocks that jump where nobody works.

They wait for what the booth says, never for a time: a second here is hours there, or none. A device of the kernel's own that
polls (dummy_hcd) holds the clock close to ours.
"""

import json
from collections.abc import Iterator
from typing import Final

import pytest

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.image import REPOSITORY
from tests.virtual_booth.inside import write

_FLOOR: Final = "/usr/lib/booth-agent/floor.json"
_MEASURES: Final = "booth-lockdown-check.timer"


@pytest.fixture(scope="package")
def hurried(installed: VirtualBooth) -> Iterator[VirtualBooth]:
    """The machine with all that is installed on it.

    By its own floor a booth without a policy prints nothing: this one does. Its policy is not measured each quarter of an hour:
    that would be most of what the processor does in a day.
    """
    floor = json.loads((REPOSITORY / "provisioning/floor.json").read_text())
    floor["policy"]["printing"] = {"pages_per_session": 100, "pages_per_day": 1000}
    write(installed, _FLOOR, json.dumps(floor))
    installed.run(f"systemctl --quiet disable {_MEASURES} && sync")
    installed.cut_power()
    installed.boot(hurried=True)
    yield installed
    installed.run(f"cp /repository/provisioning/floor.json {_FLOOR}; systemctl --quiet enable {_MEASURES} && sync")
    installed.cut_power()
    installed.boot()
