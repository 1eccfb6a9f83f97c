"""Two booths that heal themselves, in trouble on several devices at once, with real peers: played once, for several tests.

Nothing is shortened: each trouble outlasts the patience of its ladder (20 s). Both are played at the same time, and last as
long as the longest ladder: that of a printer on USB which nothing cures.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent.simulator.booth import SimulatedBooth
from agent.simulator.scanner import RemoteScanner
from tests.devices.ports import established
from tests.devices.test_usb import plug
from tests.world import Observer

_WELL_S: Final = 60.0  # two whole booths start at once
_CLIMBED_S: Final = 110.0
_LATER_S: Final = 8.0  # more than what lies between two rungs
_RUNGS_OF_ROOT: Final = ("usb-rebind", "usb-reset", "usb-authorize", "usb-power")


@dataclass
class Told:
    """What one booth said and asked root for, from first to last."""

    observer: Observer
    asked: list[tuple[str, str]]
    moments: dict[str, int] = field(default_factory=dict)  # how many messages there were then

    def heals(self, kind: str) -> list[tuple[str, str]]:
        """(remedy, outcome) of every attempt that was told."""
        events = (event for event in self.observer.events() if event["class"] == "heal" and event["peripheral"] == kind)
        return [(event["data"]["remedy"], event["data"]["outcome"]) for event in events]

    def healths(self, kind: str, since: str | None = None, until: str | None = None) -> list[dict[str, Any]]:
        """Every health of a peripheral that was said between two moments."""
        from_, to = self.moments.get(since or "", 0), self.moments.get(until or "")
        messages = self.observer.messages[from_:to]
        return [message.json for message in messages if message.topic.endswith(f"/health/{kind}") and message.payload]

    def codes(self, kind: str, since: str | None = None, until: str | None = None) -> set[str]:
        """Every code that it had in between."""
        return {item["code"] for health in self.healths(kind, since, until) for item in health["findings"]}

    def alarms(self, topic: str) -> list[dict[str, Any]]:
        return [message.json for message in self.observer.of(f"alarm/{topic}") if message.payload]

    def mark(self, moment: str) -> None:
        self.moments[moment] = len(self.observer.messages)


class CheckedBooth(SimulatedBooth):
    """`check_now` uses every device for real, as a check that is due would."""

    def check_now(self) -> None:
        assert self._agent is not None
        self._agent.check_now()


class UsbBooth(CheckedBooth):
    """Its receipt printer is on USB. Root's acts reach it, and cure nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, alarm_after_s=1)
        device = plug(self.machine.files.root, "1-1.2", "04b8", "0202")
        (device / "1-1.2:1.0" / "usbmisc" / "lp0").mkdir(parents=True)
        self._node = self.machine.files.root / "dev/usb/lp0"
        self._node.parent.mkdir(parents=True)
        self.machine.acts.table |= {(act, "receipt-printer"): self._in_vain for act in _RUNGS_OF_ROOT}

    def start_agent(self) -> None:
        self.printer.open_pty(self._node)
        super().start_agent()

    def _tables(self) -> dict[str, dict[str, Any]]:
        tables = super()._tables()
        tables["receipt-printer"] |= {"device": "usb://04b8:0202"}
        return tables

    async def _in_vain(self) -> None:
        """Done, and no better."""


