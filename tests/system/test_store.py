"""The store's async face: one flush at a time, memory while there is no disk, and an end in time."""

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.system import store as store_module
from agent.system.outbox import OutboxFile
from agent.system.outbox_rows import PRIORITY_ALARM, PRIORITY_INFO, PRIORITY_ROUTINE, Batch, Draft, Limits, Stamp
from agent.system.store import MEMORY_LIMIT, Store


def stamp() -> Stamp:
    return Stamp("2026-11-22T10:00:00.000Z", 1, "synced", "boot")


def draft(number: int, priority: int = PRIORITY_ROUTINE) -> Draft:
    return Draft("health", "tick", "board", {"n": number}, stamp(), priority)


class Disk:
    """Stands before a store's file: holds a write back, or lets it fail."""

    def __init__(self, store: Store) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.batches: list[Batch] = []
        file: OutboxFile = store._file
        write = file.write

        def guarded(batch: Batch) -> int:
            self.batches.append(batch)
            assert self.gate.wait(20)
            if self.error is not None:
                raise self.error
            return write(batch)

        file.write = guarded  # type: ignore[method-assign]

    async def another_try(self) -> None:
        tries = len(self.batches)
        await until(lambda: len(self.batches) > tries)


def disk_full() -> Exception:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorname = "SQLITE_FULL"
    return error


