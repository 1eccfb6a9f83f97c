"""What must outlive a power cut: the event queue, and what was believed of the booth.

One SQLite file with a rollback journal and `synchronous=FULL`: a commit that returned is on the
card, and a file cut short is noticed when it is opened (`docs/decisions/0003` tells why not WAL).
Every row carries a checksum, since SQLite has none of its own.

All of it happens in one thread, since a tired card can hold an fsync for seconds. What cannot be
stored waits in memory, bounded; it gets its number, and is sent, once it is stored.
"""

import asyncio
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from agent.system.outbox import PRIORITY_ALARM, Batch, Draft, Limits, Opened, OutboxFile, Stamp, StoredEvent

T = TypeVar("T")
Condition = Literal["ok", "full", "damaged", "failed", "hangs"]

MEMORY_LIMIT: Final = 1000  # events that wait for a disk
RETRY_S: Final = 10.0
HANGS_AFTER_S: Final = 10.0


class Store:
    """The async face of the store. Create it on the running loop, then `await open()`.

    `on_stored` is called after events were stored; `on_condition` when `condition` changes.
    """

    def __init__(
        self,
        file: Path,
        stamp: Callable[[], Stamp],
        limits: Limits | None = None,
        on_stored: Callable[[], None] = lambda: None,
        on_condition: Callable[[], None] = lambda: None,
    ) -> None:
        self._file = OutboxFile(file, limits or Limits(), stamp)
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._batch = Batch()
        self._flushing: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closing = False
        self._shed_count = 0
        self._stamp = stamp
        self.on_stored = on_stored
        self.on_condition = on_condition
        self.condition: Condition = "ok"
        self.depth = 0  # events stored and not yet acknowledged

    async def open(self) -> dict[str, Any]:
        """Open or make the file; returns the saved state by key. A damaged file is set aside, and a gap said."""
        self._thread.start()
        try:
            opened: Opened = await self._in_thread(self._file.open)
        except (sqlite3.Error, OSError) as error:
            self._set_condition(_condition_of(error))
            return {}
        self.depth = opened.depth
        if opened.damaged:
            self._set_condition("damaged")
        return opened.state

    def append(self, draft: Draft) -> None:
        """Queue an event. It counts as said once it is on disk; `flushed` waits for that."""
        self._batch.drafts.append(draft)
        if self.condition in ("full", "failed", "hangs"):
            self._shed()
        self._flush_soon()

    def save(self, key: str, value: Any) -> None:
        """Remember plain JSON under `key`, in the same transaction as the events queued now."""
        self._batch.state[key] = value
        self._flush_soon()

    def acknowledge(self, position: int) -> None:
        """The broker has this event: forget it."""
        self._batch.acknowledged.append(position)
        self._flush_soon()

    def bury(self, position: int, reason: str) -> None:
        """The broker will never take this event: to the dead letters, so that the rest goes on."""
        self._batch.dead.append((position, reason))
        self._flush_soon()

    async def pending(self, after: int, limit: int) -> Sequence[StoredEvent]:
        """The oldest stored events behind position `after`."""
        try:
            return await self._in_thread(lambda: self._file.pending(after, limit))
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            return []

    async def flushed(self, deadline_s: float) -> bool:
        """Wait until everything queued is on disk; False where it is not by the deadline."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(waiter)
        self._flush_soon()
        try:
            async with asyncio.timeout(deadline_s):
                await waiter
        except TimeoutError:
            return False
        return True

    async def close(self, deadline_s: float = 2.0) -> None:
        """Write what is left and close the file, but do not wait for a disk that does not answer."""
        await self.flushed(deadline_s)
        self._closing = True
        if self._retry is not None:
            self._retry.cancel()
        if self._flushing is not None:
            self._flushing.cancel()
        if self._thread.is_alive():
            try:
                await asyncio.wait_for(self._in_thread(self._file.close), deadline_s)
            except (TimeoutError, sqlite3.Error):
                return
            self._jobs.put(None)
            self._thread.join(deadline_s)

    # --- the flush: one at a time; what comes meanwhile goes together in the next ---

    def _flush_soon(self) -> None:
        if self._flushing is None and self._retry is None and not self._closing:
            self._flushing = self._loop.create_task(self._flush())

    async def _flush(self) -> None:
        try:
            while self._batch or self._waiting:
                batch, self._batch = self._batch, Batch()
                waiting, self._waiting = self._waiting, deque()
                try:
                    self.depth = await self._in_thread(lambda batch=batch: self._file.write(batch))  # type: ignore[misc]
                except (sqlite3.Error, OSError) as error:
                    self._put_back(batch, waiting)
                    self._failed(error)
                    return
                if self.condition in ("full", "failed", "hangs"):
                    self._set_condition("damaged" if self._file.was_damaged else "ok")
                self._say_what_was_shed()
                for waiter in waiting:
                    if not waiter.done():
                        waiter.set_result(None)
                if batch.drafts:
                    self.on_stored()
        finally:
            self._flushing = None

    def _put_back(self, batch: Batch, waiting: deque[asyncio.Future[None]]) -> None:
        newer = self._batch
        self._batch = Batch(
            batch.drafts + newer.drafts,
            batch.acknowledged + newer.acknowledged,
            batch.dead + newer.dead,
            batch.state | newer.state,
        )
        self._waiting = waiting + self._waiting
        self._shed()

    def _shed(self) -> None:
        """Keep at most `MEMORY_LIMIT` events without a disk: the oldest of the lowest priority go, counted."""
        drafts = self._batch.drafts
        while len(drafts) > MEMORY_LIMIT:
            lowest = min(draft.priority for draft in drafts)
            del drafts[next(index for index, draft in enumerate(drafts) if draft.priority == lowest)]
            self._shed_count += 1

    def _say_what_was_shed(self) -> None:
        if self._shed_count:
            data = {"reason": "store-failed", "stream": None, "first_seq": None, "last_seq": None, "count": self._shed_count}
            self._shed_count = 0
            self._batch.drafts.append(Draft("lifecycle", "gap", None, data, self._stamp(), PRIORITY_ALARM))

    def _failed(self, error: Exception) -> None:
        self._set_condition(_condition_of(error))
        if self._retry is None and not self._closing:
            self._retry = self._loop.call_later(RETRY_S, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._flush_soon()

    def _set_condition(self, condition: Condition) -> None:
        if condition != self.condition:
            self.condition = condition
            self.on_condition()

    # --- the thread ---

    async def _in_thread(self, call: Callable[[], T]) -> T:
        future: asyncio.Future[T] = self._loop.create_future()

        def job() -> None:
            try:
                outcome: tuple[T | None, Exception | None] = (call(), None)
            except (sqlite3.Error, OSError) as caught:
                outcome = (None, caught)
            try:
                self._loop.call_soon_threadsafe(_deliver, future, *outcome)
            except RuntimeError:  # the loop ended while the disk worked
                return

        overdue = self._loop.call_later(HANGS_AFTER_S, self._set_condition, "hangs")
        self._jobs.put(job)
        try:
            return await future
        finally:
            overdue.cancel()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _deliver(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _condition_of(error: Exception) -> Condition:
    text = str(error).lower()
    full = "full" in text or (isinstance(error, OSError) and error.errno in (28, 122))  # ENOSPC, EDQUOT
    return "full" if full else "failed"
