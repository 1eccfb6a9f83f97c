"""Faults of the process itself: rows 70 to 72 of the catalogue."""

import asyncio
import itertools
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from agent.app import Agent
from agent.contract.alarm import Text
from agent.contract.health import FactValue
from agent.peripherals import declared
from agent.peripherals.declaration import Peripheral, Signals
from agent.peripherals.surroundings import Surroundings
from agent.rules.declaration import Fact, Observed, Reading
from agent.settings import PeripheralSettings, read
from agent.simulator.machine import SimulatedMachine
from tests.faults.fake_broker import FakeBroker, until
from tests.world import World, world

WATCHDOG_S = 1.0  # what systemd would wait for
STALL_S = 2.5


@dataclass
class ServiceManager:
    """Listens on a notify socket from a thread of its own: the loop under test will stand still."""

    path: Path
    heard: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while (message := self._socket.recv(4096).decode()) != "END":
            self.heard.append((time.monotonic(), message))

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"END", str(self.path))
        self._thread.join()
        self._socket.close()

    def fed(self) -> list[float]:
        return [at_s for at_s, message in self.heard if message == "WATCHDOG=1"]

    def said(self, word: str) -> bool:
        return any(message == word for _, message in self.heard)


@pytest.fixture
def service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceManager]:
    manager = ServiceManager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_S * 1_000_000)))
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    yield manager
    manager.close()


@dataclass(frozen=True)
class NoOptions:
    """Of a peripheral made for one test."""


class Blocking:
    """A bug that no rule of ours allows: a call on the loop that does not return for long."""

    stalls: list[tuple[float, float]]
    armed: bool

    def __init__(self, _options: NoOptions, _surroundings: Surroundings, signals: Signals) -> None:
        Blocking.signals = signals

    signals: Signals

    async def probe(self, *, active: bool) -> Reading:
        if Blocking.armed:
            Blocking.armed = False
            since_s = time.monotonic()
            time.sleep(STALL_S)
            Blocking.stalls.append((since_s, time.monotonic()))
        return Reading({"fine": True})

    def interval_s(self) -> float:
        return 3600.0

    async def close(self) -> None:
        return


def _nothing(_facts: Mapping[str, FactValue], _options: NoOptions) -> Iterable[Observed]:
    return ()


BLOCKING = PeripheralSettings(
    "blocking",
    Peripheral(
        "blocking",
        Text("le bloqueur", "the blocker"),
        NoOptions,
        (Fact("fine", "boolean", "always"),),
        (),
        _nothing,
        Blocking,
        5.0,
    ),
    NoOptions(),
)


def settings_of(w: World, *more: PeripheralSettings) -> Any:
    settings = read(w.config, declared(), w.folder)
    return replace(settings, peripherals=(*settings.peripherals, *more))


async def test_f70_event_loop_that_stalls_does_not_feed_the_watchdog(tmp_path: Path, service_manager: ServiceManager) -> None:
    Blocking.stalls, Blocking.armed = [], False
    async with world(tmp_path) as w:
        agent = Agent(settings_of(w, BLOCKING), w.state_dir, SimulatedMachine(tmp_path / "machine"))
        stop = asyncio.Event()
        running = asyncio.create_task(agent.run(stop))
        try:
            await until(lambda: len(service_manager.fed()) >= 4, "a watchdog that is fed")
            assert service_manager.said("READY=1")
            before = service_manager.fed()
            assert max(after - at for at, after in itertools.pairwise(before)) < WATCHDOG_S, "systemd would have killed it"
            Blocking.armed = True
            Blocking.signals.wake()
            await until(lambda: Blocking.stalls, "the stall")
            ((since_s, until_s),) = Blocking.stalls
            assert [at_s for at_s in service_manager.fed() if since_s < at_s < until_s] == []
            assert until_s - max(at_s for at_s in service_manager.fed() if at_s <= since_s) > WATCHDOG_S
            await until(lambda: service_manager.fed()[-1] > until_s, "fed again: nothing was left broken")
        finally:
            stop.set()
            await running
        assert service_manager.said("STOPPING=1")


