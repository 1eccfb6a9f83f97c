"""What time brings while the agent runs: the clock's floor, the watchdog, and the light that is configured."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from agent.contract.event import EventClass
from agent.contract.words import LightWord
from agent.engine.light import LightKeeper
from agent.engine.report import Priority
from agent.engine.watch import Watch
from agent.system import service_manager
from agent.system.clock import SAVE_EVERY_S, Clock
from agent.system.outbox_rows import PRIORITY_ALARM, PRIORITY_ROUTINE, Draft, Stamp
from agent.system.store import Store
from agent.system.threads import in_thread

log = logging.getLogger(__name__)

_LOOK_AT_CLOCK_S: Final = 60.0


async def keep_clock_floor(clock: Clock, witnessed: asyncio.Event) -> None:
    """Saved once the clock is synchronised, which may be long after the start, then every hour; and when `witnessed` lets the
    floor make up for the time without power."""
    while True:
        while not clock.synced():  # noqa: ASYNC110 - the kernel announces this to nobody
            await asyncio.sleep(_LOOK_AT_CLOCK_S)
        try:
            await in_thread(clock.save_floor, "clock-floor")
        except OSError as error:
            log.warning("the clock floor was not saved: %s", error.strerror)
        due_s = clock.mono_s() + SAVE_EVERY_S
        await asyncio.sleep(_LOOK_AT_CLOCK_S)  # whatever became of it
        while (left_s := due_s - clock.mono_s()) > 0 and not clock.floor_lags():
            witnessed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await witnessed.wait()


async def feed_watchdog(watches: Mapping[str, Watch]) -> None:
    """Fed by this loop, while the probe scheduler keeps its times: nothing distant can starve it."""
    interval_s = service_manager.watchdog_interval_s()
    if interval_s is None:
        return
    while True:
        late = [name for name, watch in watches.items() if not watch.on_time()]
        if late:
            log.error("the probe scheduler is late: %s", ", ".join(late))
        else:
            service_manager.notify("WATCHDOG=1")
        await asyncio.sleep(interval_s)


class ShownLight:
    """The light as it is configured, and as another configuration makes it; `keeper_of` makes its keeper, None where there is no
    light. `shown_anew` is called for another one."""

    def __init__(self, keeper_of: Callable[[], LightKeeper | None], shown_anew: Callable[[], None]) -> None:
        self._keeper_of = keeper_of
        self._shown_anew = shown_anew
        self._keeper = keeper_of()
        self._changed = asyncio.Event()

    def show(self, word: LightWord) -> None:
        if self._keeper is not None:
            self._keeper.show(word)

    def configured_anew(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            keeper = self._keeper
            running = None if keeper is None else asyncio.create_task(keeper.run())
            try:
                await self._changed.wait()
            finally:
                if running is not None:
                    running.cancel()
                    await asyncio.gather(running, return_exceptions=True)
            self._changed.clear()
            await self.close()  # LEDs that are no longer the light's must not go on saying something
            self._keeper = self._keeper_of()
            self._shown_anew()

    async def close(self) -> None:
        if self._keeper is not None:
            await self._keeper.close()


class Recorder:
    """The store, as the engine needs it: with the moment filled in."""

    def __init__(self, store: Store, stamp: Callable[[], Stamp]) -> None:
        self._store = store
        self._stamp = stamp

    def event(
        self, class_: EventClass, code: str, peripheral: str | None, data: dict[str, Any], priority: Priority = PRIORITY_ROUTINE
    ) -> None:
        self._store.append(Draft(class_, code, peripheral, data, self._stamp(), priority))

    def of_booth(self, class_: EventClass, code: str, data: dict[str, Any]) -> None:
        """Of no peripheral."""
        self.event(class_, code, None, data, PRIORITY_ALARM if class_ == "security" else PRIORITY_ROUTINE)

    def save(self, key: str, value: Any) -> None:
        self._store.save(key, value)

    async def flushed(self, deadline_s: float) -> bool:
        return await self._store.flushed(deadline_s)
