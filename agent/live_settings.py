"""Settings that change while the agent runs: each part is told what concerns it, and goes on from where it is."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.engine.checks import ActiveChecks
from agent.engine.echo import Echo
from agent.engine.publish import Publisher
from agent.engine.report import Booth, Reporter
from agent.engine.sessions import LongSession
from agent.engine.ward import Ward
from agent.engine.watch import Watch
from agent.peripherals import declared
from agent.rules.ladder import Limits
from agent.settings import PeripheralSettings, Settings, read
from agent.system import process
from agent.system.broker import Dialer
from agent.system.mqtt import Mqtt


@dataclass(frozen=True)
class Parts:
    """What goes by settings. `light_changed` is called where the light's have changed."""

    mqtt: Mqtt
    echo: Echo
    publisher: Publisher
    reporter: Reporter
    checks: ActiveChecks
    ward: Ward
    long_session: LongSession
    watches: Mapping[str, Watch]
    configured: dict[str, PeripheralSettings]
    light_changed: Callable[[], None]


class LiveSettings:
    """`written` is what the file and the operator's documents say, `current` what the booth runs with: `laid_over` may change
    what is written. `state_dir` remembers the broker's addresses."""

    def __init__(self, written: Settings, state_dir: Path) -> None:
        self.written = self.current = written
        self.laid_over: Callable[[Settings], Settings] = lambda settings: settings
        self._state_dir = state_dir
        self._parts: Parts | None = None
        self._former: Settings | None = None
        self._connection = asyncio.Event()

    def govern(self, parts: Parts) -> None:
        self._parts = parts

    def begin(self) -> None:
        """What is laid over is known, and nothing runs yet."""
        self.current = self.laid_over(self.written)
        self._adopt_options(self.written)

    def lay_over(self) -> None:
        """What is laid over has changed."""
        self._adopt(self.written)

    def connection_changed(self) -> None:
        """Connected, lost, or the echo was heard."""
        self._connection.set()

    def dialer(self) -> Dialer:
        return Dialer(self.current.broker, memory=self._state_dir / "broker-address")

    def adopt(self, settings: Mapping[str, Any]) -> None:
        """Run with them from now on, but for the broker. Raises Invalid."""
        self._adopt(replace(self._read(settings), broker=self.current.broker))

    async def reach(self, settings: Mapping[str, Any], within_s: float) -> bool:
        """Run with them, at the broker that they name. False where it was not reached within the time, or delivers nothing to
        us: a booth that hears no documents any more is cut off as well."""
        new = self._read(settings)
        self._former = self.written
        self._adopt(new)
        await self._redial()
        assert self._parts is not None
        try:
            async with asyncio.timeout(within_s):
                while not (self._parts.mqtt.connected and self._parts.echo.heard):
                    self._connection.clear()
                    await self._connection.wait()
        except TimeoutError:
            return False
        return True

    async def go_back(self) -> None:
        """Run with what was before `reach`, at the broker of then."""
        if self._former is not None:
            self._adopt(self._former)
            await self._redial()

    def ask_again(self) -> None:
        """Have the broker deliver what is retained once more."""
        assert self._parts is not None
        self._parts.mqtt.subscribe_again()

    async def _redial(self) -> None:
        assert self._parts is not None
        self._parts.echo.forget()
        await self._parts.mqtt.redial(self.dialer(), self._parts.reporter.goodbye())

    def _read(self, settings: Mapping[str, Any]) -> Settings:
        return replace(read(settings, declared(), self.current.file.parent), file=self.current.file)

    def _adopt(self, written: Settings) -> None:
        self.written, new = written, self.laid_over(written)
        parts, old = self._parts, self.current
        assert parts is not None
        if new == old:
            return
        self.current = new
        parts.checks.adopt(new.hours, new.appointments, new.checks.every_s)
        parts.ward.adopt(limits_of(new), heals=new.heal.enabled)
        parts.long_session.adopt(new.heal.longest_session_s)
        parts.publisher.heartbeat_s = new.reporting.heartbeat_s
        self._adopt_options(old)
        if new.light != old.light:
            parts.light_changed()
        parts.reporter.adopt(with_settings(parts.reporter.booth, new))
        if new.reporting.heartbeat_s != old.reporting.heartbeat_s:
            parts.publisher.refresh_expiring()  # what was said before would be gone long before a slower heartbeat
        asyncio.get_running_loop().call_later(1.0, process.return_free_memory)  # of a large document, once it was said

    def _adopt_options(self, old: Settings) -> None:
        parts = self._parts
        assert parts is not None
        before = {item.name: item for item in old.peripherals}
        for item in self.current.peripherals:
            if item.name in before and item.options != before[item.name].options:
                parts.configured[item.name] = item
                parts.watches[item.name].adopt(item.options)


def limits_of(settings: Settings) -> Limits:
    return Limits(settings.heal.per_day, settings.heal.retry_s)


def with_settings(booth: Booth, settings: Settings) -> Booth:
    """What is said of the booth, by these settings."""
    return replace(
        booth,
        hours=settings.hours,
        services=settings.services,
        heartbeat_s=settings.reporting.heartbeat_s,
        telemetry_s=settings.reporting.telemetry_s,
        alarm_after_s=settings.reporting.alarm_after_s,
        checks_every_s=settings.checks.every_s,
    )
