"""What must outlive a power cut: the event queue, and what was believed of the booth.

One SQLite file with a rollback journal and `synchronous=FULL`: a commit that returned is on the
card, and a file cut short is noticed when it is opened (`docs/decisions/0003` tells why not WAL).
Every row carries a checksum, since SQLite has none of its own.

All of it happens in one thread, since a tired card can hold an fsync for seconds. What cannot be
stored waits in memory, bounded; it gets its number, and is sent, once it is stored.
"""

import asyncio
import errno
import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from agent.system.outbox import OutboxFile
from agent.system.outbox_rows import PRIORITY_ALARM, Batch, Draft, Limits, Opened, Stamp, StoredEvent

log = logging.getLogger(__name__)

T = TypeVar("T")
Condition = Literal["ok", "full", "damaged", "failed", "hangs"]

MEMORY_LIMIT: Final = 1000  # events that wait for a disk
RETRY_S: Final = 10.0
ACKNOWLEDGED_TOGETHER: Final = 200
ACKNOWLEDGED_WITHIN_S: Final = 0.5
HANGS_AFTER_S: Final = 10.0

_NOTHING_STORED: Final = ("full", "failed", "hangs")


class _Failed(Exception):
    """The thread's answer where the file, or the disk under it, did not do it."""

    def __init__(self, condition: Condition) -> None:
        super().__init__(condition)
        self.condition: Condition = condition


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
        self._directory = file.parent
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._batch = Batch()
        self._flushing: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._later: asyncio.TimerHandle | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closing = False
        self._shed_count = 0
        self._stamp = stamp
        self.on_stored = on_stored
        self.on_condition = on_condition
        self.condition: Condition = "ok"
        self.depth = 0  # events stored and not yet acknowledged

    async def open(self, deadline_s: float = HANGS_AFTER_S) -> dict[str, Any]:
        """Open or make the file; returns the saved state by key. A damaged file is set aside, and a gap said.

        A disk that does not let it be opened, or not in time, is tried again later: the booth starts without its memory.
        """
        self._thread.start()
        try:
            opened: Opened = await asyncio.wait_for(self._in_thread(self._file.open), deadline_s)
        except TimeoutError:
            self._set_condition("hangs")
            return {}
        except _Failed as failure:
            self._set_condition(failure.condition)
            return {}
        self.depth = opened.depth
        if opened.damaged:
            self._set_condition("damaged")
        return opened.state

    def append(self, draft: Draft) -> None:
        """Queue an event. It counts as said once it is on disk; `flushed` waits for that."""
        self._batch.drafts.append(draft)
        if self.condition in _NOTHING_STORED:
            self._shed()
        self._flush_soon()

    def save(self, key: str, value: Any) -> None:
        """Remember plain JSON under `key`, in the same transaction as the events queued now; None forgets it."""
        self._batch.state[key] = value
        self._flush_soon()

    def acknowledge(self, position: int) -> None:
        """The broker has this event: forget it. Not at once: each transaction costs the card several writes."""
        self._batch.acknowledged.append(position)
        if len(self._batch.acknowledged) >= ACKNOWLEDGED_TOGETHER:
            self._flush_soon()
        elif self._later is None and not self._closing:
            self._later = self._loop.call_later(ACKNOWLEDGED_WITHIN_S, self._flush_acknowledged)

    def bury(self, position: int, reason: str) -> None:
        """The broker does not take this event: to the dead letters, so that the rest goes on; its number is told."""
        self._batch.dead.append((position, reason))
        self._flush_soon()

    async def pending(self, after: int, limit: int) -> Sequence[StoredEvent]:
        """The oldest stored events behind position `after`."""
        try:
            found = await self._in_thread(lambda: self._file.pending(after, limit))
        except _Failed as failure:
            self._failed(failure)
            return []
        if self.condition == "hangs":
            self._flush_soon()  # which finds out whether the disk is well again
        elif self.condition == "ok" and self._file.was_damaged:
            self._set_condition("damaged")
        return found

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

    async def close(self, deadline_s: float = 1.5) -> None:
        """Write what is left and close the file, but do not wait for a disk that does not answer."""
        self._cancel_retry()
        end_s = self._loop.time() + deadline_s
        await self.flushed(deadline_s)
        self._closing = True
        self._cancel_retry()
        if self._later is not None:
            self._later.cancel()
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
        if not self._thread.is_alive():
            return
        try:
            await asyncio.wait_for(self._in_thread(self._file.close), max(0.1, end_s - self._loop.time()))
        except TimeoutError:
            return
        except _Failed:
            pass
        finally:
            self._jobs.put(None)
        self._thread.join(deadline_s)

    # --- the flush: one at a time; what comes meanwhile goes together in the next ---

    def _flush_acknowledged(self) -> None:
        self._later = None
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._flushing is None and self._retry is None and not self._closing:
            self._flushing = self._loop.create_task(self._flush())

    async def _flush(self) -> None:
        try:
            while self._batch or self._waiting or self.condition in _NOTHING_STORED:
                batch, self._batch = self._batch, Batch()
                waiting, self._waiting = self._waiting, deque()
                shed, self._shed_count = self._shed_count, 0
                if shed:
                    batch.drafts.insert(0, self._gap(shed))
                try:
                    self.depth = await self._in_thread(lambda batch=batch: self._file.write(batch))  # type: ignore[misc]
                except _Failed as failure:
                    if shed:
                        del batch.drafts[0]
                        self._shed_count += shed
                    self._put_back(batch, waiting)
                    self._failed(failure)
                    return
                recovered = self.condition in _NOTHING_STORED
                self._set_condition("damaged" if self._file.was_damaged else "ok")
                for waiter in waiting:
                    if not waiter.done():
                        waiter.set_result(None)
                if batch.drafts or batch.dead or recovered:
                    self.on_stored()
        finally:
            self._flushing = None

    def _put_back(self, batch: Batch, waiting: deque[asyncio.Future[None]]) -> None:
        newer = self._batch
        self._batch = Batch(
            batch.drafts + newer.drafts,
            list(dict.fromkeys(batch.acknowledged + newer.acknowledged)),  # sent again, they are acknowledged again
            list(dict.fromkeys(batch.dead + newer.dead)),
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

    def _gap(self, count: int) -> Draft:
        data = {"reason": "store-failed", "stream": None, "first_seq": None, "last_seq": None, "count": count}
        return Draft("lifecycle", "gap", None, data, self._stamp(), PRIORITY_ALARM)

    def _failed(self, failure: _Failed) -> None:
        self._set_condition(failure.condition)
        if self._retry is None and not self._closing:
            self._retry = self._loop.call_later(RETRY_S, self._try_again)

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

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
            except Exception as error:  # noqa: BLE001 - whatever a damaged file makes of our code, the thread goes on
                log.warning("the store failed: %s: %s", type(error).__name__, error)
                outcome = (None, _Failed(_condition_of(error, self._directory)))
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


def _condition_of(error: Exception, directory: Path) -> Condition:
    name: str = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL" or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return "full"
    # A journal for which there is no inode, and an fsync that finds no room, are told by other names.
    return "full" if name.startswith(("SQLITE_CANTOPEN", "SQLITE_IOERR")) and _no_room(directory) else "failed"


def _no_room(directory: Path) -> bool:
    try:
        figures = os.statvfs(directory)
    except OSError:
        return False
    return figures.f_bavail == 0 or (figures.f_files > 0 and figures.f_favail == 0)
