"""Rows 33 and 35 of the fault catalogue: a clock that is wrong, and a clock that jumps."""

import asyncio
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agent import RELEASED_AT
from agent.app import Agent
from agent.machine import Machine
from agent.peripherals import declared
from agent.settings import load
from agent.system.clock import rfc3339
from tests.world import World, world

YEAR_S = 365.25 * 86400
TIMES = ("ts", "at", "since", "checked_at")  # every key of the contract that holds a time


def times_in(payload: Any) -> list[str]:
    """Every time in a payload, at any depth."""
    if isinstance(payload, dict):
        own = [value for key, value in payload.items() if key in TIMES and isinstance(value, str)]
        return own + [found for value in payload.values() for found in times_in(value)]
    if isinstance(payload, list):
        return [found for item in payload for found in times_in(item)]
    return []


def all_times(w: World) -> list[str]:
    return [found for m in w.observer.messages if m.payload[:1] == b"{" for found in times_in(m.json)]


def faked(wall: str) -> dict[str, str]:
    """What the faketime program sets; around an agent it would itself be the one that gets the signals."""
    said = subprocess.run(["faketime", "-f", wall, "env"], check=True, capture_output=True, text=True).stdout
    preload = next(line.partition("=")[2] for line in said.splitlines() if line.startswith("LD_PRELOAD="))
    return {"LD_PRELOAD": preload, "FAKETIME": wall, "DONT_FAKE_MONOTONIC": "1", "TZ": "UTC"}


@pytest.mark.parametrize("saved_years", [0, 2])
async def test_f33_a_clock_that_says_1970_is_replaced_by_the_floor_in_every_timestamp(tmp_path: Path, saved_years: int) -> None:
    floor_s = RELEASED_AT + saved_years * YEAR_S
    async with world(tmp_path) as w:
        if saved_years:
            (w.state_dir / "clock-floor").write_text(f"{floor_s:.0f}\n")
        agent = await w.start_agent(env=faked("@1970-01-01 00:10:00"))
        assert w.observer.last("state")["clock"] == "unsynced"
        await w.until(lambda: w.observer.last("health/receipt-printer"))
        w.printer.change(paper="out")
        alarm = await w.until(lambda: w.observer.last("alarm/receipt-printer/media-empty"))
        assert alarm["clock"] == "unsynced"
        board = await w.until(lambda: w.observer.last("health/board"))
        assert board["facts"]["clock_below_floor"] is True
        event = await w.until(lambda: next((e for e in w.observer.events() if e["code"] == "media-empty"), None))
        assert event["clock"] == "unsynced"
        assert await agent.stop() == 0

        times = all_times(w)
        assert len(times) > 10
        assert min(times) >= rfc3339(floor_s)
        assert max(times) < rfc3339(floor_s + 3600), "the floor ticks on, it does not jump"
        assert alarm["since"] > rfc3339(floor_s), "by its own seconds"
        floor_file = w.state_dir / "clock-floor"
        assert not floor_file.exists() or float(floor_file.read_text()) == floor_s, "a clock that is wrong moves no floor"


class JumpingTimes:
    """A wall clock that a test can move, over the real monotonic one."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def wall_s(self) -> float:
        return RELEASED_AT + YEAR_S + time.monotonic() % 1e6 + self.offset_s

    def mono_s(self) -> float:
        return time.monotonic()

    def kernel_synced(self) -> bool:
        return True


@pytest.mark.parametrize("years", [10, -10])
async def test_f35_a_clock_that_jumps_moves_no_timer(tmp_path: Path, years: int) -> None:
    times = JumpingTimes()
    async with world(tmp_path, reporting={"alarm_after_s": 3}) as w:
        see = w.observer
        stop = asyncio.Event()
        settings = load(w.write_config(), declared())
        running = asyncio.create_task(Agent(settings, w.state_dir, Machine(times=times)).run(stop))
        try:
            await w.until(lambda: (see.last("state") or {}).get("state") == "online")
            await w.until(lambda: (see.last("health/receipt-printer") or {}).get("status") == "ok")
            floor = float((w.state_dir / "clock-floor").read_text())

            w.printer.change(paper="out")
            health = await w.until(lambda: see.codes("receipt-printer") and see.last("health/receipt-printer"))
            raised_s = see.retained[_topic(w, "health/receipt-printer")].at_s
            times.offset_s = years * YEAR_S  # while the alarm's time runs
            alarm = await w.until(lambda: see.last("alarm/receipt-printer/media-empty"))
            waited_s = see.retained[_topic(w, "alarm/receipt-printer/media-empty")].at_s - raised_s
            assert waited_s > 1.5, "not at once because ten years went by"
            assert alarm["since"] == health["findings"][0]["since"]

            times.offset_s = 0.0  # and back
            w.printer.change(paper="plenty")
            await w.until(lambda: see.last("alarm/receipt-printer/media-empty") is None, patience_s=15)
            await w.until(lambda: see.last("health/receipt-printer")["status"] == "ok")
            events = await w.until(lambda: [e for e in see.events() if e["code"] == "media-empty"][1:] and see.events())
        finally:
            stop.set()
            await running
        monotonic = [event["mono_ms"] for event in events]
        assert monotonic == sorted(monotonic)
        assert min(all_times(w)) >= rfc3339(floor - 1), "not even a clock ten years late says a time below the floor"
        changes = [(event["code"], event["data"]["change"]) for event in events if event["peripheral"] == "receipt-printer"]
        assert changes == [("media-empty", "raised"), ("media-empty", "cleared")], "no other alarm, no repetition"
        words = {event["clock"] for event in events}
        assert words <= ({"synced"} if years > 0 else {"synced", "unsynced"})


def _topic(w: World, topic: str) -> str:
    return next(name for name in w.observer.retained if name.endswith(f"/{topic}"))


def test_a_time_is_written_in_the_contracts_form() -> None:
    assert rfc3339(RELEASED_AT) == "2026-11-21T00:00:00.000Z"
    assert datetime.fromisoformat(rfc3339(RELEASED_AT + 0.5)).timestamp() == RELEASED_AT + 0.5
