"""Thousands of booths on one connection, for rollouts: what each says of itself, and how it takes an update. They have no devices.

`python -m agent.simulator.fleet --port PORT --booths 10000`, until it is ended.
"""

import argparse
import asyncio
import random
import signal
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.contract.decode import encode
from agent.contract.documents import Document, LayerName, Refusal, read_document
from agent.contract.envelope import open_envelope
from agent.contract.hours import DAYS
from agent.contract.messages import Incoming, Message
from agent.contract.topics import ALL, PREFIX, Address, Topic
from agent.contract.typed import build
from agent.rules.layers import effective
from agent.simulator.fleet_script import Fate, Script, many, meta
from agent.system.broker import BrokerAddress, Dialer
from agent.system.mqtt import Handlers, Mqtt
from agent.updates import kinds

_AT: Final = "2026-11-20T08:00:00.000Z"  # of what a booth said before
_SERVICES: Final = ("web", "forms", "print", "scan", "visio")
_AHEAD: Final = ("downloading", "verified", "waiting-idle", "installing")  # of the restart


@dataclass
class SmallBooth:
    """What one booth knows."""

    address: Address
    version: str
    word: str = "online"
    down: int = 0  # services
    documents: dict[LayerName, Document] = field(default_factory=dict)
    tried: tuple[Any, ...] = ()
    report: dict[str, Any] = field(default_factory=dict)

    def services(self) -> dict[str, str]:
        if self.word in ("asleep", "lost", "starting"):
            return dict.fromkeys(_SERVICES, "unknown")
        return {name: "down" if number < self.down else "ok" for number, name in enumerate(_SERVICES)}


