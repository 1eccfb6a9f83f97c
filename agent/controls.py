"""What commands may do with the booth: each verb's hands, on the parts that `app` wired."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from agent.contract.command import Reason
from agent.contract.words import printable
from agent.engine.heal import Acts, Healer
from agent.engine.modes import Mode
from agent.engine.payloads import status_of
from agent.engine.watch import Watch
from agent.peripherals.declaration import TestFailed
from agent.peripherals.document_printer import PURGE
from agent.rules.declaration import Reading
from agent.system.clock import rfc3339
from agent.verbs.declaration import Heard, NotDone, Result

_GOES_DOWN_WITHIN_S: Final = 45.0
_DEVICE_WITHIN_S: Final = 10.0
# What root answers, where the contract has a word for it.
_REASONS: Final[Mapping[str, Reason]] = {
    "rate-limited": "rate-limited", "busy": "busy", "not-installed": "not-supported", "not-supported": "not-supported",
    "unknown-slot": "not-supported",
}  # fmt: skip
# Root's act, and the kind of peripheral whose slot it is.
_RESTARTS: Final = {
    "cups": ("restart-cups", "document-printer"),
    "network": ("restart-network", "network"),
    "browser": ("restart-kiosk", "kiosk"),
}
_GOOD: Final = ("ok", "degraded")


@dataclass(frozen=True)
class Extras:
    """What is not the engine's: the ticket, the bundle, another device in place of an expected one."""

    ticket: Callable[[], Awaitable[Result]] | None = None
    diagnostics: Callable[[str, int, Heard], Awaitable[Result]] | None = None
    accept_device: Callable[[str], Awaitable[Result]] | None = None


