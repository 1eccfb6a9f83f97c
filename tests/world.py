"""A booth for tests: a real broker, emulated devices, `booth-agent run` as a process, and an observer.

The observer is an MQTT client of its own (paho, its own thread), and checks every message that it
sees against the contract: its topic, payload, QoS, retention and expiry. `World.__aexit__` fails the
test if one did not keep it, or if an agent printed a traceback.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.app import Agent
from agent.contract.messages import PUBLISHED, kind_of, problems
from agent.contract.schema import contract_schema
from agent.contract.topics import Topic
from agent.machine import Machine
from agent.peripherals import declared
from agent.settings import PeripheralSettings, read
from agent.simulator.booth import toml
from agent.simulator.mosquitto import Mosquitto
from agent.simulator.receipt_printer import ReceiptPrinter

BIN = Path(sys.executable).parent
BOOTH = "61-0007"
ROOT = f"booth/v1/61/{BOOTH}"
PATIENCE_S = 30.0  # until a condition must have come true; machines are slow and shared

_SCHEMA = contract_schema()
_OURS = ("desired", "cmd-req")  # what tests publish themselves


@dataclass(frozen=True)
class Seen:
    """One delivery to the observer."""

    at_s: float
    topic: str
    payload: bytes
    qos: int
    retain: bool
    expiry_s: int | None

    @property
    def json(self) -> Any:
        return json.loads(self.payload)

    @property
    def text(self) -> str:
        return self.payload.decode()


class Observer:
    """Sees all of `booth/#`, in order. `messages` grows; `retained` holds the newest of each retained topic."""

    def __init__(self, port: int, heartbeat_s: int = 3600, **options: Any) -> None:
        self.messages: list[Seen] = []
        self.retained: dict[str, Seen] = {}
        self.problems: list[str] = []
        self.heartbeat_s = heartbeat_s
        self.checks = True  # a benchmark's clock must not wait for them; tests never turn them off
        self._news = asyncio.Event()
        self._subscribed = False
        self._loop = asyncio.get_running_loop()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, client_id=f"observer-{time.monotonic_ns()}")
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        # Else each publication waits for 40 ms (Nagle's algorithm), and what is measured is that.
        self._client.on_socket_open = _without_delay
        for name, value in options.items():
            getattr(self._client, name)(*value)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes | str, *, qos: int = 1, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos, retain).wait_for_publish(10)

    def listens(self) -> bool:
        """Whether the newest connection has its subscription."""
        return self._client.is_connected() and self._subscribed

    async def until(self, condition: Callable[[], Any], what: str = "condition", patience_s: float = PATIENCE_S) -> Any:
        """Wait until `condition` is truthy; returns its value. Fails with what was seen last."""
        end_s = time.monotonic() + patience_s
        while not (value := condition()):
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                last = "\n".join(f"{m.topic} {m.payload[:200]!r}" for m in self.messages[-15:])
                raise AssertionError(f"never came true: {what}; the last messages:\n{last}")
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, 0.25)):
                    await self._news.wait()
        return value

    def of(self, topic: str) -> list[Seen]:
        """Every message of one of the booth's topics, such as `state` or `health/board`."""
        return [message for message in self.messages if message.topic == f"{ROOT}/{topic}"]

    def last(self, topic: str) -> Any:
        """The newest payload of a retained topic: JSON, a word, or None for an empty or missing one."""
        seen = self.retained.get(f"{ROOT}/{topic}")
        if seen is None or not seen.payload:
            return None
        return seen.json if seen.payload[:1] == b"{" else seen.text

    def codes(self, peripheral: str) -> list[str]:
        """The codes of the findings in the newest health of a peripheral."""
        health = self.last(f"health/{peripheral}") or {}
        return [finding["code"] for finding in health.get("findings", ())]

    def events(self) -> list[dict[str, Any]]:
        return [message.json for message in self.messages if "/event/" in message.topic]

    def _on_subscribe(self, *_: Any) -> None:
        self._subscribed = True

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        self._subscribed = False
        client.subscribe("booth/#", options=SubscribeOptions(qos=1, retainAsPublished=True))

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        expiry_s = getattr(message.properties, "MessageExpiryInterval", None)
        seen = Seen(time.monotonic(), message.topic, bytes(message.payload), message.qos, bool(message.retain), expiry_s)
        self.messages.append(seen)
        if seen.retain:
            self.retained[seen.topic] = seen
        if self.checks:
            self.problems += self._check(seen)
        self._loop.call_soon_threadsafe(self._news.set)

    def _check(self, seen: Seen) -> list[str]:
        topic = Topic.parse(seen.topic)
        if topic is not None and topic.kind in _OURS:
            return []
        found = problems(seen.topic, seen.payload, seen.qos, seen.retain)
        if found or topic is None:
            return found
        kind = kind_of(topic)
        assert kind is not None
        if seen.payload and not kind.word:
            # The emitted schema, by a validator that is not ours.
            name = next(name for name, known in PUBLISHED.items() if known is kind)
            validator = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": _SCHEMA["$defs"]})
            found += [f"{seen.topic}: {error.message}" for error in validator.iter_errors(seen.json)]
        wanted = {"never": None, "2 heartbeats": 2 * self.heartbeat_s, "30 min": 1800, "24 h": 86400}[kind.expiry]
        if seen.payload and (seen.expiry_s is None) != (wanted is None):
            found.append(f"{seen.topic}: expiry {seen.expiry_s}, not {wanted}")
        elif seen.expiry_s is not None and wanted is not None and seen.expiry_s > wanted:
            found.append(f"{seen.topic}: expiry {seen.expiry_s}, over {wanted}")
        return found


