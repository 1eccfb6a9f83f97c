"""A booth's watches and healer on a virtual clock, with devices that are modelled: what is wrong, and which remedy cures it.

Declarations, rules and engine are the real ones; only the measuring and root's side are played.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from agent.contract.health import FactValue
from agent.engine.heal import Healer
from agent.engine.ward import Ward
from agent.engine.watch import Watch
from agent.peripherals import declared
from agent.peripherals.declaration import Signals
from agent.rules.declaration import Identity, Reading, Unreadable, UnreadableCode
from agent.rules.health import Change, Now
from agent.rules.ladder import Limits
from agent.settings_tables import HealTable
from agent.system.clock import rfc3339

EPOCH_S: Final = 1_790_000_000.0

# What is measured of a device that works.
WELL: Final[Mapping[str, Mapping[str, FactValue]]] = {
    "receipt-printer": {"online": True, "cover_open": False, "paper": "adequate", "error": None, "feeding": False},
    "document-printer": {"scheduler": True, "queue": True, "present": True, "state": "idle", "accepting": True, "queued_jobs": 0},
    "scanner": {"present": True, "opened": True, "status": "ok"},
    "camera": {
        "present": True, "busy": False, "frames": 25, "luma_mean": 90.0, "luma_deviation": 40.0, "distinct_frames": 10,
        "bad_films": 0,
    },
    "kiosk": {"running": True, "restarting": False, "heartbeat_age_s": 1.0},
    "network": {
        "interface": "wlan0", "carrier": True, "address": "192.0.2.20", "gateway": "192.0.2.1", "gateway_reachable": True,
        "dns": "ok", "check": "ok", "broker": "connected",
    },
    "board": {"under_voltage": False, "throttled": False, "storage_free_pct": 60.0, "clock_synced": True},
}  # fmt: skip
SLOTS: Final = {"receipt-printer": "usb-1.2", "document-printer": "usb-1.3", "scanner": "usb-1.4", "camera": "usb-1.1"}


@dataclass(frozen=True)
class Fault:
    """`facts` over those of a device that works, or what makes it `unreadable`. `cured_by`: any of these remedies helps.
    `lasts_s`: it goes by itself after so long."""

    kind: str
    name: str
    facts: Mapping[str, FactValue] = field(default_factory=dict)
    unreadable: UnreadableCode | None = None
    cured_by: frozenset[str] = frozenset()
    chores: frozenset[str] = frozenset()
    lasts_s: float | None = None


class Device:
    """A source whose device can have a fault."""

    def __init__(self, kind: str, clinic: "Clinic") -> None:
        self.kind = kind
        self.clinic = clinic
        self.leaves_alone = False  # nothing can be known of it now: a camera when the shop is closed
        self.fault: Fault | None = None
        self.done: list[str] = []  # remedies
        self.signals: Signals | None = None
        self._fault_until_s = 0.0

    def has(self, fault: Fault | None) -> None:
        self.fault = fault
        if fault is not None and fault.lasts_s is not None:
            self._fault_until_s = asyncio.get_running_loop().time() + fault.lasts_s
        assert self.signals is not None
        self.signals.wake()

    def remedy(self, name: str) -> None:
        self.done.append(name)
        self.clinic.citizen.disturbed += self.clinic.citizen.there
        if self.fault is not None and name in self.fault.cured_by:
            self.fault = None

    async def ask_anew(self) -> None:
        """A queue's: the next probe asks its device again, as each of them does here."""

    async def probe(self, *, active: bool) -> Reading | None:
        if self.leaves_alone and active:
            return None
        fault, identity = self.fault, Identity(SLOTS.get(self.kind))
        if fault is not None and fault.lasts_s is not None and asyncio.get_running_loop().time() >= self._fault_until_s:
            fault = self.fault = None
        if fault is not None and fault.unreadable is not None:
            return Reading(identity=identity, unreadable=Unreadable(fault.unreadable))
        facts, chores = (fault.facts, fault.chores) if fault else ({}, frozenset[str]())
        return Reading({**WELL[self.kind], **facts}, identity, chores=chores)

    def interval_s(self) -> float:
        return 10.0

    async def close(self) -> None:
        """Nothing is open."""

    # --- what remedies call by name ---

    def reopen(self) -> None:
        self.remedy("reopen")

    async def recover(self) -> None:
        self.remedy("recover")

    def purged(self) -> None:
        """What root did to the queue is told to nobody but the source."""

    async def end_holders(self) -> None:
        self.remedy("end-holders")


class Citizen:
    """The session lock, and who wants it. `disturbed` counts what was done while she was there. `wants`: she takes it as soon as
    the agent leaves it free, and `waited_s` says how long that took her."""

    openable = True
    ours = False

    def __init__(self) -> None:
        self.there = False
        self.disturbed = 0
        self.waited_s: float | None = None
        self._holds = 0

    def held(self) -> bool:
        return self.there

    @contextmanager
    def taken(self) -> Iterator[bool]:
        if self.there:
            yield False
            return
        self._holds += 1
        try:
            yield True
        finally:
            self._holds -= 1

    async def wants(self) -> None:
        """As `booth-session` does it."""
        began_s = asyncio.get_running_loop().time()
        while self._holds:
            await asyncio.sleep(0.1)
        self.there = True
        self.waited_s = asyncio.get_running_loop().time() - began_s


