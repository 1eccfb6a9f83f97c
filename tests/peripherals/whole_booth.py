"""A simulated booth with every kind of peripheral, in a hurry, and all that it says.

Debounces are cut to a second, and the first look at what a device says is the last one needed: the times are the rules' own
tests' matter.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from agent.peripherals import declared
from agent.peripherals.declaration import Peripheral
from agent.settings import Settings
from agent.simulator import usb_tree
from agent.simulator.booth import SimulatedBooth
from tests.world import Observer

JSON_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
}
PORT = "1-1.2"  # of the document printer, on USB
SERIAL = "E78"


def missing() -> str | None:
    """What a whole booth needs and this machine has not."""
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    absent = [program for program in ("mosquitto", "cupsd", "lp", "lpadmin") if shutil.which(program, path=path) is None]
    try:
        __import__("_sane")
    except ImportError:
        absent.append("python-sane")
    return f"missing here: {', '.join(absent)}" if absent else None


WHOLE = pytest.mark.skipif(missing() is not None, reason=missing() or "")


def quick(peripheral: Peripheral) -> Peripheral:
    findings = [
        # What a busy machine does to a line for a second keeps its three minutes.
        kind
        if kind.code in ("high-loss", "high-latency")
        else replace(kind, raise_after_s=min(kind.raise_after_s, 1.0), clear_after_s=min(kind.clear_after_s, 1.0))
        for kind in peripheral.findings
    ]
    return replace(peripheral, findings=tuple(findings))


class QuickBooth(SimulatedBooth):
    """Every kind, with short debounces, and its document printer on USB."""

    def plug_document_printer(self) -> None:
        usb_tree.plug(self.machine.files.path("."), PORT, SERIAL)

    def unplug_document_printer(self) -> None:
        usb_tree.unplug(self.machine.files.path("."), PORT)

    def _tables(self) -> dict[str, dict[str, Any]]:
        tables = super()._tables()
        tables["document-printer"] |= {"usb": f"04f9:0054/{SERIAL}", "job_stuck_s": 10.0}
        tables["kiosk"] |= {"frozen_after_s": 5.0}
        tables["scanner"] |= {"retry_s": 2.0}
        return tables

    def _settings(self) -> Settings:
        settings = super()._settings()
        items = tuple(replace(item, peripheral=quick(item.peripheral)) for item in settings.peripherals)
        return replace(settings, peripherals=items)

    @property
    def workers_alive(self) -> int:
        assert self._agent is not None
        return self._agent._workers.alive


class Scene:
    def __init__(self, booth: QuickBooth, observer: Observer) -> None:
        self.booth = booth
        self.observer = observer

    def status(self, kind: str) -> str | None:
        status: str | None = (self.observer.last(f"health/{kind}") or {}).get("status")
        return status

    async def until(self, kind: str, codes: frozenset[str], why: str) -> None:
        def there() -> bool:
            return self.status(kind) not in (None, "unknown") and set(self.observer.codes(kind)) == codes

        try:
            await self.observer.until(there, why)
        except AssertionError as error:
            raise AssertionError(f"{kind}, {why}: {set(codes) or 'nothing'} wanted, {self.observer.codes(kind)} found") from error

    async def all_well(self) -> None:
        await asyncio.gather(*(self.until(kind, frozenset(), "at first") for kind in self.booth.profile))

    async def receipt_printer_asked_again(self) -> None:
        printer = self.booth.printer
        enough = printer.questions + 2  # the first may have been under way
        await self.observer.until(lambda: printer.questions >= enough, "two questions to the receipt printer")

    def facts_are_the_declared_ones(self) -> None:
        """In every health message that there was: names, order, and JSON types."""
        meta = self.observer.last("meta")["peripherals"]
        assert set(meta) == {*self.booth.profile, "booth"} == set(declared())
        seen = set()
        for message in self.observer.messages:
            if "/health/" not in message.topic or not message.payload:
                continue
            health = message.json
            seen.add(health["peripheral"])
            facts = {fact["name"]: JSON_TYPES[fact["type"]] for fact in meta[health["peripheral"]]["facts"]}
            assert list(health["facts"]) == list(facts), message.topic
            for name, value in health["facts"].items():
                assert value is None or type(value) in facts[name], f"{message.topic}: {name} is {value!r}"
        assert seen == set(meta)


@contextlib.asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """A booth where all is well. At the end it is again, each message has kept the contract, and nothing is left."""
    booth = QuickBooth(folder, heals=False)
    booth.plug_document_printer()
    observer: Observer | None = None
    try:
        await booth.start()
        observer = Observer(booth.broker.port)
        here = Scene(booth, observer)
        await here.all_well()
        yield here
        assert [kind for kind in booth.profile if here.status(kind) != "ok"] == []
        here.facts_are_the_declared_ones()
        assert not observer.problems
        await observer.until(lambda: booth.workers_alive == 0, "no worker alive when idle")
    finally:
        if observer is not None:
            observer.close()
        await booth.stop()
    assert processes_of(folder) == []


def processes_of(folder: Path) -> list[str]:
    """What this process started and left, and whatever else has to do with the folder."""
    left = []
    for task in Path("/proc/self/task").iterdir():
        left += [f"child {pid}" for pid in (task / "children").read_text().split()]
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in command.read_bytes():
                left.append(str(command))
    return left
