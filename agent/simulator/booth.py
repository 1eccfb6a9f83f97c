"""A whole simulated booth: its machine, its devices, its broker, and an agent that knows of no simulation."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from agent.app import Agent
from agent.contract.button import SOCKET_NAME
from agent.overlay import with_accepted
from agent.peripherals import declared
from agent.settings import Settings, read
from agent.settings_tables import DAYS
from agent.simulator import switches
from agent.simulator.audio import SoundCard
from agent.simulator.camera import Camera
from agent.simulator.check_page import CheckPage
from agent.simulator.cups import Cups
from agent.simulator.forms import FormsCache
from agent.simulator.kiosk import UNIT, KioskApplication
from agent.simulator.machine import SimulatedMachine
from agent.simulator.mosquitto import Mosquitto
from agent.simulator.operator import Operator, profile_document
from agent.simulator.receipt_paper import TextOfRoll
from agent.simulator.receipt_printer import ReceiptPrinter
from agent.simulator.scanner import Scanner
from agent.simulator.switches import PROFILES, Citizen, ProfileName, Switch

# What speaks only when it is used. Nobody here does, so what is broken is found by a check; that it was mended, the agent notices.
_ASKED_ONLY = ("scanner", "camera", "audio")


class SimulatedBooth:
    """`start`, then flip `switches`; `stop` leaves nothing behind but the folder."""

    def __init__(
        self,
        folder: Path,
        booth_id: str = "61-0007",
        area: str = "61",
        alarm_after_s: int = 3,
        profile: ProfileName = "everything",
        *,
        heals: bool = True,
        governed: bool = False,
        operated: bool = False,
    ) -> None:
        """`heals` false: what is broken stays broken until somebody mends it. `governed`: an operator signs the profile's
        configuration and policy with development keys, and publishes them. `operated`: there are such keys in any case, which the
        booth trusts, for commands."""
        self.profile = PROFILES[profile]
        self.machine = SimulatedMachine(folder / "machine")
        self.broker = Mosquitto(folder)
        self.page = CheckPage()
        self.printer = ReceiptPrinter()
        self.cups = Cups(folder)
        self.scanner = Scanner(folder / "scanner")
        self.camera = Camera(folder / "camera")
        self.kiosk = KioskApplication(self.machine.files, folder)
        self.sound = SoundCard(self.machine.files, folder / "sound")
        self.forms = FormsCache(folder / "forms")
        self.root_topic = f"booth/v1/{area}/{booth_id}"
        self.folder = folder
        self._state_dir, self._runtime_dir = folder / "state", folder / "run"
        self.citizen = Citizen(self._runtime_dir)
        self._booth = {"id": booth_id, "area": area}
        self._alarm_after_s = alarm_after_s
        self._heals = heals
        self.operator: Operator | None = None
        self._profile_name = profile if governed else None
        self._operated = operated or governed
        self.receipt = TextOfRoll(folder / "receipt.txt")
        self.printer.on_row = self.receipt.row
        self.machine.acts.table |= {
            ("purge-spool", "document-printer"): self.cups.purge,
            ("enable-queue", "document-printer"): self._enable_queue,
            ("restart-cups", "document-printer"): self.cups.restart_empty,
            ("restart-kiosk", "kiosk"): self._restart_kiosk,
        }
        self._stop = asyncio.Event()
        self._agent: Agent | None = None
        self._running: asyncio.Task[None] | None = None
        self.switches = self._switches()

    @property
    def ended(self) -> "asyncio.Task[None] | None":
        """The agent's task, for whoever wants to know that it failed."""
        return self._running

    async def start(self) -> None:
        """Raises RuntimeError where the broker or the print server does not start."""
        await self.broker.start()
        await self.page.start()
        if "receipt-printer" in self.profile:
            await self.printer.listen()
        if "document-printer" in self.profile:
            await self.cups.start()
        if "kiosk" in self.profile:
            self.kiosk.start()
        if "forms" in self.profile:
            self.forms.lay()
        if self._operated:
            self.operator = Operator(self.folder, self.root_topic)
            if self._profile_name is not None:
                await self._govern(self._profile_name, self.operator)
        self.start_agent()

    async def _govern(self, profile: ProfileName, operator: Operator) -> None:
        self.machine.lockdown.install(self._write_config(), operator.trust)
        await self.machine.lockdown.apply()
        for kind in ("config", "policy"):
            await operator.publish(self.broker.port, kind, profile_document(profile, kind))

    def start_agent(self) -> None:
        """Also again, after `stop_agent`: with what it had stored."""
        for directory in (self._state_dir, self._runtime_dir):
            directory.mkdir(exist_ok=True)
        self._stop.clear()
        self._write_config()
        self._agent = self._new_agent()
        self._running = asyncio.create_task(self._run(self._agent))

    def _new_agent(self) -> Agent:
        return Agent(self._settings(), self._state_dir, self.machine, runtime_dir=self._runtime_dir)

    async def _run(self, agent: Agent) -> None:
        """As systemd does: one that ends by itself is started anew, with what it had stored."""
        await agent.run(self._stop)
        while not self._stop.is_set():
            agent = self._agent = self._new_agent()
            await agent.run(self._stop)

    async def stop_agent(self) -> None:
        """Cleanly; the devices and the broker stay. Raises what ended it, if that was no stop."""
        self._stop.set()
        if self._running is not None:
            await self._running

    async def stop(self) -> None:
        async with contextlib.AsyncExitStack() as last:
            for stop in (
                self.machine.lockdown.stop,
                self.broker.stop,
                self.page.stop,
                self.printer.close,
                self.cups.stop,
                self.kiosk.stop,
            ):
                last.push_async_callback(stop)
            last.callback(self.citizen.goes)
            await self.stop_agent()

    async def act(self, name: str) -> None:
        """Break or repair by name. Raises KeyError for a name that no switch has."""
        for switch in self.switches:
            if name in (switch.breaks, switch.repairs):
                broken = name == switch.breaks
                await switch.set(broken)
                if broken and switch.kind in _ASKED_ONLY and self._agent is not None:
                    self._agent.check_now()
                return
        raise KeyError(name)

    def _settings(self) -> Settings:
        data = self._data()
        return read(with_accepted(data, self._state_dir) or data, declared(), self.folder)

    def _write_config(self) -> str:
        text = "".join(f"{name} = {toml(table)}\n" for name, table in self._data().items())
        (self.folder / "agent.toml").write_text(text)
        return text

    def _data(self) -> dict[str, Any]:
        return {
            "booth": self._booth,
            "broker": {"url": f"mqtt://127.0.0.1:{self.broker.port}"},
            "reporting": {"alarm_after_s": self._alarm_after_s, "telemetry_s": 30},
            "heal": {"enabled": self._heals},
            "button": {"line": "GPIO23"},
            "hours": {"week": {day: ["00:00-24:00"] for day in DAYS}},
            "peripherals": {kind: {"kind": kind} | table for kind, table in self._tables().items() if kind in self.profile},
        }

    def _tables(self) -> dict[str, dict[str, Any]]:
        """The options of every peripheral that a profile may have, with a demonstration's short intervals."""
        return {
            "receipt-printer": {
                "device": f"tcp://127.0.0.1:{self.printer.port}", "absent_s": 2.0, "poll_s": 5.0, "check_s": 5.0,
            },
            "document-printer": {"device": self.cups.url, "poll_s": 2.0, "job_stuck_s": 15.0},
            "scanner": {"device": self.scanner.device, "config_dir": str(self.scanner.folder)},
            "camera": {"device": "csi:0", "csi_program": str(self.camera.program)},
            "kiosk": {"unit": UNIT, "heartbeat": str(self.kiosk.heartbeat), "frozen_after_s": 10.0, "interval_s": 2.0},
            "audio": {"amixer": str(self.sound.amixer)},
            "forms": {"device": str(self.forms.current)},
            "network": {"check_url": self.page.url, "interval_s": 10.0},
            "board": {"interval_s": 5.0},
        }  # fmt: skip

    def lacks(self, key: str) -> str | None:
        """The kind of peripheral that a key is about, where only other profiles have one."""
        return next(
            (switch.kind for switch in self._every_switch() if switch.key == key and switch.kind not in self.profile), None
        )

    def _switches(self) -> tuple[Switch, ...]:
        """Of what this profile has."""
        return tuple(switch for switch in self._every_switch() if switch.kind is None or switch.kind in self.profile)

    def _every_switch(self) -> tuple[Switch, ...]:
        return (
            *switches.of_receipt_printer(self.printer, self.machine),
            *switches.of_document_printer(self.cups),
            *switches.of_scanner(self.scanner, self.machine),
            *switches.of_camera(self.camera),
            *switches.of_kiosk(self.kiosk),
            *switches.of_audio(self.sound, self.machine),
            *switches.of_forms(self.forms),
            *switches.of_network(self.machine, self.page),
            *switches.of_board(self.machine),
            *self.citizen.switches(),
            switches.of_button(self._runtime_dir / SOCKET_NAME),
            Switch(None, "b", "broker-dead", "broker-alive", "the broker itself", self._break_broker),
        )

    async def _enable_queue(self) -> None:
        """As root does it: nothing that waits is ever printed."""
        await self.cups.purge()
        await self.cups.start_queue()
        await self.cups.accept_jobs(accept=True)

    async def _restart_kiosk(self) -> None:
        self.kiosk.start()

    async def _break_broker(self, broken: bool) -> None:
        if broken:
            await self.broker.kill()
        else:
            await self.broker.start()


def toml(value: Any) -> str:
    """A TOML value."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
