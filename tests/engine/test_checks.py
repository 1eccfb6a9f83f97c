"""Active checks on a clock that the test moves."""

import asyncio
from datetime import datetime

import pytest

from agent.contract.state import Hours
from agent.engine import checks as checking
from agent.engine.checks import ActiveChecks
from tests.background import meanwhile


class Wall:
    """The booth's clock; counts how often it was looked at."""

    def __init__(self, moment: str) -> None:
        self.now: datetime | None = datetime.fromisoformat(moment)
        self._looks = 0
        self._looked = asyncio.Event()

    def __call__(self) -> datetime | None:
        self._looks += 1
        self._looked.set()
        return self.now

    async def seen(self) -> None:
        """Until a whole look was taken at what it shows now: when the next one begins, that one has done what it does."""
        enough = self._looks + 2
        async with asyncio.timeout(10):
            while self._looks < enough:
                self._looked.clear()
                await self._looked.wait()


class Woken:
    """A watch, as far as the checks know it."""

    def __init__(self) -> None:
        self.active = 0

    def wake(self, *, active: bool = False) -> None:
        self.active += active


async def test_every_peripheral_is_woken_at_opening_time_and_at_the_cadence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_LOOK_EVERY_S", 0.01)
    wall = Wall("2026-12-07T06:59")
    mono_s = [0.0]
    watches = [Woken(), Woken()]
    checks = ActiveChecks(
        lambda: watches,  # type: ignore[arg-type,return-value]
        Hours("Europe/Paris", {"mon": ["07:00-12:30"]}, {}), [], 3600.0, wall, lambda: mono_s[0],
    )  # fmt: skip

    async def later(moment: str | None, seconds: float) -> list[int]:
        wall.now = None if moment is None else datetime.fromisoformat(f"2026-12-07T{moment}")
        mono_s[0] = seconds
        await wall.seen()
        return [watch.active for watch in watches]

    async with meanwhile(checks.run()):
        assert await later("06:59:30", 30) == [0, 0]
        assert await later("07:00:10", 70) == [1, 1]
        assert await later("07:30", 1900) == [1, 1]
        assert await later("08:00:30", 3700) == [2, 2]
        assert await later(None, 3800) == [2, 2]  # a clock below its floor knows no opening time
        assert await later(None, 7400) == [3, 3]  # the cadence needs none
        assert await later("12:31", 95_000) == [3, 3]  # closed