def _without_delay(_client: Any, _data: Any, opened: Any) -> None:
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@dataclass
class AgentProcess:
    """`booth-agent run` as a child."""

    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def stderr(self) -> str:
        return self.log.read_text(errors="replace")

    async def stop(self, patience_s: float = 10.0) -> int:
        """SIGTERM; returns the exit status."""
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(patience_s):
            return await self.process.wait()

    async def kill(self) -> None:
        """Power cut, as far as a process can tell."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@dataclass
class World:
    """Use as `async with world(tmp_path) as w`."""

    folder: Path
    broker: Mosquitto
    printer: ReceiptPrinter
    observer: Observer
    config: dict[str, Any]
    agents: list[AgentProcess] = field(default_factory=list)

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def runtime_dir(self) -> Path:
        return self.folder / "run"

    def write_config(self) -> Path:
        """`agent.toml` of `config`: a dictionary of tables."""
        file = self.folder / "agent.toml"
        file.write_text("".join(f"{name} = {toml(table)}\n" for name, table in self.config.items()))
        return file

    async def start_agent(
        self, *, wrapper: tuple[str, ...] = (), env: dict[str, str] | None = None, online: bool = True
    ) -> AgentProcess:
        """Start `booth-agent run`; `online` waits until it says so on the broker."""
        log = self.folder / f"agent-{len(self.agents)}.log"
        already = len(self.observer.of("state"))
        with open(log, "wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *wrapper, str(BIN / "booth-agent"), "run",
                "--config", str(self.write_config()), "--state-dir", str(self.state_dir),
                "--runtime-dir", str(self.runtime_dir),
                stdin=asyncio.subprocess.DEVNULL, stdout=stderr, stderr=stderr, env=os.environ | (env or {}),
            )  # fmt: skip
        agent = AgentProcess(process, log)
        self.agents.append(agent)
        if online:
            await self.observer.until(
                lambda: any(m.json["state"] == "online" for m in self.observer.of("state")[already:]), "the agent online"
            )
        return agent

    async def until(self, condition: Callable[[], Any], what: str = "condition", patience_s: float = PATIENCE_S) -> Any:
        return await self.observer.until(condition, what, patience_s)


@contextlib.asynccontextmanager
async def world(folder: Path, *, broker_extra: str = "", **config: dict[str, Any]) -> AsyncIterator[World]:
    """A broker that runs, a printer that listens, an observer that watches; no agent yet.

    `config` tables go over the default ones (booth, broker, reporting with a short alarm, a receipt
    printer by TCP, the board; no network: that is tested in namespaces).
    """
    broker = Mosquitto(folder, broker_extra)
    printer = ReceiptPrinter()
    await broker.start()
    await printer.listen()
    tables: dict[str, Any] = {
        "booth": {"id": BOOTH, "area": "61"},
        "broker": {"url": f"mqtt://127.0.0.1:{broker.port}"},
        "reporting": {"alarm_after_s": 1},
        "peripherals": {
            "receipt-printer": {"kind": "receipt-printer", "device": f"tcp://127.0.0.1:{printer.port}", "absent_s": 1},
            "board": {"kind": "board"},
        },
    } | config
    observer = Observer(broker.port, tables["reporting"].get("heartbeat_s", 3600))
    here = World(folder, broker, printer, observer, tables)
    here.state_dir.mkdir(exist_ok=True)
    here.runtime_dir.mkdir(exist_ok=True)
    try:
        yield here
        tracebacks = [agent.stderr() for agent in here.agents if "Traceback" in agent.stderr()]
        assert not tracebacks, f"an agent printed a traceback:\n{tracebacks[0]}"
        assert not observer.problems, "messages that do not keep the contract:\n" + "\n".join(observer.problems[:10])
    finally:
        for agent in here.agents:
            if agent.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    agent.process.send_signal(signal.SIGCONT)
                await agent.kill()
        observer.close()
        await printer.close()
        await broker.stop()


@contextlib.asynccontextmanager
async def agent_inside(w: World, machine: Machine, *more: PeripheralSettings) -> AsyncIterator[Agent]:
    """An agent on the test's own loop, on a machine of its own."""
    w.write_config()
    settings = read(w.config, declared(), w.folder)
    agent = Agent(replace(settings, peripherals=(*settings.peripherals, *more)), w.state_dir, machine, runtime_dir=w.runtime_dir)
    stop = asyncio.Event()
    running = asyncio.get_running_loop().create_task(agent.run(stop))
    try:
        yield agent
        assert not running.done(), "the agent ended by itself"
    finally:
        stop.set()
        await running
