"""What every source does, whatever it measures."""

import pytest

from agent.contract.typed import build
from agent.peripherals import declared
from tests.fuzz.targets import LOCAL
from tests.peripherals.surroundings import Around, Recorded

OPTIONS = {name: {key: value for key, value in table.items() if key != "kind"} for name, table in LOCAL["peripherals"].items()}


@pytest.mark.parametrize("kind", OPTIONS)
async def test_one_that_is_closed_hears_nothing_more(kind: str) -> None:
    """It is opened anew with each other option: the one of before would speak for a device that is no longer meant."""
    peripheral, around = declared()[kind], Around()
    source = peripheral.open(build(peripheral.options, OPTIONS[kind]), around.view, Recorded())
    heard = around.listeners
    await source.close()
    assert around.listeners == 0
    assert heard == (kind not in ("board", "forms", "kiosk"))