class SanedBooth(CheckedBooth):
    """Its scanner is behind a `saned`, which can be frozen."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, alarm_after_s=1)
        self.remote = RemoteScanner(folder)

    def _tables(self) -> dict[str, dict[str, Any]]:
        tables = super()._tables()
        tables["scanner"] |= {"device": self.remote.device, "config_dir": str(self.remote.folder), "worker_s": 3.0}
        return tables


@contextlib.asynccontextmanager
async def _watched(booth: SimulatedBooth) -> AsyncIterator[Told]:
    """It runs, and is well; at the end it has kept the contract."""
    observer: Observer | None = None
    try:
        await booth.start()
        observer = Observer(booth.broker.port)
        await observer.until(lambda: observer.last("led") == "ok", "a booth where all is well", _WELL_S)
        yield Told(observer, booth.machine.acts.asked)
        assert not observer.problems, observer.problems[:5]
    finally:
        if observer is not None:
            observer.close()
        await booth.stop()


async def _well_again(told: Told, booth: CheckedBooth) -> None:
    """Nothing is found any more, and no alarm tells a shopkeeper so; those that she does not wait for take longer to go."""
    booth.check_now()
    await told.observer.until(lambda: not any(told.observer.codes(kind) for kind in booth.profile), "all well again", _WELL_S)

    def hers() -> list[str]:
        alarms = [seen.json for topic, seen in told.observer.retained.items() if "/alarm/" in topic and seen.payload]
        return [alarm["code"] for alarm in alarms if alarm["fix_by"] == "shopkeeper"]

    await told.observer.until(lambda: not hers(), "her alarms gone", _WELL_S)


async def mute_printer(folder: Path) -> Told:
    """A receipt printer that nothing cures, an empty tray, a scanner in use: for as long as the ladder of the first."""
    booth = UsbBooth(folder)
    async with _watched(booth) as told:
        until = told.observer.until
        told.mark("broken")
        for fault in ("printer-mute", "sheets-out", "scanner-taken"):
            await booth.act(fault)
        await until(lambda: len(told.heals("receipt-printer")) == 1 + len(_RUNGS_OF_ROOT), "the last rung", _CLIMBED_S)
        told.mark("given-up")
        asked = booth.printer.questions
        await asyncio.sleep(_LATER_S)
        assert booth.printer.questions > asked, "nobody looks at it any more"
        told.mark("repaired")
        for fault in ("printer-answers", "sheets-in", "scanner-free"):
            await booth.act(fault)
        await _well_again(told, booth)
    return told


async def slow_printer(folder: Path) -> Told:
    """A cover that stands open and then a byte a second; a scheduler that is killed in the middle of a query, and then a jam; a
    frozen scanner backend; and an application that crashes while the ladders of these are climbed."""
    booth = SanedBooth(folder)
    await booth.remote.start()
    try:
        async with _watched(booth) as told:
            until = told.observer.until
            told.mark("broken")
            await booth.act("cover-open")
            await booth.act("app-crashed")
            booth.remote.freeze()
            booth.check_now()
            booth.cups.freeze()  # the next query is in its hands
            async with asyncio.timeout(20):
                while not established(booth.cups.port):
                    await asyncio.sleep(0.005)
            await booth.cups.kill()
            await booth.cups.start()
            told.mark("scheduler-back")
            await until(lambda: told.heals("scanner"), "the scanner's first rung", _CLIMBED_S)
            told.mark("jam")
            await booth.act("sheet-jammed")
            await booth.act("cover-closed")
            await until(lambda: told.observer.codes("receipt-printer") == [], "the cover closed")
            told.mark("slow")
            await booth.act("printer-slow")
            await until(
                lambda: told.heals("receipt-printer") and told.heals("kiosk") and len(told.heals("scanner")) >= 2,
                "a rung for each",
                _CLIMBED_S,
            )
            told.mark("given-up")
            await asyncio.sleep(_LATER_S)
            told.mark("repaired")
            booth.remote.thaw()
            for fault in ("printer-fast", "sheet-freed"):
                await booth.act(fault)
            await _well_again(told, booth)
    finally:
        await booth.remote.kill()
    return told


async def both(folder: Path) -> tuple[Told, Told]:
    for name in ("mute", "slow"):
        (folder / name).mkdir()
    async with asyncio.TaskGroup() as group:  # where one fails, the other ends, too
        mute = group.create_task(mute_printer(folder / "mute"))
        slow = group.create_task(slow_printer(folder / "slow"))
    return mute.result(), slow.result()
