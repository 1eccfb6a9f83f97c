"""The light's keeper: changes at once, re-armed while the agent lives, a missing lamp does not stop anything."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from agent.contract.words import LightWord
from agent.engine import light as keeping
from agent.engine.light import LightKeeper
from tests.background import meanwhile


class Lamp:
    """Keeps what it was told; `broken` makes it refuse. `tries` counts all of it."""

    def __init__(self, rhythm: asyncio.Event | None = None) -> None:
        self.said: list[str] = []
        self.tries = 0
        self.broken = False
        self.rhythm = rhythm  # what a re-arming waits for
        self._news = asyncio.Event()

    async def show(self, word: LightWord, dim_pct: int) -> None:
        self._take(f"{word} {dim_pct}")

    async def rearm(self) -> None:
        if self.rhythm is not None:
            self._take("rearming")
            await self.rhythm.wait()
        self._take("rearm")

    async def leave_starting(self) -> None:
        self._take("leave starting")

    def _take(self, text: str) -> None:
        self.tries += 1
        self._news.set()
        if self.broken:
            raise FileNotFoundError(2, "no such LED")
        self.said.append(text)

    async def until(self, count: int) -> None:
        await self._until(lambda: len(self.said) >= count)

    async def until_tried(self, times: int) -> None:
        await self._until(lambda: self.tries >= times)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def kept(lamp: Lamp, *, closed: list[bool] | None = None) -> AsyncIterator[LightKeeper]:
    shut = closed or [False]
    keeper = LightKeeper(lamp, 20, lambda: shut[0])
    async with meanwhile(keeper.run()):
        yield keeper


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Re-armed after a moment, and tried again."""
    monkeypatch.setattr(keeping, "_REARM_S", 0.02)


@asynccontextmanager
async def kept_until_rearming() -> AsyncIterator[tuple[LightKeeper, Lamp, asyncio.Event]]:
    """A re-arming waits for the end of a rhythm, which comes when the event is set."""
    rhythm = asyncio.Event()
    lamp = Lamp(rhythm)
    async with kept(lamp) as keeper:
        await lamp.until(2)
        yield keeper, lamp, rhythm


async def test_it_begins_with_starting_and_follows_each_word() -> None:
    lamp = Lamp()
    async with kept(lamp) as keeper:
        await lamp.until(1)
        keeper.show("ok")
        await lamp.until(2)
        keeper.show("ok")  # nothing new
        keeper.show("your-turn")
        await lamp.until(3)
    assert lamp.said == ["starting 100", "ok 100", "your-turn 100"]


async def test_it_is_rearmed_while_the_loop_lives_and_dimmed_when_the_shop_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_REARM_S", 0.05)
    lamp = Lamp()
    closed = [False]
    async with kept(lamp, closed=closed):
        await lamp.until(3)
        assert lamp.said[:3] == ["starting 100", "rearm", "rearm"]
        closed[0] = True
        count = len(lamp.said)
        await lamp.until(count + 2)
    assert "starting 20" in lamp.said[count:]


@pytest.mark.usefixtures("often")
async def test_a_new_word_does_not_wait_for_the_end_of_a_rhythm() -> None:
    async with kept_until_rearming() as (keeper, lamp, rhythm):
        assert lamp.said == ["starting 100", "rearming"]
        keeper.show("locate")
        await lamp.until(4)
        assert lamp.said[2:] == ["locate 100", "rearming"]
        rhythm.set()
        await lamp.until(5)
        assert lamp.said[4] == "rearm"


@pytest.mark.usefixtures("often")
async def test_a_rearming_that_was_stopped_is_made_good_though_the_word_is_the_old_one() -> None:
    async with kept_until_rearming() as (keeper, lamp, _):
        keeper.show("ok")
        keeper.show("starting")
        await lamp.until(3)
        assert lamp.said == ["starting 100", "rearming", "starting 100"]


@pytest.mark.usefixtures("often")
async def test_the_end_of_the_agent_ends_a_rearming() -> None:
    before = asyncio.all_tasks()
    async with kept_until_rearming():
        pass
    assert asyncio.all_tasks() == before


@pytest.mark.usefixtures("often")
async def test_a_rearming_that_fails_is_complained_of(caplog: pytest.LogCaptureFixture) -> None:
    lamp = Lamp()
    async with kept(lamp):
        await lamp.until(2)
        assert lamp.said[:2] == ["starting 100", "rearm"]
        lamp.broken = True
        async with asyncio.timeout(10):
            while not caplog.records:
                await asyncio.sleep(0.005)
        lamp.broken = False
        count = len(lamp.said)
        await lamp.until(count + 1)
    assert lamp.said[count] == "starting 100"  # all of it


@pytest.mark.usefixtures("often")
async def test_a_lamp_that_is_missing_is_said_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    lamp = Lamp()
    lamp.broken = True
    caplog.set_level(logging.INFO)
    async with kept(lamp) as keeper:
        keeper.show("ok")
        await lamp.until_tried(10)
        lamp.broken = False
        await lamp.until(1)
    assert lamp.said[0] == "ok 100"  # all of it, not only a re-arming
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


async def test_what_it_leaves_behind_is_starting() -> None:
    lamp = Lamp()
    keeper = LightKeeper(lamp, 20, lambda: False)
    await keeper.close()
    lamp.broken = True
    await keeper.close()  # an end without a lamp is an end all the same
    assert lamp.said == ["leave starting"]
