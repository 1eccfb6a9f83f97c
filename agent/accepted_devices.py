"""Devices that a technician accepted in place of those that `agent.toml` names: the agent may not write there.

Each is laid over the settings, at the start and while the agent runs, for as long as the file says what it said then. Once it
says anything else, whoever wrote that knows better, and the acceptance is given up.
"""

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from agent.contract.event import EventClass
from agent.contract.typed import Invalid, build, plain
from agent.devices.sysfs import KernelFiles
from agent.devices.usb import UsbDevice, in_slot, shown
from agent.engine.watch import Watch
from agent.live_settings import LiveSettings
from agent.peripherals.declaration import NotAcceptable
from agent.settings import PeripheralSettings, Settings
from agent.verbs.declaration import NotDone, Result

log = logging.getLogger(__name__)

_ROW: Final = "accepted-devices"
_STORED_WITHIN_S: Final = 3.0


class Memory(Protocol):
    """The store."""

    def event(self, class_: EventClass, code: str, peripheral: str | None, data: dict[str, Any]) -> None: ...
    def save(self, key: str, value: Any) -> None: ...
    async def flushed(self, deadline_s: float) -> bool: ...


@dataclass(frozen=True)
class _Accepted:
    """What was written when it was accepted, and what counts since."""

    was: str
    now: str


class AcceptedDevices:
    """`remember` what the store had before anything is laid over."""

    def __init__(self, watches: Mapping[str, Watch], live: LiveSettings, files: KernelFiles, memory: Memory) -> None:
        self._watches = watches
        self._live = live
        self._files = files
        self._memory = memory
        self._accepted: dict[str, _Accepted] = {}
        live.laid_over = self._over

    def remember(self, state: Mapping[str, Any]) -> None:
        with contextlib.suppress(Invalid):
            self._accepted = build(dict[str, _Accepted], state.get(_ROW, {}), unknown="ignore")

    async def accept(self, name: str) -> Result:
        """The device that is plugged in at its place becomes the expected one. Raises NotDone."""
        watch = self._watches[name]
        acceptance = watch.peripheral.accept
        if acceptance is None:
            raise NotDone(f"write the new device of {name} into agent.toml, and restart the agent", "not-supported")
        was = _written(self._live.written, name)
        if was is None:
            raise NotDone(acceptance.otherwise, "not-supported")
        found = self._replacement(watch)
        expected = getattr(_item(self._live.current, name).options, acceptance.option)
        try:
            now = acceptance.name(was, found, self._files)
            _with(_item(self._live.written, name), now)
        except NotAcceptable as error:
            raise NotDone(str(error), found=shown(found)) from error
        except Invalid as error:
            raise NotDone(f"agent.toml could not name it: {error}", found=shown(found)) from error
        await self._keep(name, _Accepted(was, now))
        self._memory.event("config", "device-accepted", name, {"was": expected, "now": now})
        log.info("another device is the expected one: %s", now, extra={"peripheral": name})
        self._live.lay_over()
        then = {} if acceptance.then is None else {"then": acceptance.then}
        return {"was": expected, "now": now, "found": shown(found)} | then

    def _replacement(self, watch: Watch) -> UsbDevice:
        codes = [finding.code for finding in watch.judgement.findings]
        if "device-changed" not in codes or watch.port is None:
            raise NotDone("no other device was seen in its place: plug it in where the former one was", codes=codes)
        found = in_slot(self._files, watch.port.slot)
        if found is None or shown(found) == watch.port.held:
            raise NotDone(f"it is no longer plugged in at {watch.port.slot}", codes=codes)
        return found

    async def _keep(self, name: str, accepted: _Accepted) -> None:
        before = dict(self._accepted)
        self._accepted[name] = accepted
        self._save()
        if not await self._memory.flushed(_STORED_WITHIN_S):  # it would be forgotten with the next power cut
            self._accepted = before
            self._save()
            raise NotDone("the memory card takes nothing: see the health of booth")

    def _over(self, settings: Settings) -> Settings:
        """The settings with what was accepted; what no longer goes with them is given up."""
        stale = [name for name, accepted in self._accepted.items() if _written(settings, name) != accepted.was]
        for name in stale:
            del self._accepted[name]
            log.info("agent.toml names another device: what was accepted no longer counts", extra={"peripheral": name})
        if stale:
            self._save()
        if not self._accepted:
            return settings
        return replace(settings, peripherals=tuple(map(self._laid_over, settings.peripherals)))

    def _laid_over(self, item: PeripheralSettings) -> PeripheralSettings:
        accepted = self._accepted.get(item.name)
        return item if accepted is None else _with(item, accepted.now)

    def _save(self) -> None:
        self._memory.save(_ROW, plain(self._accepted))


def _item(settings: Settings, name: str) -> PeripheralSettings:
    return next(item for item in settings.peripherals if item.name == name)


def _written(settings: Settings, name: str) -> str | None:
    """How the settings name the device; None where another one could not be named in the same way."""
    for item in settings.peripherals:
        if item.name == name and (acceptance := item.peripheral.accept) is not None:
            value = getattr(item.options, acceptance.option)
            return value if value and acceptance.takes(value) else None
    return None


def _with(item: PeripheralSettings, now: str) -> PeripheralSettings:
    """Raises Invalid where the option cannot be that."""
    assert item.peripheral.accept is not None
    options: Any = build(item.peripheral.options, plain(item.options) | {item.peripheral.accept.option: now}, item.name)
    return replace(item, options=options)