@asynccontextmanager
async def opened(folder: Path, **options: Any) -> AsyncIterator[Store]:
    store = Store(folder / "store.db", stamp, **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(autouse=True)
def quick_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RETRY_S", 0.02)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def condition_of(store: Store) -> str:
    return store.condition


async def stored(store: Store) -> list[dict[str, Any]]:
    found: list[Any] = []
    while batch := await store.pending(found[-1].position if found else 0, 50):
        found += batch
    return [json.loads(event.body) for event in found]


def numbers(events: Sequence[dict[str, Any]]) -> list[int]:
    return [event["data"]["n"] for event in events if event["code"] == "tick"]


async def test_what_is_flushed_is_on_disk_and_outlives_the_store(tmp_path: Path) -> None:
    told: list[int] = []
    async with opened(tmp_path, on_stored=lambda: told.append(1)) as store:
        store.append(draft(1))
        store.save("alarms", ["a"])
        assert told == []
        assert await store.flushed(10)
        assert told == [1]
        assert store.depth == 1
    store = Store(tmp_path / "store.db", stamp)
    assert await store.open() == {"alarms": ["a"]}
    assert numbers(await stored(store)) == [1]
    await store.close()


async def test_events_that_come_during_a_flush_go_together_in_the_next(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        disk = Disk(store)
        disk.gate.clear()
        store.append(draft(1))
        await until(lambda: disk.batches)
        store.append(draft(2))
        store.append(draft(3))
        waiting = asyncio.create_task(store.flushed(20))
        await asyncio.sleep(0)
        disk.gate.set()
        assert await waiting, "also waits for what was queued while a flush was running"
        assert [len(batch.drafts) for batch in disk.batches] == [1, 2]
        assert [event["seq"] for event in await stored(store)] == [1, 2, 3]


async def test_a_failed_flush_is_repeated_in_order_and_says_its_condition(tmp_path: Path) -> None:
    conditions: list[str] = []
    told: list[int] = []
    async with opened(tmp_path, on_stored=lambda: told.append(1)) as store:
        store.on_condition = lambda: conditions.append(store.condition)
        disk = Disk(store)
        disk.error = disk_full()
        store.append(draft(1))
        await until(lambda: conditions == ["full"])
        store.append(draft(2))
        assert not await store.flushed(0.1)
        assert told == []
        disk.error = None
        assert await store.flushed(20)
        assert conditions == ["full", "ok"]
        assert [event["seq"] for event in await stored(store)] == [1, 2]
        assert numbers(await stored(store)) == [1, 2]


async def test_an_error_that_nobody_foresaw_ends_neither_the_thread_nor_the_store(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        disk = Disk(store)
        disk.error = TypeError("a damaged row made this of our code")
        store.append(draft(1))
        await until(lambda: condition_of(store) == "failed")
        disk.error = None
        assert await store.flushed(20)
        assert numbers(await stored(store)) == [1]


async def test_memory_without_a_disk_is_bounded_drops_the_least_first_and_counts_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        disk = Disk(store)
        disk.error = disk_full()
        store.append(draft(0))
        await until(lambda: condition_of(store) == "full")
        for n in range(1, 101):
            store.append(draft(n, PRIORITY_INFO))
        for n in range(101, 201):
            store.append(draft(n, PRIORITY_ALARM))
        for n in range(201, MEMORY_LIMIT + 301):
            store.append(draft(n))
        assert len(store._batch.drafts) <= MEMORY_LIMIT
        disk.error = None
        assert await store.flushed(20)
        events = await stored(store)
        assert [event["seq"] for event in events] == list(range(1, MEMORY_LIMIT + 2))
        kept = numbers(events)
        assert len(kept) == MEMORY_LIMIT
        assert kept == [*range(101, 201), *range(401, MEMORY_LIMIT + 301)]
        assert events[0]["code"] == "gap", "in the place of what is missing"
        assert events[0]["data"] == {
            "reason": "store-failed", "stream": None, "first_seq": None, "last_seq": None, "count": 301,
        }  # fmt: skip


async def test_the_count_of_what_was_shed_survives_a_second_failure(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        disk = Disk(store)
        disk.error = disk_full()
        for n in range(MEMORY_LIMIT + 50):
            store.append(draft(n, PRIORITY_ALARM))
        await until(lambda: condition_of(store) == "full")
        for n in range(MEMORY_LIMIT + 50, MEMORY_LIMIT + 80):
            store.append(draft(n, PRIORITY_ALARM))
        tries = len(disk.batches)
        await until(lambda: len(disk.batches) > tries + 2)
        disk.error = None
        assert await store.flushed(20)
        events = await stored(store)
        assert [event["data"]["count"] for event in events if event["code"] == "gap"] == [80]
        assert len(numbers(events)) == MEMORY_LIMIT


async def test_a_store_that_could_not_be_opened_begins_when_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "not-yet"
    store = Store(folder / "store.db", stamp)
    assert await store.open() == {}
    assert condition_of(store) == "failed"
    store.append(draft(1))
    assert not await store.flushed(0.1)
    folder.mkdir()
    assert await store.flushed(20)
    assert condition_of(store) == "ok"
    assert [(event["seq"], event["data"]["n"]) for event in await stored(store)] == [(1, 1)]
    await store.close()


async def test_damage_that_is_found_while_running_is_told(tmp_path: Path) -> None:
    told: list[int] = []
    async with opened(tmp_path, on_stored=lambda: told.append(1)) as store:
        for n in range(100):
            store.append(draft(n))
        assert await store.flushed(20)
        (tmp_path / "store.db").write_bytes(bytes(4096))
        store.append(draft(100))
        assert await store.flushed(20)
        assert condition_of(store) == "damaged"
        events = await stored(store)
        assert [event["code"] for event in events] == ["gap", "tick"]
        assert len(told) >= 2


async def test_closing_does_not_wait_for_a_disk_that_does_not_answer(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", stamp)
    await store.open()
    disk = Disk(store)
    disk.gate.clear()
    store.append(draft(1))
    await until(lambda: disk.batches)
    started_s = time.monotonic()
    await store.close(deadline_s=0.3)
    assert time.monotonic() - started_s < 5
    disk.gate.set()  # the thread ends by itself once the disk answers: the fixture that looks for threads knows
    again = Store(tmp_path / "store.db", stamp)
    await until(lambda: not store._thread.is_alive())
    await again.open()
    assert numbers(await stored(again)) == [1]
    await again.close()


async def test_opening_does_not_wait_for_a_disk_that_does_not_answer(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", stamp)
    gate = threading.Event()
    open_file = store._file.open

    def held() -> Any:
        assert gate.wait(20)
        return open_file()

    store._file.open = held  # type: ignore[method-assign]
    assert await store.open(deadline_s=0.1) == {}
    assert condition_of(store) == "hangs"
    store.append(draft(1))
    gate.set()
    assert await store.flushed(20)
    assert condition_of(store) == "ok"
    assert numbers(await stored(store)) == [1]
    await store.close()


async def test_a_disk_that_hangs_is_told_and_told_again_when_it_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "HANGS_AFTER_S", 0.05)
    async with opened(tmp_path) as store:
        disk = Disk(store)
        disk.gate.clear()
        store.append(draft(1))
        await until(lambda: condition_of(store) == "hangs")
        disk.gate.set()
        await until(lambda: condition_of(store) == "ok")
        assert numbers(await stored(store)) == [1]


async def test_closing_on_a_full_disk_tries_once_more_and_ends(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", stamp)
    await store.open()
    disk = Disk(store)
    disk.error = disk_full()
    store.append(draft(1))
    await until(lambda: condition_of(store) == "full")
    disk.error = None
    await store.close(deadline_s=5)
    again = Store(tmp_path / "store.db", stamp)
    await again.open()
    assert numbers(await stored(again)) == [1]
    await again.close()


async def test_acknowledgements_that_wait_for_a_disk_do_not_pile_up(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=Limits(events=100)) as store:
        store.append(draft(1))
        assert await store.flushed(20)
        (event,) = await store.pending(0, 5)
        disk = Disk(store)
        disk.error = disk_full()
        for _ in range(50):  # sent again at every reconnection
            store.acknowledge(event.position)
            await disk.another_try()
        await until(lambda: store._flushing is None or store._retry is not None)
        assert len(store._batch.acknowledged) <= 2
        disk.error = None
        assert await store.flushed(20)
        assert store.depth == 0
