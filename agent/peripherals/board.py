"""The board: power, heat, memory card, memory, clock and services."""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from agent.contract.alarm import Text
from agent.contract.health import FactValue
from agent.contract.typed import Range
from agent.devices import board as device
from agent.peripherals.declaration import Peripheral, Signals, act
from agent.peripherals.surroundings import Surroundings
from agent.rules.declaration import Fact, FindingKind, Observed, Reading, threshold
from agent.rules.ladder import Remedy

Percent = Annotated[float, Range(0, 100)]


@dataclass(frozen=True)
class Options:
    """Limits, and intervals for what announces nothing. Heat and memory go at 5 units on the good side of their limit, storage at 1."""

    interval_s: Annotated[float, Range(5, 3600)] = 60.0
    units_interval_s: Annotated[float, Range(10, 86400)] = 300.0
    over_temperature_c: Annotated[float, Range(40, 110)] = 80.0
    storage_low_pct: Percent = 5.0
    storage_worn_pct: Percent = 90.0
    memory_low_pct: Percent = 5.0


def find(facts: Mapping[str, Any], options: Options) -> Iterable[Observed]:
    if facts["under_voltage"]:
        yield Observed("under-voltage")
    if facts["throttled"]:
        yield Observed("throttled")
    limit_c = options.over_temperature_c
    yield from threshold(
        "over-temperature", facts["temperature_c"], raises_at=limit_c, clears_at=limit_c - 5, detail_key="temperature_c"
    )
    yield from _storage(facts, options)
    low_pct = options.memory_low_pct
    yield from threshold(
        "memory-low", facts["memory_available_pct"], raises_at=low_pct, clears_at=low_pct + 5, detail_key="available_pct"
    )
    if facts["clock_below_floor"]:
        yield Observed("clock-unsynced", {"reason": "below-floor"}, severity="fault", certain=True)
    elif not facts["clock_synced"]:
        yield Observed("clock-unsynced", {"reason": "no-time-source"})
    if facts["failed_units"]:
        yield Observed("unit-failed", {"units": facts["failed_units"]})


def _storage(facts: Mapping[str, Any], options: Options) -> Iterable[Observed]:
    low_pct = options.storage_low_pct
    free_pct = facts["storage_free_pct"]
    if free_pct is not None and free_pct < _STORAGE_GONE_PCT:
        yield Observed("storage-low", {"free_pct": free_pct}, severity="fault")  # a scan finds no room any more
    else:
        yield from threshold("storage-low", free_pct, raises_at=low_pct, clears_at=low_pct + 1, detail_key="free_pct")
    if facts["storage_read_only"]:
        yield Observed("storage-read-only")
    used_pct = facts["storage_life_used_pct"]
    if used_pct is not None and used_pct >= options.storage_worn_pct:
        yield Observed("storage-worn", {"life_used_pct": used_pct})
    if facts["storage_error_count"]:
        yield Observed("storage-errors", {"count": facts["storage_error_count"]})


class BoardSource:
    """Power and mounts are announced by the kernel; the rest is read at an interval, from memory-backed files."""

    def __init__(self, options: Options, surroundings: Surroundings, signals: Signals) -> None:
        self._options = options
        self._surroundings = surroundings
        self._files = surroundings.files
        self._state_dir = str(surroundings.state_dir.resolve())  # mountinfo knows no symbolic links
        self._failed_units: str | None = None
        self._units_due_s = 0.0
        self._watches: list[Callable[[], None]] = []
        for name in device.announced(self._files):
            try:
                self._watches.append(self._files.watch(name, signals.wake))
            except OSError:
                continue  # not pollable on this kernel: the interval sees it

    async def probe(self, *, active: bool) -> Reading:
        del active
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._units_due_s:
            # The service manager announces no failed unit to those who do not speak D-Bus.
            self._units_due_s = now_s + self._options.units_interval_s  # also where this look is cut off at its deadline
            failed = await device.failed_units(self._files)
            self._failed_units = self._failed_units if failed is None else failed  # no answer is not a good one
        clock = self._surroundings.clock()
        power = device.power(self._files)
        storage = device.storage(self._files, self._state_dir, os.statvfs)
        facts: dict[str, FactValue] = {
            "under_voltage": power.under_voltage,
            "throttled": power.throttled,
            "temperature_c": device.temperature_c(self._files),
            "storage_free_pct": storage.free_pct,
            "storage_free_bytes": storage.free_bytes,
            "storage_read_only": storage.read_only,
            "storage_life_used_pct": storage.life_used_pct,
            "storage_error_count": storage.error_count,
            "memory_available_pct": device.memory_available_pct(self._files),
            "clock_synced": clock.synced,
            "clock_below_floor": clock.below_floor,
            "failed_units": self._failed_units,
        }
        return Reading(facts)

    def interval_s(self) -> float:
        return self._options.interval_s

    async def close(self) -> None:
        for stop in self._watches:
            stop()