class Root:
    """Root's acts on the modelled devices. `refuses` names acts that are refused; `never` those that never answer."""

    def __init__(self, clinic: "Clinic") -> None:
        self._clinic = clinic
        self.asked: list[tuple[str, str]] = []
        self.refuses: set[str] = set()
        self.never: set[str] = set()

    async def act(self, name: str, slot: str) -> str:
        self.asked.append((name, slot))
        if name in self.never:
            await asyncio.Event().wait()
        if name in self.refuses:
            return "refused"
        self._clinic.devices[slot].remedy(name)
        return "done"


@dataclass
class Notebook:
    """The store: what is kept, and what was said. `works` false: nothing reaches the disk."""

    kept: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    works: bool = True

    def event(self, class_: str, code: str, peripheral: str | None, data: dict[str, Any]) -> None:
        self.events.append({"class": class_, "code": code, "peripheral": peripheral, **data})

    def save(self, key: str, value: Any) -> None:
        if self.works:
            self.kept[key] = value

    async def flushed(self, _deadline_s: float) -> bool:
        return self.works


class Clinic:
    """`async with clinic.open()`, then break devices. The same `notebook` in a second clinic is a booth that started again."""

    def __init__(
        self, *kinds: str, notebook: Notebook | None = None, heal: HealTable | None = None, began_s: float = 0.0
    ) -> None:
        self.citizen = Citizen()
        self.devices = {kind: Device(kind, self) for kind in kinds or WELL}
        self.root = Root(self)
        self.notebook = notebook or Notebook()
        self.changes: list[tuple[str, Change]] = []
        self.worked: list[str] = []  # remedies, as `healing` told them while they ran
        self.watches: dict[str, Watch] = {}
        self._heal = heal or HealTable()
        self._began_s = began_s
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Clinic"]:
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        kinds = declared()

        def wall_s() -> float:
            return EPOCH_S + self._began_s + loop.time() - start_s

        def now() -> Now:
            return Now(loop.time(), rfc3339(wall_s()))

        limits = Limits(self._heal.per_day, self._heal.retry_s)
        ward = Ward(now, wall_s, rfc3339, limits, lambda cases: self.notebook.save("healing", cases), heals=self._heal.enabled)
        self.healer = Healer(ward, self.citizen, self.root, self.notebook, now, self._told)
        for name in self.devices:
            self.watches[name] = Watch(name, kinds[name], _options(name), now, self._judged, lambda slot: f"what is at {slot}")
        self.healer.remember(self.notebook.kept, self.watches)
        self._tasks = [asyncio.create_task(watch.run(self._opened(name))) for name, watch in self.watches.items()]
        self._tasks.append(asyncio.create_task(self.healer.run()))
        try:
            await asyncio.sleep(1.0)
            yield self
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def power_cut(self) -> None:
        """Whatever goes on ends here and now; what was kept is kept."""
        for task in self._tasks:
            task.cancel()

    async def until_well(self, name: str, patience_s: float) -> float | None:
        """Seconds until nothing is wrong with a peripheral; None where that takes longer."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self.devices[name].fault is not None or self.watches[name].judgement.status != "ok":
                    await asyncio.sleep(0.5)
                return loop.time() - began_s
        return None

    def outcomes(self) -> list[tuple[str, str]]:
        """(remedy, outcome) of every attempt that was told."""
        return [(event["remedy"], event["outcome"]) for event in self.notebook.events if event["class"] == "heal"]

    def codes(self, name: str) -> list[str]:
        return [finding.code for finding in self.watches[name].judgement.findings]

    def _opened(self, name: str) -> Any:
        def open_(signals: Signals) -> Device:
            self.devices[name].signals = signals
            return self.devices[name]

        return open_

    def _judged(self, watch: Watch, changes: tuple[Change, ...]) -> None:
        self.changes += [(watch.name, change) for change in changes]
        self.healer.judged(watch)

    def _told(self, name: str) -> None:
        healing = self.healer.healing(name)
        if healing is not None:
            self.worked.append(healing.remedy)


def _options(kind: str) -> Any:
    options = declared()[kind].options
    needed = {
        "receipt-printer": {"device": "usb://04b8:0e15"},
        "document-printer": {"device": "ipp://127.0.0.1:631/printers/forms"},
        "scanner": {"device": "sane:test:0"},
        "camera": {"device": "v4l2:/dev/video0"},
    }
    return options(**needed.get(kind, {}))


def seeded(seed: int) -> random.Random:
    """Chance that can be had again: print the seed."""
    return random.Random(seed)
