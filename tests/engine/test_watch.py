"""One peripheral under watch: when it is used for real, when it is left alone, and a device that does not stop talking."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agent.contract.alarm import Text
from agent.contract.health import FactValue
from agent.engine import watch as watching
from agent.engine.watch import Watch
from agent.peripherals.declaration import Peripheral, Signals
from agent.rules.declaration import Fact, FindingKind, Observed, Reading
from agent.rules.health import Change, Now
from tests.background import meanwhile


@dataclass
class Device:
    """A source whose answers the test sets. `asked` keeps how it was probed."""

    answer: Reading | None = field(default_factory=lambda: Reading({"broken": False}))
    every_s: float = 3600.0
    asked: list[bool] = field(default_factory=list)
    signals: Signals | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    during: Callable[[], None] = lambda: None

    def open(self, _options: Any, _surroundings: Any, signals: Signals) -> "Device":
        self.signals = signals
        return self

    async def probe(self, *, active: bool) -> Reading | None:
        self.asked.append(active)
        self.news.set()
        self.during()
        return self.answer

    def interval_s(self) -> float:
        return self.every_s

    async def close(self) -> None:
        return

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(10):
            while len(self.asked) < times:
                self.news.clear()
                await self.news.wait()


def find(facts: Mapping[str, FactValue], _options: Any) -> list[Observed]:
    return [Observed("broken")] if facts["broken"] else []


@asynccontextmanager
async def watched(device: Device, changes: list[Change] | None = None) -> AsyncIterator[Watch]:
    declaration = Peripheral(
        "toy", Text("le jouet", "the toy"), object, (Fact("broken", "boolean", "it is broken"),),
        (FindingKind("broken", "fault", "nobody", Text("Cassé.", "Broken.")),), find, device.open, deadline_s=1.0,
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    taken = changes if changes is not None else []
    watch = Watch("toy", declaration, None, lambda: Now(loop.time(), f"{loop.time():.3f}"), lambda _, new: taken.extend(new))
    async with meanwhile(watch.run(lambda signals: device.open(None, None, signals))):
        yield watch


async def test_the_first_look_is_a_real_one_and_later_ones_only_look() -> None:
    device = Device(every_s=0.1)
    async with watched(device) as watch:
        await device.until_asked(3)
        assert device.asked[:3] == [True, False, False]
        assert watch.judgement.status == "ok"


async def test_an_active_check_is_asked_for_once() -> None:
    device = Device()
    async with watched(device) as watch:
        await watch.settled.wait()
        watch.wake(active=True)
        watch.wake()
        await device.until_asked(2)
        watch.wake()
        await device.until_asked(3)
    assert device.asked == [True, True, False]


async def test_a_check_that_a_session_put_off_stays_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_OWED_AGAIN_S", 0.2)
    device = Device(answer=None)
    async with watched(device) as watch:
        await device.until_asked(3)
        assert watch.settled.is_set()  # the booth does not wait for it to go online
        assert not watch.judged_once.is_set()
        assert watch.judgement.status == "unknown"
        device.answer = Reading({"broken": False})
        await watch.judged_once.wait()
        count = len(device.asked)
        watch.wake()
        await device.until_asked(count + 1)
        assert device.asked == [True] * count + [False]


async def test_what_is_left_alone_keeps_its_judgement_and_the_time_of_its_check() -> None:
    device = Device()
    async with watched(device) as watch:
        await watch.settled.wait()
        before = watch.judgement
        device.answer = None
        for times in (2, 3):  # when the third question comes, all was done with the answer to the second
            watch.wake()
            await device.until_asked(times)
        assert watch.judgement is before


async def test_an_active_check_overtaken_by_what_the_device_says_is_done_again() -> None:
    device = Device()
    async with watched(device) as watch:
        await watch.settled.wait()
        speaks = iter([True])
        device.during = lambda: watch.report(Reading({"broken": True})) if next(speaks, False) else None
        watch.wake(active=True)
        await device.until_asked(3)
        assert device.asked == [True, True, True]


async def test_a_device_that_does_not_stop_talking_is_heard_at_a_bounded_rate_and_its_last_word_counts() -> None:
    device = Device()
    changes: list[Change] = []
    async with watched(device, changes) as watch:
        await watch.settled.wait()
        for broken in [True, False] * 500 + [True]:
            watch.report(Reading({"broken": broken}))
        assert len(changes) == watching._PUSHES_A_SECOND
        async with asyncio.timeout(5):
            while watch.judgement.status != "fault":
                await asyncio.sleep(0.01)
        assert len(changes) == watching._PUSHES_A_SECOND + 1
        # A device that was quiet for the second by which they are counted is heard at once again. Their timer was set
        # before this one, in the same loop: it is over first, however slow the machine.
        await asyncio.sleep(1.1)
        watch.report(Reading({"broken": False}))
        assert str(watch.judgement.status) == "ok"


# --- held, while a remedy works on the device ---


async def test_while_it_is_held_nobody_else_asks_and_what_the_device_says_is_not_listened_to() -> None:
    device, changes = Device(every_s=0.05), list[Change]()
    async with watched(device, changes) as watch:
        await watch.settled.wait()
        async with watch.held(5.0):
            count = len(device.asked)
            assert device.signals is not None
            device.signals.report(Reading({"broken": True}))
            watch.wake()
            await asyncio.sleep(0.3)  # several intervals
            assert len(device.asked) == count
            assert watch.on_time()
            device.answer = Reading({"broken": True})
            assert await watch.look() == frozenset({"broken"})
            assert device.asked[count:] == [True]
            device.answer = Reading({"broken": False})
            assert await watch.look() == frozenset()
        assert [change.what for change in changes] == ["raised", "cleared"]
        await device.until_asked(count + 3)  # what was said meanwhile is asked for at once


async def test_a_probe_that_is_under_way_ends_before_the_device_is_held() -> None:
    device = Device()
    async with watched(device) as watch:
        await watch.settled.wait()
        began, ended = asyncio.Event(), asyncio.Event()

        async def slow(*, active: bool) -> Reading:
            del active
            began.set()
            await asyncio.sleep(0.2)
            ended.set()
            return Reading({"broken": False})

        device.probe = slow  # type: ignore[method-assign]
        watch.wake()
        await asyncio.wait_for(began.wait(), 10)
        async with watch.held(1.0):
            assert ended.is_set()


async def test_a_look_that_tells_nothing_is_none() -> None:
    device = Device()
    async with watched(device) as watch:
        await watch.settled.wait()
        before = watch.judgement
        async with watch.held(1.0):
            device.answer = None
            assert await watch.look() is None
            device.answer = replace(Reading({"broken": True}), untried=True)
            assert await watch.look() is None
        assert watch.judgement is before


async def test_a_look_that_nobody_waits_for_any_more_leaves_the_interval_as_it_was() -> None:
    """Else the watchdog would starve until the next round: a scanner's is hours away."""
    device = Device(every_s=3600.0)
    async with watched(device) as watch:
        await device.until_asked(1)
        expected_by_s = watch._expected_by_s
        assert expected_by_s > asyncio.get_running_loop().time() + 3000
        begun = asyncio.Event()

        async def hangs(*, active: bool) -> Reading | None:
            del active
            begun.set()
            await asyncio.Event().wait()
            return None

        device.probe = hangs  # type: ignore[method-assign]
        looking = asyncio.create_task(watch.fresh(active=True))
        await begun.wait()
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        assert watch._expected_by_s >= expected_by_s
        assert watch.on_time()