_STORAGE_GONE_PCT: Final = 1.0
_INFERRED_S: Final = 120.0

_LADDER: Final = (
    Remedy("free-disk", frozenset({"storage-low"}), act("free-disk"), deadline_s=30.0, settle_s=1.0, cooldown_s=1800.0),
    Remedy("restart-units", frozenset({"unit-failed"}), act("restart-units"), deadline_s=30.0, settle_s=10.0, cooldown_s=600.0, max_attempts=2),
)  # fmt: skip

PERIPHERAL = Peripheral(
    kind="board",
    noun=Text("la carte de la borne", "the board"),
    options=Options,
    facts=(
        Fact("under_voltage", "boolean", "the supply is too weak right now; null where the board has no such sensor"),
        Fact("throttled", "boolean", "the processor runs slower to protect itself; null where the board does not tell"),
        Fact("temperature_c", "number", "the hottest thermal zone", "°C", telemetry=True),
        Fact("storage_free_pct", "number", "free space where the agent keeps its state", "%", telemetry=True),
        Fact("storage_free_bytes", "integer", "the same in bytes", "bytes"),
        Fact("storage_read_only", "boolean", "the file system of the state directory refuses writes"),
        Fact("storage_life_used_pct", "integer", "wear that the memory chip itself reports; null for most SD cards", "%"),
        Fact("storage_error_count", "integer", "errors that ext4 has recorded since its last check"),
        Fact("memory_available_pct", "number", "memory that could be used without swapping", "%", telemetry=True),
        Fact("clock_synced", "boolean", "a time source keeps the clock, and it is not below the floor"),
        Fact("clock_below_floor", "boolean", "the clock shows a time that has certainly passed"),
        Fact("failed_units", "string", "names of failed systemd units, empty if none; null without systemd, or while it does not answer"),
    ),
    findings=(
        FindingKind(
            "under-voltage", "warning", "technician",
            Text("L'alimentation de la borne est trop faible.", "The booth's power supply is too weak."),
            clear_after_s=60.0, part="power supply and cable",
        ),
        FindingKind(
            "throttled", "warning", "technician",
            Text("La borne ralentit pour se protéger.", "The board runs slower to protect itself."), clear_after_s=60.0,
        ),
        FindingKind(
            "over-temperature", "warning", "technician",
            Text("La borne chauffe trop.", "The booth is too hot: its vents need cleaning."), raise_after_s=60.0,
        ),
        FindingKind(
            "storage-low", "warning", "auto",
            Text("La mémoire de la borne est presque pleine.", "The booth's disk is nearly full."),
        ),
        FindingKind(
            "storage-read-only", "fault", "technician",
            Text("La carte mémoire de la borne refuse d'écrire.", "The memory card refuses writes."), part="SD card",
        ),
        FindingKind(
            "storage-worn", "warning", "technician",
            Text("La carte mémoire de la borne est usée.", "The memory chip is worn."), part="SD card",
        ),
        FindingKind(
            "storage-errors", "warning", "technician",
            Text("La carte mémoire de la borne fait des erreurs.", "The file system has recorded errors."), part="SD card",
        ),
        FindingKind(
            "memory-low", "warning", "auto",
            Text("La borne manque de mémoire.", "The booth is short of memory."), raise_after_s=_INFERRED_S,
        ),
        FindingKind(
            "clock-unsynced", "warning", "auto",
            Text("L'heure de la borne n'est pas vérifiée.", "The booth's clock is not verified."), raise_after_s=600.0,
        ),
        FindingKind(
            "unit-failed", "warning", "remote",
            Text("Un programme de la borne s'est arrêté.", "A service of the booth has failed."),
        ),
    ),
    find=find,
    open=BoardSource,
    deadline_s=8.0,
    ladder=_LADDER,
)  # fmt: skip
