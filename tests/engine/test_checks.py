"""Active checks on a clock that the test moves."""

import asyncio
from datetime import datetime

import pytest

from agent.contract.state import Hours
from agent.engine import checks as checking
from agent.engine.checks import ActiveChecks


class Woken:
    """A watch, as far as the checks know it."""

    def __init__(self) -> None:
        self.active = 0

    def wake(self, *, active: bool = False) -> None:
        self.active += active


async def test_every_peripheral_is_woken_at_opening_time_and_at_the_cadence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_LOOK_EVERY_S", 0.01)
    local: list[datetime | None] = [datetime.fromisoformat("2026-12-07T06:59")]
    mono_s = [0.0]
    watches = [Woken(), Woken()]
    checks = ActiveChecks(
        lambda: watches,  # type: ignore[arg-type,return-value]
        Hours("Europe/Paris", {"mon": ["07:00-12:30"]}, {}), [], 3600.0, lambda: local[0], lambda: mono_s[0],
    )  # fmt: skip

    async def later(moment: str | None, seconds: float) -> list[int]:
        local[0] = None if moment is None else datetime.fromisoformat(f"2026-12-07T{moment}")
        mono_s[0] = seconds
        await asyncio.sleep(0.1)
        return [watch.active for watch in watches]

    running = asyncio.create_task(checks.run())
    try:
        assert await later("06:59:30", 30) == [0, 0]
        assert await later("07:00:10", 70) == [1, 1]
        assert await later("07:30", 1900) == [1, 1]
        assert await later("08:00:30", 3700) == [2, 2]
        assert await later(None, 90_000) == [2, 2]  # a clock below its floor knows no opening time
        assert await later("12:31", 95_000) == [2, 2]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
