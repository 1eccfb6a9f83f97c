"""A machine around one source, and the engine's side of it, for tests."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.devices.netlink import Links
from agent.devices.sysfs import KernelFiles
from agent.devices.workers import Workers
from agent.peripherals.surroundings import AgentView, BrokerView, ClockView, Surroundings
from agent.rules.declaration import Reading
from agent.simulator.machine import SimulatedLinks
from agent.system.session import SessionLock


class Recorded:
    """The engine, as a source sees it: keeps what it was told."""

    def __init__(self) -> None:
        self.reports: list[Reading] = []
        self.wakes = 0
        self.active_wakes = 0
        self._news = asyncio.Event()

    def report(self, reading: Reading) -> None:
        self.reports.append(reading)
        self._news.set()

    def wake(self, *, active: bool = False) -> None:
        self.wakes += 1
        self.active_wakes += active
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._news.clear()
                await self._news.wait()


class NobodyThere:
    """A booth without citizens."""

    openable = True
    ours = False

    def held(self) -> bool:
        return False

    @contextmanager
    def taken(self) -> Iterator[bool]:
        yield True


class Around:
    """Surroundings whose every part can be changed while a source lives in them. A `runtime_dir` has a session lock."""

    def __init__(
        self,
        files: KernelFiles | None = None,
        links: Links | None = None,
        state_dir: Path = Path("/"),
        runtime_dir: Path | None = None,
    ) -> None:
        self.broker = BrokerView("connected", "127.0.0.1", "127.0.0.1")
        self.clock = ClockView(synced=True, below_floor=False)
        self.agent = AgentView("ok", (), None)
        self.open = True
        self.resolve: Callable[[str], Awaitable[list[str]]] = _literal
        self._usb: list[Callable[[str, str], None]] = []
        self.view = Surroundings(
            files=files or KernelFiles(Path("/nowhere")),
            links=links or SimulatedLinks(),
            on_usb=self._on_usb,
            resolve=lambda host: self.resolve(host),  # noqa: PLW0108 - replaced later
            broker=self._broker,
            clock=lambda: self.clock,
            agent=lambda: self.agent,
            people_expected=lambda: self.open,
            workers=Workers(),
            session=NobodyThere() if runtime_dir is None else SessionLock(runtime_dir),
            state_dir=state_dir,
            runtime_dir=runtime_dir or state_dir,
        )

    def _on_usb(self, handler: Callable[[str, str], None]) -> Callable[[], None]:
        self._usb.append(handler)
        return lambda: self._usb.remove(handler)

    @property
    def listeners(self) -> int:
        """Who is told of the kernel's events."""
        links = self.view.links
        return len(self._usb) + (len(links._callbacks) if isinstance(links, SimulatedLinks) else 0)

    def usb_event(self, action: str) -> None:
        for handler in self._usb:
            handler(action, "/devices/somewhere")

    async def _broker(self) -> BrokerView:
        return self.broker


async def _literal(host: str) -> list[str]:
    return [host]