class BoothControls:
    """`agent.verbs.declaration.Controls`. `restart_agent` ends us, for systemd to start again; `looked_at` is told what was."""

    def __init__(
        self,
        watches: Mapping[str, Watch],
        healer: Healer,
        acts: Acts,
        maintenance: Mode,
        locating: Mode,
        restart_agent: Callable[[], None],
        looked_at: Callable[[str], None],
        extras: Extras,
    ) -> None:
        self._watches = watches
        self._healer = healer
        self._acts = acts
        self._maintenance = maintenance
        self._locating = locating
        self._restart_agent = restart_agent
        self._looked_at = looked_at
        self._extras = extras

    def able(self, ability: str) -> tuple[str, ...]:
        return tuple(name for name, watch in self._watches.items() if self._is_able(watch, ability))

    def _is_able(self, watch: Watch, ability: str) -> bool:
        peripheral = watch.peripheral
        match ability:
            case "probe":
                return True
            case "heal":
                return bool(peripheral.ladder)
            case "purge-queue":
                return any(chore.name == PURGE for chore in peripheral.chores)
            case "accept-device":
                return peripheral.pluggable and self._extras.accept_device is not None
            case "ticket":
                return peripheral.kind == "receipt-printer" and self._extras.ticket is not None
            case _:
                return any(test.name == ability for test in peripheral.tests)

    # --- looking ---

    async def probe(self, peripheral: str) -> Result:
        watch = self._watches[peripheral]
        return {"asked": await self._fresh(watch, active=True)} | _seen(watch)

    async def self_test(self, peripherals: tuple[str, ...], heard: Heard) -> Result:
        names = peripherals or tuple(self._watches)
        done = 0

        async def one(name: str) -> tuple[str, Result]:
            nonlocal done
            watch = self._watches[name]
            asked = await self._fresh(watch, active=True)
            done += 1
            heard(name, 100 * done // len(names))
            # One that could not even be opened is not left alone, but broken.
            passed = status_of(watch) in _GOOD if asked or watch.source is None else None
            return name, {"passed": passed} | _seen(watch)

        found = dict(await asyncio.gather(*map(one, names)))
        failed = sorted(name for name, result in found.items() if result["passed"] is False)
        if failed:
            raise NotDone(f"not well: {', '.join(failed)}", peripherals=found)
        # Not seen to be well: who wants to know whether it is mended has to ask again.
        return {"left_alone": [name for name, result in found.items() if result["passed"] is None], "peripherals": found}

    async def test(self, ability: str, peripheral: str) -> Result:
        watch = self._watches[peripheral]
        test = next(test for test in watch.peripheral.tests if test.name == ability)

        async def look() -> Reading:
            if await watch.look() is None:
                raise TestFailed("it cannot be asked now")
            self._looked_at(watch.name)
            return watch.reading

        async with self._device(watch, test.deadline_s):
            if watch.source is None:
                raise NotDone("the device could not be opened: see its health")
            try:
                async with asyncio.timeout(test.deadline_s):
                    return await test.run(watch.source, look)
            except TimeoutError as error:
                raise NotDone(f"the device did not finish in {test.deadline_s:g} s", codes=_codes(watch)) from error
            except TestFailed as failure:
                seen = {"codes": _codes(watch)} | failure.seen  # what the test itself saw may not be believed yet
                raise NotDone(str(failure), failure.reason, **seen) from failure

    async def _fresh(self, watch: Watch, *, active: bool) -> bool:
        asked = await watch.fresh(active=active)
        self._looked_at(watch.name)
        return asked

    @contextlib.asynccontextmanager
    async def _device(self, watch: Watch, for_s: float) -> AsyncIterator[None]:
        """The device for ourselves. A check of it is not waited for as long as it may take: a citizen may be waiting, too."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(_DEVICE_WITHIN_S):
                    await stack.enter_async_context(watch.held(for_s))
            except TimeoutError as error:
                raise NotDone("the device is being checked just now: ask again in a minute", "busy") from error
            yield

    # --- mending ---

    def has_remedy(self, peripheral: str, remedy: str | None) -> None:
        names = [rung.name for rung in self._watches[peripheral].peripheral.ladder if not rung.reboots]
        if remedy is not None and remedy not in names:
            raise NotDone(f"{peripheral} has no remedy {remedy}; it has {', '.join(names)}", "bad-args")

    async def heal(self, peripheral: str, remedy: str | None, heard: Heard) -> Result:
        watch = self._watches[peripheral]
        tended = await self._healer.tend(watch, remedy, heard)
        tried = [{"remedy": name, "outcome": outcome} for name, outcome in tended.tried]
        if tended.stopped == "session-active":
            raise NotDone("a citizen came in between: she goes first", "session-active", tried=tried)
        if tended.stopped is not None:
            raise NotDone(f"nothing is healed now: {tended.stopped}", tried=tried)
        if tried and tried[-1]["outcome"] != "cured":
            raise NotDone("nothing of it helped", tried=tried, **_seen(watch))
        return {"tried": tried} | _seen(watch)

    async def purge(self, peripheral: str) -> Result:
        watch = self._watches[peripheral]
        chore = next(chore for chore in watch.peripheral.chores if chore.name == PURGE)
        _raise_unless_done(await self._healer.tidy(watch, chore) or "done")
        return _seen(watch)

    async def accept_device(self, peripheral: str) -> Result:
        if self._extras.accept_device is None:
            raise NotDone("this booth keeps to the devices of its agent.toml", "not-supported")
        return await self._extras.accept_device(peripheral)

    def maintain(self, for_s: float) -> Result:
        until_s = self._maintenance.begin(for_s)
        on = self._maintenance.on
        return {"on": on} | ({"until": rfc3339(until_s)} if on else {})

    def has_to_restart(self, what: str) -> None:
        if what != "agent":
            self._to_restart(_RESTARTS[what][1])

    def _to_restart(self, kind: str) -> Watch:
        watch = next((watch for watch in self._watches.values() if watch.peripheral.kind == kind), None)
        if watch is None:
            raise NotDone(f"this booth has no {kind}", "not-supported")
        return watch

    async def restart(self, what: str) -> Result:
        if what == "agent":
            self._restart_agent()
            await asyncio.sleep(_GOES_DOWN_WITHIN_S)
            raise NotDone("the agent did not end")
        act, kind = _RESTARTS[what]
        watch = self._to_restart(kind)
        async with self._healer.alone():
            _raise_unless_done(await self._acts.act(act, watch.name))
        await self._fresh(watch, active=False)
        return _seen(watch)

    async def reboot(self) -> Result:
        boards = [watch.name for watch in self._watches.values() if watch.peripheral.kind == "board"]
        async with self._healer.alone():
            _raise_unless_done(await self._acts.act("reboot", boards[0] if boards else "board"))
        await asyncio.sleep(_GOES_DOWN_WITHIN_S)
        raise NotDone("root did it, and the board is still up")

    # --- the booth as a whole ---

    def locate(self, for_s: float) -> Result:
        return {"until": rfc3339(self._locating.begin(for_s))}

    async def ticket(self) -> Result:
        if self._extras.ticket is None:
            raise NotDone("this booth has no receipt printer", "not-supported")
        return await self._extras.ticket()

    async def diagnostics(self, id_: str, max_bytes: int, heard: Heard) -> Result:
        if self._extras.diagnostics is None:
            raise NotDone("this booth makes no bundle", "not-supported")
        return await self._extras.diagnostics(id_, max_bytes, heard)


def _seen(watch: Watch) -> Result:
    checked = watch.judgement.checked
    return {
        "status": status_of(watch),
        "codes": _codes(watch),
        "facts": watch.peripheral.all_facts(watch.reading),
        "checked_at": checked.wall if checked else None,
    }


def _codes(watch: Watch) -> list[str]:
    return [finding.code for finding in watch.judgement.findings]


def _raise_unless_done(code: str) -> None:
    if code != "done":
        raise NotDone(f"root did not do it: {printable(code)}", _REASONS.get(code))
