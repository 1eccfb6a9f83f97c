"""A whole simulated booth: its machine, its printer, its broker, and an agent that knows of no simulation."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.app import Agent
from agent.peripherals import declared
from agent.settings import Settings, read
from agent.settings_tables import DAYS
from agent.simulator.check_page import CheckPage
from agent.simulator.machine import SimulatedMachine
from agent.simulator.mosquitto import Mosquitto
from agent.simulator.receipt_printer import ReceiptPrinter


@dataclass(frozen=True)
class Switch:
    """Something that can be broken and repaired: by `key` on the keyboard, by the two names in a script."""

    key: str
    breaks: str
    repairs: str
    meaning: str
    set: Callable[[bool], Awaitable[None]]  # True: broken


class SimulatedBooth:
    """`start`, then flip `switches`; `stop` leaves nothing behind but the folder."""

    def __init__(self, folder: Path, booth_id: str = "61-0007", area: str = "61", alarm_after_s: int = 3) -> None:
        self.printer = ReceiptPrinter()
        self.page = CheckPage()
        self.broker = Mosquitto(folder)
        self.machine = SimulatedMachine(folder / "machine")
        self.root_topic = f"booth/v1/{area}/{booth_id}"
        self._folder = folder
        self._booth = {"id": booth_id, "area": area}
        self._alarm_after_s = alarm_after_s
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self.switches = self._switches()

    @property
    def ended(self) -> "asyncio.Task[None] | None":
        """The agent's task, for whoever wants to know that it failed."""
        return self._running

    async def start(self) -> None:
        """Raises RuntimeError where the broker does not start."""
        await self.broker.start()
        await self.printer.listen()
        await self.page.start()
        state_dir = self._folder / "state"
        state_dir.mkdir(exist_ok=True)
        self._running = asyncio.create_task(Agent(self._settings(), state_dir, self.machine).run(self._stop))

    async def stop_agent(self) -> None:
        """Cleanly; the devices and the broker stay. Raises what ended it, if that was no stop."""
        self._stop.set()
        if self._running is not None:
            await self._running

    async def stop(self) -> None:
        try:
            await self.stop_agent()
        finally:
            await self.printer.close()
            await self.page.stop()
            await self.broker.stop()

    async def act(self, name: str) -> None:
        """Break or repair by name. Raises KeyError for a name that no switch has."""
        for switch in self.switches:
            if name in (switch.breaks, switch.repairs):
                await switch.set(name == switch.breaks)
                return
        raise KeyError(name)

    def _settings(self) -> Settings:
        data: dict[str, Any] = {
            "booth": self._booth,
            "broker": {"url": f"mqtt://127.0.0.1:{self.broker.port}"},
            "reporting": {"alarm_after_s": self._alarm_after_s, "telemetry_s": 30},
            "hours": {"week": {day: ["07:00-12:30", "14:00-19:30"] for day in DAYS[:6]}},
            "peripherals": {
                "receipt-printer": {
                    "kind": "receipt-printer",
                    "device": f"tcp://127.0.0.1:{self.printer.port}",
                    "absent_s": 2.0,
                    "poll_s": 5.0,
                    "check_s": 5.0,
                },
                "network": {"kind": "network", "check_url": self.page.url, "interval_s": 10.0},
                "board": {"kind": "board", "interval_s": 5.0},
            },
        }
        return read(data, declared(), self._folder)

    def _switches(self) -> tuple[Switch, ...]:
        change = self.printer.change

        def at_once(act: Callable[[bool], None]) -> Callable[[bool], Awaitable[None]]:
            async def set_(broken: bool) -> None:
                act(broken)

            return set_

        def paper(word: str) -> Callable[[bool], None]:
            return lambda broken: change(paper=word if broken else "plenty")

        def error(word: str) -> Callable[[bool], None]:
            return lambda broken: change(error=word if broken else None)

        behaviour = self.printer.behaviour
        return (
            Switch("p", "paper-out", "paper-in", "receipt printer: the paper ends", at_once(paper("out"))),
            Switch("l", "paper-low", "paper-full", "receipt printer: near the end of the roll", at_once(paper("near-end"))),
            Switch("c", "cover-open", "cover-closed", "receipt printer: cover", at_once(lambda b: change(cover_open=b))),
            Switch("k", "cutter-jammed", "cutter-free", "receipt printer: cutter", at_once(error("cutter"))),
            Switch("o", "printer-offline", "printer-online", "receipt printer: offline", at_once(lambda b: change(switched_offline=b))),
            Switch("m", "printer-mute", "printer-answers", "receipt printer: no answer", at_once(lambda b: setattr(behaviour, "mute", b))),
            Switch("s", "printer-slow", "printer-fast", "receipt printer: one byte a second",
                   at_once(lambda b: setattr(behaviour, "byte_delay_s", 1.0 if b else 0.0))),
            Switch("x", "printer-noise", "printer-clean", "receipt printer: garbage on the line",
                   at_once(lambda b: setattr(behaviour, "noise", b"\xff\x80\x00" if b else b""))),
            Switch("u", "printer-unplugged", "printer-plugged", "receipt printer: unplugged", self._unplug),
            Switch("n", "cable-out", "cable-in", "network: the cable", at_once(lambda b: self.machine.links.change(cable=not b))),
            Switch("i", "box-dead", "box-alive", "network: the Internet box", at_once(lambda b: self.machine.links.change(box=not b))),
            Switch("g", "portal", "no-portal", "network: a captive portal",
                   at_once(lambda b: setattr(self.page, "mood", "portal" if b else "good"))),
            Switch("v", "power-weak", "power-good", "board: under-voltage", at_once(lambda b: self.machine.power(weak=b))),
            Switch("t", "hot", "cool", "board: heat", at_once(lambda b: self.machine.heat(86.0 if b else 48.0))),
            Switch("d", "disk-read-only", "disk-writable", "board: memory card", at_once(lambda b: self.machine.mount(read_only=b))),
            Switch("b", "broker-dead", "broker-alive", "the broker itself", self._break_broker),
        )  # fmt: skip

    async def _unplug(self, broken: bool) -> None:
        if broken:
            await self.printer.unlisten()
        else:
            await self.printer.listen(self.printer.port)
            self.machine.uevents.plugged("usb", "/devices/simulated")

    async def _break_broker(self, broken: bool) -> None:
        if broken:
            await self.broker.kill()
        else:
            await self.broker.start()