async def test_f70_distant_faults_do_not_starve_the_watchdog(tmp_path: Path, service_manager: ServiceManager) -> None:
    """The other half: no broker, and a printer that does not answer, for several times the watchdog's patience."""
    async with world(tmp_path) as w, FakeBroker(connack=lambda _: None) as broker:
        w.config["broker"] = {"url": broker.url}
        w.printer.behaviour.mute = True
        agent = Agent(settings_of(w), w.state_dir, SimulatedMachine(tmp_path / "machine"))
        stop = asyncio.Event()
        running = asyncio.create_task(agent.run(stop))
        try:
            await until(lambda: len(service_manager.fed()) >= 8, "a watchdog that is fed")
            fed = service_manager.fed()
            assert max(after - at for at, after in itertools.pairwise(fed)) < WATCHDOG_S
        finally:
            stop.set()
            await running


async def test_f71_two_agents_on_one_booth(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        first = await w.start_agent()
        session = w.observer.last("state")["session"]
        second = await w.start_agent(online=False)
        async with asyncio.timeout(10):
            assert await second.process.wait() == 1
        said = second.stderr()
        assert "another booth-agent" in said
        assert str(first.pid) in said
        assert str(w.state_dir) in said
        # The first was not disturbed, and the directory is free again when it ends, however it ends.
        assert first.process.returncode is None
        assert w.observer.last("state")["session"] == session
        await first.kill()
        third = await w.start_agent()
        assert third.process.returncode is None


async def test_f72_sigterm_in_the_middle_of_writing(tmp_path: Path) -> None:
    def logged() -> int:
        """Every change that an agent believed, whether stored or not."""
        return sum(len(re.findall(r"media-empty (?:raised|cleared)", agent.stderr())) for agent in w.agents)

    def seen() -> list[dict[str, Any]]:
        return list({event["id"]: event for event in w.observer.events()}.values())

    async with world(tmp_path) as w:
        for _ in range(3):
            w.printer.change(paper="plenty")  # a printer that waits for paper does not take the order to push
            agent = await w.start_agent()
            await w.until(lambda: w.printer.asked_to_push, "a printer that tells each change")
            burst = asyncio.create_task(paper_comes_and_goes(w))
            try:
                already = logged()
                await w.until(lambda already=already: logged() > already + 15, "a burst of events")  # type: ignore[misc]
                since_s = time.monotonic()
                assert await agent.stop() == 0
                assert time.monotonic() - since_s < 5
            finally:
                burst.cancel()
                await asyncio.gather(burst, return_exceptions=True)
            await w.until(lambda: w.observer.last("state")["state"] == "asleep", "asleep")
        w.printer.change(paper="plenty")
        await w.start_agent()
        await w.until(lambda: sum(e["code"] == "media-empty" for e in seen()) == logged(), "every change that was believed")
        lives = [*["started", "stopping"] * 3, "started"]
        await w.until(lambda: [e["code"] for e in seen() if e["class"] == "lifecycle"] == lives, "each start and each stop")
        assert [e["seq"] for e in seen()] == list(range(1, len(seen()) + 1))


async def paper_comes_and_goes(w: World) -> None:
    while True:
        for paper in ("out", "plenty"):
            w.printer.change(paper=paper)
            await asyncio.sleep(0.004)


async def test_f72_sigterm_ends_the_connection_in_order_so_that_asleep_is_the_last_word(tmp_path: Path) -> None:
    async with world(tmp_path) as w, FakeBroker() as broker:
        w.config["broker"] = {"url": broker.url}
        agent = await w.start_agent(online=False)
        await broker.until(lambda: any(b'"online"' in m.payload for m in broker.published()), "online")
        assert await agent.stop() == 0
        (session,) = broker.sessions
        await broker.until(lambda: session.ended_s is not None, "the end of the connection")
        states = [m.payload for m in session.published if m.topic.endswith("/state")]
        assert b'"asleep"' in states[-1]
        assert session.disconnected, "without DISCONNECT the broker says the Last Will ten seconds later"


async def test_f72_sigterm_without_a_broker_ends_in_time_too(tmp_path: Path) -> None:
    async with world(tmp_path) as w, FakeBroker(connack=lambda _: None) as broker:
        w.config["broker"] = {"url": broker.url}
        agent = await w.start_agent(online=False)
        await broker.until(lambda: broker.sessions and broker.sessions[0].connect, "CONNECT")
        since_s = time.monotonic()
        assert await agent.stop() == 0
        assert time.monotonic() - since_s < 5
