"""A booth whose broker and check page are somewhere in the Internet: by name, behind the box, over TLS.

All of it in two network namespaces. The observer sits beside the broker, so it hears what reaches the broker;
what the agent believes while it is cut off is read from its store.
"""

import asyncio
import contextlib
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.engine.memory import Remembered
from agent.rules.light import light
from agent.simulator.booth import toml
from agent.simulator.receipt_printer import ReceiptPrinter
from tests.devices.ports import dev_folder
from tests.faults.pki import Authority, Pair
from tests.machine.far_servers import PAGE_SERVER, NameServer
from tests.machine.namespace import Namespace
from tests.machine.test_network_namespace import PORT, UNTIL_IT_WORKS, Booth, at_the_box, program
from tests.world import BIN, BOOTH, ROOT

BROKER, PAGE = "203.0.113.10", "203.0.113.20"  # TEST-NET-3, RFC 5737
BOX = "192.0.2.1"
V6_NETWORK = "2001:db8:2::/64"
NAMES = {"broker.example": [BROKER], "check.example": [PAGE]}
NAMES_WITH_V6 = {name: ["2001:db8:2::10", *addresses] for name, addresses in NAMES.items()}


class FarBooth(Booth):
    """`names` is the box's resolver, `printer` a receipt printer on a serial line; both live while it is `running`."""

    names: NameServer

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        super().__init__(namespace, folder)
        self.folder = folder
        self.printer = ReceiptPrinter()
        self.authority = Authority(folder, "fleet-ca")
        self.good = self.authority.issue("good", "DNS:broker.example,DNS:check.example")
        self._programs = contextlib.AsyncExitStack()
        self._broker = contextlib.AsyncExitStack()
        self._page = contextlib.AsyncExitStack()
        self._starts = 0
        self._agent: asyncio.subprocess.Process | None = None
        self.expected_of_others: set[tuple[str, str]] = set()

    @asynccontextmanager
    async def far(
        self, *, names: dict[str, list[str]] = NAMES, keepalive_s: int = 30, scheme: str = "http"
    ) -> AsyncIterator[None]:
        """Everything but the agent."""
        self.namespace.beyond(BROKER, PAGE)
        self.namespace.name_server(BOX)
        line = self._programs.enter_context(dev_folder()) / "printer"  # a pseudo-terminal is the same in every namespace
        network = {"kind": "network", "interval_s": 5, "check_url": f"{scheme}://check.example:8080/204"}
        printer = {"kind": "receipt-printer", "device": f"serial://{line}?baud=9600"}
        tables = {
            "booth": {"id": BOOTH, "area": "61"},
            "broker": {"url": "mqtts://broker.example:8883", "ca": str(self.authority.file), "keepalive_s": keepalive_s},
            "reporting": {"alarm_after_s": 1},
            "peripherals": {"network": network, "board": {"kind": "board"}, "receipt-printer": printer},
        }
        (self.folder / "agent.toml").write_text("".join(f"{name} = {toml(table)}\n" for name, table in tables.items()))
        for name in ("state", "runtime"):
            (self.folder / name).mkdir()
        async with self._programs as stack:
            self.printer.open_pty(line)
            stack.push_async_callback(self.printer.close)
            await stack.enter_async_context(self._broker)
            await stack.enter_async_context(self._page)
            self.names = await stack.enter_async_context(NameServer.running(self.namespace, names))
            await stack.enter_async_context(self._observed())
            await self.broker_shows(self.good)
            await self.page_answers(204, self.good if scheme == "https" else None)
            yield

    @asynccontextmanager
    async def running_far(self, **far: Any) -> AsyncIterator[None]:
        """All of it, seen healthy; the agent must live to the end, and blame nothing but the network meanwhile."""
        async with self.far(**far):
            await self.start_agent()
            await self.until(lambda: self.last("state"), "a connection")
            await self.until_well()
            await self.until(lambda: self.last("health/receipt-printer")["status"] == "ok", "a healthy printer")
            self.expected_of_others = self.blamed_others()  # a machine's own board may not be well
            yield
            self.lived()

    def lived(self) -> None:
        assert self._agent is not None
        assert self._agent.returncode is None, self.log()
        assert "Traceback" not in self.log()
        assert self.blamed_others() <= self.expected_of_others

    # --- servers that change ---

    async def broker_shows(self, pair: Pair) -> None:
        """The broker, killed where one runs, starts with this certificate. Nobody gets in before the observer listens."""
        await self._broker.aclose()
        self.namespace.swallow(BROKER)
        program_file = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        assert program_file is not None, "mosquitto is missing"
        config = self.folder / "mosquitto.conf"
        config.write_text(
            f"user root\nallow_anonymous true\nset_tcp_nodelay true\nlistener {PORT} 127.0.0.1\nlistener 8883\n"
            f"cafile {self.authority.file}\ncertfile {pair.certificate}\nkeyfile {pair.key}\n"
        )
        await self._broker.enter_async_context(program(self.namespace.at_the_box(program_file, "-c", str(config))))
        self._starts += 1
        marker = f"booth/started/{self._starts}"
        say = ("mosquitto_pub", "-p", str(PORT), "-q", "1", "-r", "-t", marker, "-m", "yes")
        async with program(self.namespace.at_the_box(*UNTIL_IT_WORKS, *say)):
            await self.until(lambda: marker in self.retained, "the observer at the broker")
        self.namespace.spit_out(BROKER)

    async def page_answers(self, status: int, pair: Pair | None = None) -> None:
        certificate = () if pair is None else (str(pair.certificate), str(pair.key))
        await self._page.aclose()
        await self._page.enter_async_context(at_the_box(self.namespace, PAGE_SERVER, PAGE, str(status), *certificate))

    async def start_agent(self) -> None:
        """Where one runs, it is stopped first, in order."""
        if self._agent is not None:
            self._agent.terminate()
            assert await self._agent.wait() == 0
        with open(self.folder / "agent.log", "ab") as output:
            command = self._booth_agent("run")
            self._agent = await self._programs.enter_async_context(program(command, stderr=output))

    async def probed(self) -> dict[str, Any]:
        """What `booth-agent probe network` says on the booth, without debounce."""
        command = self._booth_agent("probe", "network", "--json")
        async with program(command, stdout=asyncio.subprocess.PIPE) as process:
            assert process.stdout is not None
            result: dict[str, Any] = json.loads(await process.stdout.read())
        return result

    # --- what it says, and what it believes ---

    def session(self) -> str:
        return str(self.last("state")["session"])

    async def until_online(self, after: str, what: str) -> None:
        """In another session than `after`: what was retained before a cut says nothing."""
        await self.until(lambda: self.last("state")["state"] == "online" and self.session() != after, what)

    async def until_back(self, after: str, *codes: str) -> None:
        """A new session, in which what the store kept arrives: `codes` came and went; then all is well."""
        await self.until_online(after, "a new session")
        for code in codes:
            await self.until(lambda code=code: self.changes(code) == ["raised", "cleared"], f"{code} came and went")  # type: ignore[misc]
        await self.until_well()

    def codes_of(self, peripheral: str) -> list[str]:
        return [finding["code"] for finding in self.last(f"health/{peripheral}")["findings"]]

    def changes(self, code: str) -> list[str]:
        """What came and went, by the events, each counted once."""
        events = {event["id"]: event for event in self.events()}.values()
        return [event["data"]["change"] for event in events if event["code"] == code]

    def details(self, code: str) -> list[dict[str, Any]]:
        """Every detail that the network's health gave for `code`, repetitions left out."""
        healths = [json.loads(payload) for _, topic, payload in self.seen if topic == f"{ROOT}/health/network"]
        details = [finding["detail"] for health in healths for finding in health["findings"] if finding["code"] == code]
        return [detail for at, detail in enumerate(details) if at == 0 or detail != details[at - 1]]

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(payload) for _, topic, payload in self.seen if topic == f"{ROOT}/event/health"]

    def log(self) -> str:
        return (self.folder / "agent.log").read_text(errors="replace")

    async def until_logged(self, text: str) -> None:
        async with asyncio.timeout(60):
            while text not in self.log():
                await asyncio.sleep(0.1)

    def blamed_others(self) -> set[tuple[str, str]]:
        """What was ever raised of other peripherals."""
        raised = [event for event in self.events() if event["data"]["change"] == "raised"]
        return {(event["peripheral"], event["code"]) for event in raised if event["peripheral"] != "network"}

    def lights(self, since_s: float = 0.0) -> list[str]:
        """Every word that the light showed, as far as the broker was told."""
        return [payload.decode() for at_s, topic, payload in self.seen if topic == f"{ROOT}/led" and at_s >= since_s]

    async def until_stored(self, code: str) -> dict[str, Any]:
        """Until the store holds the event that the network's `code` was raised; returns its data."""
        async with asyncio.timeout(60):
            while not (found := [event for event in self._stored_events() if event["code"] == code]):
                await asyncio.sleep(0.2)
        data: dict[str, Any] = found[0]["data"]
        assert data["change"] == "raised"
        return data

    async def until_stored_alarm(self, code: str) -> None:
        async with asyncio.timeout(20):
            while code not in [alarm for _, alarm in self.stored_alarms()]:
                await asyncio.sleep(0.2)

    def stored_alarms(self) -> list[tuple[str, str]]:
        return [alarm.key for alarm in Remembered.load(self._stored_state()).alarms_at(0.0)]

    def believed_light(self) -> str:
        """The light's word by the alarms that stand, also while nobody hears it."""
        return light(Remembered.load(self._stored_state()).alarms_at(0.0))

    def _stored_events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self._rows("SELECT position, body FROM outbox ORDER BY position")]

    def _stored_state(self) -> dict[str, Any]:
        return {key: json.loads(body) for key, body in self._rows("SELECT key, body FROM state")}

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        file = self.folder / "state/store.db"
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)) as db:
            return db.execute(query).fetchall()

    # --- parts ---

    def _booth_agent(self, *arguments: str) -> tuple[str, ...]:
        """The machine's authorities, by whom the check page is trusted, are ours alone."""
        return self.namespace.inside(
            "env", f"SSL_CERT_FILE={self.authority.file}", f"RUNTIME_DIRECTORY={self.folder / 'runtime'}",
            str(BIN / "booth-agent"), *arguments,
            "--config", str(self.folder / "agent.toml"), "--state-dir", str(self.folder / "state"),
        )  # fmt: skip

    def _beside_the_broker(self, *command: str) -> tuple[str, ...]:
        return self.namespace.at_the_box(*command)
