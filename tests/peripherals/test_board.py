"""What the board's facts mean, and what it announces by itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.peripherals import board
from agent.peripherals.board import PERIPHERAL, BoardSource, Options
from agent.peripherals.surroundings import ClockView
from agent.simulator.machine import SimulatedMachine
from tests.peripherals.surroundings import Around, Recorded

FINE: dict[str, Any] = {fact.name: None for fact in PERIPHERAL.facts} | {"clock_synced": True}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, []),
        ({"under_voltage": True}, ["under-voltage"]),
        ({"throttled": True}, ["throttled"]),
        ({"temperature_c": 80.0}, ["over-temperature"]),
        ({"storage_free_pct": 5.0}, ["storage-low"]),
        ({"storage_read_only": True}, ["storage-read-only"]),
        ({"storage_life_used_pct": 89}, []),
        ({"storage_life_used_pct": 90}, ["storage-worn"]),
        ({"storage_error_count": 0}, []),
        ({"storage_error_count": 1}, ["storage-errors"]),
        ({"memory_available_pct": 5.0}, ["memory-low"]),
        ({"clock_synced": False}, ["clock-unsynced"]),
        ({"failed_units": "cups.service"}, ["unit-failed"]),
        ({"failed_units": ""}, []),
        ({"under_voltage": False, "throttled": False, "storage_read_only": False}, []),
    ],
)
def test_findings_follow_from_facts(facts: dict[str, Any], expected: list[str]) -> None:
    assert [item.code for item in board.find(FINE | facts, Options())] == expected


@pytest.mark.parametrize(
    ("fact", "code", "raises", "holds", "clears"),
    [
        ("temperature_c", "over-temperature", 80.0, 75.1, 75.0),
        ("storage_free_pct", "storage-low", 5.0, 5.9, 6.0),
        ("memory_available_pct", "memory-low", 5.0, 9.9, 10.0),
    ],
)
def test_limits_have_hysteresis(fact: str, code: str, raises: float, holds: float, clears: float) -> None:
    (found,) = board.find(FINE | {fact: raises}, Options())
    assert (found.code, found.holds_only) == (code, False)
    (found,) = board.find(FINE | {fact: holds}, Options())
    assert (found.code, found.holds_only) == (code, True)
    assert not list(board.find(FINE | {fact: clears}, Options()))


def test_f33_a_clock_below_its_floor_is_a_fault_and_one_without_a_source_a_warning() -> None:
    (below,) = board.find(FINE | {"clock_synced": False, "clock_below_floor": True}, Options())
    assert (below.severity, below.detail) == ("fault", {"reason": "below-floor"})
    (unkept,) = board.find(FINE | {"clock_synced": False, "clock_below_floor": False}, Options())
    assert (unkept.severity, unkept.detail) == (None, {"reason": "no-time-source"})


class Probed:
    def __init__(self, folder: Path) -> None:
        self.machine = SimulatedMachine(folder / "machine")
        self.around = Around(self.machine.files, state_dir=folder)
        self.signals = Recorded()
        self.source = BoardSource(Options(), self.around.view, self.signals)

    async def codes(self) -> list[str]:
        reading = await self.source.probe(active=False)
        return [item.code for item in PERIPHERAL.findings_of(reading, Options())]


@asynccontextmanager
async def probed_board(folder: Path) -> AsyncIterator[Probed]:
    probed = Probed(folder)
    try:
        yield probed
    finally:
        await probed.source.close()


async def test_a_healthy_board_measures_every_declared_fact(tmp_path: Path) -> None:
    async with probed_board(tmp_path) as probed:
        reading = await probed.source.probe(active=False)
        assert set(reading.facts) == {fact.name for fact in PERIPHERAL.facts}
        assert await probed.codes() == []


async def test_weak_power_and_a_disk_that_turns_read_only_wake_the_probe(tmp_path: Path) -> None:
    async with probed_board(tmp_path) as probed:
        probed.machine.power(weak=True)
        assert probed.signals.wakes == 1
        assert await probed.codes() == ["under-voltage", "throttled"]
        probed.machine.power(weak=False)
        probed.machine.mount(read_only=True)
        assert probed.signals.wakes == 3
        assert await probed.codes() == ["storage-read-only"]
    probed.machine.mount(read_only=False)
    assert probed.signals.wakes == 3  # nothing is watched after close


async def test_the_state_directory_is_judged_where_it_really_lies(tmp_path: Path) -> None:
    machine = SimulatedMachine(tmp_path / "machine")
    (tmp_path / "data").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "data")
    machine.files.write(
        "proc/self/mountinfo", f"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / {tmp_path.resolve()}/data ro - ext4 /dev/b ro"
    )
    source = BoardSource(Options(), replace(Around(machine.files).view, state_dir=tmp_path / "state"), Recorded())
    assert (await source.probe(active=False)).facts["storage_read_only"] is True
    await source.close()


async def test_a_failed_unit_stays_failed_while_the_service_manager_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[str | None] = ["cups.service", None, ""]

    async def failed_units(_: object) -> str | None:
        return answers.pop(0)

    monkeypatch.setattr("agent.devices.board.failed_units", failed_units)
    async with probed_board(tmp_path) as probed:
        for expected in (["unit-failed"], ["unit-failed"], []):
            probed.source._units_due_s = 0.0
            assert await probed.codes() == expected


async def test_the_clock_is_what_the_surroundings_say(tmp_path: Path) -> None:
    async with probed_board(tmp_path) as probed:
        probed.around.clock = ClockView(synced=False, below_floor=True)
        assert await probed.codes() == ["clock-unsynced"]