class SimulatedFleet:
    """`run` it beside a broker on a port of loopback. `said` is set once everything that is retained of it is there."""

    def __init__(self, port: int, booths: Mapping[str, str], script: Script, version: str = "1.0.0") -> None:
        """`booths`: each with its area."""
        self.booths: Final = {name: SmallBooth(Address(area, name), version) for name, area in booths.items()}
        self.said: Final = asyncio.Event()
        self.tries: Final[dict[str, int]] = {}
        self.script = script
        self.closed: Final = set(script.closed)
        self._chance = random.Random(len(booths))
        self._meta = meta()
        self._queue: deque[Message] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._of_area: dict[str, list[str]] = {}
        handlers = Handlers(self._say_again, lambda _error: None, self._take, self._say, self._say)
        self._mqtt = Mqtt(
            Dialer(BrokerAddress.of_url(f"mqtt://127.0.0.1:{port}")), "simulated-fleet", handlers,
            [f"{PREFIX}/+/+/update/desired"], session_expiry_s=0,
        )  # fmt: skip
        for name, area in booths.items():
            self._of_area.setdefault(area, []).append(name)
            self._begin(self.booths[name])

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await self._mqtt.run()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._mqtt.close()

    def change(self, name: str, *, word: str | None = None, down: int | None = None) -> None:
        """Another state of a booth, or so many of its services down."""
        booth = self.booths[name]
        booth.word = booth.word if word is None else word
        booth.down = booth.down if down is None else down
        self._say_state(booth)

    def close(self, name: str) -> None:
        """It is not open any more."""
        self.closed.add(name)
        self._say_meta(self.booths[name])

    # --- what it says ---

    def _say_again(self) -> None:
        """Brokers lose retained state: at another connection, all of it."""
        if self.said.is_set():
            for booth in self.booths.values():
                self._say_meta(booth)
                self._say_state(booth)
                self._say_report(booth)

    def _begin(self, booth: SmallBooth) -> None:
        name = booth.address.booth
        booth.word = "asleep" if name in self.script.asleep else "lost" if name in self.script.dark else "online"
        booth.report = {
            "status": "applied", "layers": {"fleet": None, "area": None, "booth": None}, "effective_sha256": None,
            "sections": {}, "errors": [], "at": _AT, "from": None, "to": None, "phase": "idle", "attempt": 0, "pct": None,
            "reason": None,
        }  # fmt: skip
        self._say_meta(booth)
        self._say_state(booth)
        self._say_report(booth)

    def _say_state(self, booth: SmallBooth) -> None:
        state = {
            "state": booth.word, "session": booth.address.booth, "boot_id": "b", "agent": booth.version, "since": _AT,
            "clock": "synced", "services": booth.services(),
        }  # fmt: skip
        self._retain(booth.address.state, state)

    def _say_meta(self, booth: SmallBooth) -> None:
        never: dict[str, list[str]] = {day: [] for day in DAYS} if booth.address.booth in self.closed else {}
        hours = {"tz": "Europe/Paris", "week": never, "exceptions": {}}
        self._retain(booth.address.meta, self._meta | {"agent": booth.version, "hours": hours})

    def _say_report(self, booth: SmallBooth, **changes: Any) -> None:
        booth.report = booth.report | changes
        self._retain(booth.address.reported("update"), booth.report)

    def _retain(self, topic: str, payload: dict[str, Any]) -> None:
        self._queue.append(Message(topic, encode(payload), retain=True))
        self._say()

    def _say(self) -> None:
        while self._queue and self._mqtt.room:
            self._mqtt.publish(self._queue.popleft())
        if not self._queue and self._mqtt.connected:
            self.said.set()

    # --- what it is told ---

    def _take(self, message: Incoming) -> None:
        topic = Topic.parse(message.topic)
        if topic is None or not message.payload:
            return
        try:
            document = read_document(open_envelope(message.payload).payload)
        except Refusal:
            return
        area, name = topic.address.area, topic.address.booth
        layer: LayerName = "fleet" if area == ALL else "area" if name == ALL else "booth"
        told = self.booths if area == ALL else self._of_area.get(area, ()) if name == ALL else [name]
        for one in told:
            if one in self.booths:
                self._told(self.booths[one], layer, document)

    def _told(self, booth: SmallBooth, layer: LayerName, document: Document) -> None:
        before = booth.documents.get(layer)
        if before is not None and (document.epoch, document.rev) < (before.epoch, before.rev):
            return  # as every booth refuses it
        booth.documents[layer] = document
        if booth.word in ("starting", "online"):
            self._obey(booth)

    def wake(self, name: str) -> None:
        """It was switched off, and is there: it reads what was said meanwhile."""
        self.change(name, word="online")
        self._obey(self.booths[name])

    def try_again(self, name: str) -> None:
        """As it does by itself after some hours, with the fate of today."""
        self.booths[name].tried = ()
        self._obey(self.booths[name])

    def _obey(self, booth: SmallBooth) -> None:
        sections = effective({layer: one.doc for layer, one in booth.documents.items()})
        section = sections.get("agent")
        if section is None:
            self._know(booth)
            return
        kind = kinds()["agent"]
        version = kind.version(build(kind.section, section.value))
        order = (version, section.layer, booth.documents[section.layer].rev)
        if version == booth.version or booth.tried == order:
            self._know(booth)
            return
        booth.tried = order
        self.tries[booth.address.booth] = self.tries.get(booth.address.booth, 0) + 1
        task = asyncio.get_running_loop().create_task(self._update(booth, version, section.layer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _know(self, booth: SmallBooth) -> None:
        """Nothing to do: only the revisions are new."""
        self._say_report(booth, layers=self._layers(booth))

    def _layers(self, booth: SmallBooth) -> dict[str, Any]:
        known = {layer: {"seen_rev": one.rev, "applied_rev": one.rev} for layer, one in booth.documents.items()}
        return {"fleet": None, "area": None, "booth": None} | known

    async def _update(self, booth: SmallBooth, version: str, layer: LayerName) -> None:
        fate = self.script.fate(booth.address.booth)
        before = booth.version
        if fate == "refuses":
            error = {"layer": layer, "code": "untrusted-key", "path": "", "message": "signed by nobody it knows"}
            self._say_report(booth, status="rejected", errors=[error])
            return
        if fate == "waits":
            self._phase(booth, "downloading", before, version, "unreachable")
            return
        if fate == "gets-nothing":
            self._phase(booth, "failed", before, version, "http-404", status="pending")
            return
        for phase in _AHEAD:
            self._phase(booth, phase, before, version)
            await self._pause()
        if fate == "fails":
            self._phase(booth, "failed", before, version, "selftest-failed")
            return
        self._phase(booth, "switching", before, version)
        self.change(booth.address.booth, word="starting")
        await self._pause()
        if fate == "vanishes":
            self.change(booth.address.booth, word="lost")
            return
        booth.version = version
        self._say_meta(booth)
        self.change(booth.address.booth, word="online", down=2 if fate == "breaks" else None)
        self._phase(booth, "verifying", before, version)
        await self._pause()
        if fate != "rolls-back":
            self._phase(booth, "committed", before, version)
            return
        booth.version = before
        self._say_meta(booth)
        self._say_state(booth)
        self._phase(booth, "rolled-back", before, version, "unhealthy")

    def _phase(
        self, booth: SmallBooth, phase: str, before: str, version: str, reason: str | None = None, status: str | None = None
    ) -> None:
        done = {"committed": "applied", "failed": "reverted", "rolled-back": "reverted"}
        status = status or done.get(phase, "pending")
        section = {"status": status, "version": booth.version, "from": before, "to": version, "phase": phase}
        whole = {"from": before, "to": version, "phase": phase, "reason": reason, "attempt": 1}
        sections = {"agent": section | {"reason": reason}}
        self._say_report(booth, status=status, layers=self._layers(booth), sections=sections, **whole)

    async def _pause(self) -> None:
        await asyncio.sleep(self.script.pace_s * self._chance.uniform(0.5, 1.5))


async def _main(options: argparse.Namespace) -> None:
    shares: dict[Fate, float] = {"rolls-back": options.rolled_back_pct / 100, "breaks": options.broken_pct / 100}
    fleet = SimulatedFleet(options.port, many(options.booths, options.areas), Script(shares=shares, pace_s=options.pace_s))
    loop = asyncio.get_running_loop()
    running = loop.create_task(fleet.run())
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.cancel)
    await asyncio.wait({running, said := loop.create_task(fleet.said.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if said.done():
        print(f"{len(fleet.booths)} booths are there", flush=True)
    said.cancel()
    await asyncio.gather(running, said, return_exceptions=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A fleet of booths without devices, on a broker of this machine.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--booths", type=int, default=200)
    parser.add_argument("--areas", type=int, default=10)
    parser.add_argument("--pace-s", type=float, default=0.05)
    parser.add_argument("--rolled-back-pct", type=float, default=0.0)
    parser.add_argument("--broken-pct", type=float, default=0.0)
    asyncio.run(_main(parser.parse_args()))
