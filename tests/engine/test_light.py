"""The light's keeper: changes at once, re-armed while the agent lives, a missing lamp does not stop anything."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.contract.words import LightWord
from agent.engine import light as keeping
from agent.engine.light import LightKeeper


class Lamp:
    """Keeps what it was told; `broken` makes it refuse."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.broken = False
        self.rhythm: asyncio.Event | None = None  # what a re-arming waits for
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
        self._news.set()
        if self.broken:
            raise FileNotFoundError(2, "no such LED")
        self.said.append(text)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.said) < count:
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def kept(lamp: Lamp, *, closed: list[bool] | None = None) -> AsyncIterator[LightKeeper]:
    shut = closed or [False]
    keeper = LightKeeper(lamp, 20, lambda: shut[0])
    running = asyncio.create_task(keeper.run())
    try:
        yield keeper
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


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


async def test_a_new_word_does_not_wait_for_the_end_of_a_rhythm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_REARM_S", 0.02)
    lamp = Lamp()
    lamp.rhythm = asyncio.Event()
    async with kept(lamp) as keeper:
        await lamp.until(2)
        assert lamp.said == ["starting 100", "rearming"]
        keeper.show("locate")
        await lamp.until(4)
        assert lamp.said[2:] == ["locate 100", "rearming"]
        lamp.rhythm.set()
        await lamp.until(5)
        assert lamp.said[4] == "rearm"


async def test_a_rearming_that_was_stopped_is_made_good_though_the_word_is_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_REARM_S", 0.02)
    lamp = Lamp()
    lamp.rhythm = asyncio.Event()
    async with kept(lamp) as keeper:
        await lamp.until(2)
        keeper.show("ok")
        keeper.show("starting")
        await lamp.until(3)
        assert lamp.said == ["starting 100", "rearming", "starting 100"]


async def test_the_end_of_the_agent_ends_a_rearming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_REARM_S", 0.02)
    lamp = Lamp()
    lamp.rhythm = asyncio.Event()
    before = asyncio.all_tasks()
    async with kept(lamp):
        await lamp.until(2)
    assert asyncio.all_tasks() == before


async def test_a_rearming_that_fails_is_complained_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(keeping, "_REARM_S", 0.02)
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


async def test_a_lamp_that_is_missing_is_said_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeping, "_REARM_S", 0.02)
    lamp = Lamp()
    lamp.broken = True
    caplog.set_level(logging.INFO)
    async with kept(lamp) as keeper:
        keeper.show("ok")
        await asyncio.sleep(0.2)
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
