"""The file behind the store: an SQLite database that notices damage and keeps to its size.

Synchronous; `system.store` runs it in its thread. Raises sqlite3.Error and OSError.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from agent.contract.decode import encode
from agent.contract.event import Event
from agent.contract.typed import plain
from agent.system import chance
from agent.system.outbox_rows import (
    MAX_POSITION,
    PAGE_BYTES,
    PRIORITY_ALARM,
    STREAM,
    Batch,
    Draft,
    Limits,
    Opened,
    Stamp,
    StoredEvent,
    checksum,
    intact_row,
    put_state,
    read_state,
)
from agent.system.salvage import Salvaged, salvage

T = TypeVar("T")

_DEAD_LETTERS: Final = 100
_SCHEMA: Final = """
CREATE TABLE outbox (position INTEGER PRIMARY KEY, stream TEXT NOT NULL, seq INTEGER NOT NULL,
                     priority INTEGER NOT NULL, class TEXT NOT NULL, body BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE state (key TEXT PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE dead_letter (number INTEGER PRIMARY KEY, class TEXT NOT NULL, body BLOB NOT NULL, reason TEXT NOT NULL);
"""
# Errors that say something of the disk, or of the moment; every other error of SQLite's blames the file.
# A sector that cannot be read is the file's: a new file lies elsewhere.
_THE_DISK: Final = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_BUSY", "SQLITE_LOCKED",
                    "SQLITE_NOMEM", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_INTERRUPT", "SQLITE_PROTOCOL")  # fmt: skip


class _Damaged(sqlite3.DatabaseError):
    """The file is not what was written."""


class OutboxFile:
    """One database file. `open` first; `write` moves a batch in one transaction.

    After an error the file is closed, and opened again by the next call: only the file knows what of
    a failed transaction arrived. Positions grow for as long as this object lives, also over a
    damaged file's replacement: whoever holds one can acknowledge it and nothing else.
    """

    def __init__(self, file: Path, limits: Limits, stamp: Callable[[], Stamp]) -> None:
        self._path = file
        self._stamp = stamp
        self._limits = limits
        self._db: sqlite3.Connection | None = None
        self._stream = ""
        self._next_seq = 1
        self._next_position = 1
        self._depth = 0
        self._bytes = 0
        self._in_doubt: tuple[str, int, Sequence[Draft]] | None = None  # stream and next seq, if it was committed
        self._arrived: Sequence[Draft] = ()  # committed, although the commit failed
        self.was_damaged = False

    def open(self) -> Opened:
        """Open the file, make it where there is none, or set a damaged one aside and save what can be read."""
        if not self._path.exists():
            self._create(None)
        try:
            state = self._open_checked()
        except sqlite3.DatabaseError as error:
            if not _says_damaged(error):
                raise  # the disk is full or read-only: the file is not to blame
            state = self._replace_damaged()
        if self._in_doubt is not None:
            stream, next_seq, drafts = self._in_doubt
            self._in_doubt = None
            if (stream, next_seq) == (self._stream, self._next_seq):
                self._arrived = drafts
        return Opened(state, self._depth, self.was_damaged)

    def write(self, batch: Batch) -> int:
        """Apply a batch, make room where the outbox is full; returns the number of events it holds."""
        return self._whatever_the_file(lambda: self._write(batch))

    def pending(self, after: int, limit: int) -> Sequence[StoredEvent]:
        """The oldest events behind position `after`. A row that is not what was written is left out, and a gap said."""
        return self._whatever_the_file(lambda: self._pending(after, limit))

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    # --- opening ---

    def _whatever_the_file(self, act: Callable[[], T]) -> T:
        """Do it; where the file turns out to be damaged, once more with a new one."""
        if self._db is None:
            self.open()
        try:
            return act()
        except sqlite3.DatabaseError as error:
            if not _says_damaged(error):
                raise
            self._replace_damaged()
            return act()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self._db is None:
            raise sqlite3.ProgrammingError("the store is not open")
        try:
            with self._db as db:
                yield db
        except BaseException:
            self.close()
            raise

    def _create(self, salvaged: Salvaged | None) -> None:
        """Make the file beside its place, then move it there: an empty file at its place is damage, not a first start.

        With what was salvaged of the file that is there now, which is kept beside for whoever wants to look.
        """
        new, aside = self._path.with_suffix(".new"), self._path.with_suffix(".damaged")
        for leftover in (new, Path(f"{new}-journal"), *([] if salvaged is None else [aside])):
            leftover.unlink(missing_ok=True)
        db = sqlite3.connect(new, isolation_level=None)
        try:
            db.execute(f"PRAGMA page_size={PAGE_BYTES}")
            db.execute("PRAGMA journal_mode=DELETE")
            db.execute("PRAGMA synchronous=FULL")
            db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            # Free pages of our own: room for some events when the rest of the disk is full.
            db.execute("CREATE TABLE room (filler BLOB)")
            db.execute("INSERT INTO room VALUES (zeroblob(262144))")
            db.execute("DROP TABLE room")
            db.execute("BEGIN")
            self._fill(db, salvaged)
            db.execute("COMMIT")
        finally:
            db.close()
        if salvaged is not None:
            with contextlib.suppress(OSError):  # a file system without links: nobody will look
                aside.hardlink_to(self._path)
        # A journal of the file that was here must not be played back into this one.
        Path(f"{self._path}-journal").unlink(missing_ok=True)
        new.replace(self._path)
        _sync_directory(self._path.parent)

    def _fill(self, db: sqlite3.Connection, salvaged: Salvaged | None) -> None:
        self._stream, self._next_seq = chance.token(8), 1
        self._depth = self._bytes = 0
        self._save_stream(db)
        if salvaged is None:
            return
        for position, row in sorted(salvaged.rows.items()):
            self._insert(db, position, *row)
        for key, value in salvaged.state.items():
            put_state(db, key, value)
        self._say_gap(db, "store-damaged", salvaged.stream, [])

    def _open_checked(self) -> dict[str, Any]:
        db = sqlite3.connect(self._path, timeout=1.0, isolation_level=None, check_same_thread=False)
        try:
            _configure(db)
            state = self._check(db)
        except BaseException:
            db.close()
            raise
        self._db = db
        return state

    def _check(self, db: sqlite3.Connection) -> dict[str, Any]:
        # The first statement that reads also plays a power cut's journal back: no look at the size before.
        if (verdict := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _Damaged(verdict)
        size = self._path.stat().st_size
        if size == 0 or size % PAGE_BYTES:
            raise _Damaged(f"{size} bytes is no whole number of pages")
        state, intact = read_state(db)
        stream = state.pop(STREAM, None)
        if not intact or not isinstance(stream, dict):
            raise _Damaged("a state row is not what was written")
        self._stream, self._next_seq = stream["stream"], stream["next_seq"]
        self._depth, total, last_position, last_seq = db.execute(
            "SELECT count(*), total(length(body)), coalesce(max(position), 0), coalesce(max(iif(stream = ?, seq, 0)), 0)"
            " FROM outbox",
            (self._stream,),
        ).fetchone()
        if last_position >= MAX_POSITION or not isinstance(last_seq, int) or last_seq >= self._next_seq:
            raise _Damaged("the stream is behind its own events")
        self._bytes = int(total)
        self._next_position = max(self._next_position, last_position + 1)
        return state

    def _replace_damaged(self) -> dict[str, Any]:
        """Start afresh with a new stream, with what could be read of the old file, and a gap that says so."""
        self.close()
        salvaged = salvage(self._path)
        self._next_position = max([self._next_position, *(position + 1 for position in salvaged.rows)])
        self._create(salvaged)
        state = self._open_checked()
        self.was_damaged = True
        return state

    # --- reading ---

    def _pending(self, after: int, limit: int) -> Sequence[StoredEvent]:
        while True:
            with self._transaction() as db:
                query = "SELECT * FROM outbox WHERE position > ? ORDER BY position LIMIT ?"
                rows = db.execute(query, (after, limit)).fetchall()
            bad = [row for row in rows if not intact_row(row)]
            if not bad:
                return [StoredEvent(position, class_, body) for position, _, _, _, class_, body, _ in rows]
            with self._transaction() as db:
                self._forget_damaged(db, bad)

    def _forget_damaged(self, db: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
        before = self._depth
        self._forget(db, [row[0] for row in rows])
        if self._depth == before:
            raise _Damaged("a damaged row cannot be deleted")
        # Their columns may be what is damaged: only what could be true is said.
        numbers = [(row[1], row[2]) for row in rows]
        known = [seq for stream, seq in numbers if stream == self._stream and isinstance(seq, int) and 0 < seq < self._next_seq]
        if known:
            self._say_gap(db, "damaged-row", self._stream, sorted(known))
        if len(known) < len(rows):
            self._say_gap(db, "damaged-row", None, [], len(rows) - len(known))

    # --- writing ---

    def _write(self, batch: Batch) -> int:
        arrived = {id(draft) for draft in self._arrived}
        with self._transaction() as db:
            self._forget(db, batch.acknowledged)
            self._bury(db, batch.dead)
            for key, value in batch.state.items():
                put_state(db, key, value)
            for draft in batch.drafts:
                if id(draft) not in arrived:
                    self._append(db, draft)
            if self._depth > self._limits.events or self._bytes > self._limits.bytes_:
                self._drop_oldest(db)
            if batch.drafts or batch.dead or not batch:  # an empty batch asks whether the disk takes anything
                self._save_stream(db)
            self._in_doubt = (self._stream, self._next_seq, tuple(batch.drafts))
        self._in_doubt, self._arrived = None, ()
        return self._depth

    def _append(self, db: sqlite3.Connection, draft: Draft) -> None:
        seq, stamp = self._next_seq, draft.stamp
        event = Event(
            f"{self._stream}-{seq}", self._stream, seq, stamp.ts, stamp.mono_ms, stamp.boot_id, stamp.clock, draft.class_,
            draft.code, draft.peripheral, draft.data,
        )  # fmt: skip
        self._insert(db, self._next_position, self._stream, seq, draft.priority, draft.class_, encode(plain(event)))
        self._next_position += 1
        self._next_seq = seq + 1

    def _save_stream(self, db: sqlite3.Connection) -> None:
        put_state(db, STREAM, {"stream": self._stream, "next_seq": self._next_seq})

    def _insert(
        self, db: sqlite3.Connection, position: int, stream: str, seq: int, priority: int, class_: str, body: bytes
    ) -> None:
        db.execute(
            "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?)",
            (position, stream, seq, priority, class_, body, checksum(body, position, stream, seq, priority, class_)),
        )
        self._depth += 1
        self._bytes += len(body)

    def _forget(self, db: sqlite3.Connection, positions: Sequence[int]) -> None:
        for position in positions:
            deleted = db.execute("DELETE FROM outbox WHERE position = ? RETURNING length(body)", (position,)).fetchall()
            self._depth -= len(deleted)
            self._bytes -= sum(length or 0 for (length,) in deleted)

    def _bury(self, db: sqlite3.Connection, dead: Sequence[tuple[int, str]]) -> None:
        """What the broker refuses is kept apart, and its numbers are told. A refused gap is not: it stays to be sent again."""
        buried: dict[str, list[int]] = {}
        for position, reason in dead:
            row = db.execute("SELECT stream, seq, class, body FROM outbox WHERE position = ?", (position,)).fetchone()
            if row is None or (row[2] == "lifecycle" and b'"code":"gap"' in row[3]):
                continue
            db.execute("INSERT INTO dead_letter (class, body, reason) VALUES (?, ?, ?)", (row[2], row[3], reason))
            self._forget(db, [position])
            buried.setdefault(row[0], []).append(row[1])
        for stream, seqs in buried.items():
            self._say_gap(db, "refused", stream, sorted(seqs))
        db.execute(
            "DELETE FROM dead_letter WHERE number <= (SELECT max(number) FROM dead_letter) - ?",
            (_DEAD_LETTERS,),
        )

    def _drop_oldest(self, db: sqlite3.Connection) -> None:
        """Make room for a twentieth of the outbox: the oldest `info` first, alarms and security last."""
        dropped: list[tuple[str, int]] = []
        rows = db.execute("SELECT position, stream, seq, length(body) FROM outbox ORDER BY priority, position").fetchall()
        for position, stream, seq, length in rows:
            if self._depth <= self._limits.events * 0.95 and self._bytes <= self._limits.bytes_ * 0.95:
                break
            db.execute("DELETE FROM outbox WHERE position = ?", (position,))
            self._depth -= 1
            self._bytes -= length
            dropped.append((stream, seq))
        for stream in dict.fromkeys(stream for stream, _ in dropped):
            self._say_gap(db, "outbox-full", stream, sorted(seq for other, seq in dropped if other == stream))

    def _say_gap(
        self, db: sqlite3.Connection, reason: str, stream: str | None, seqs: Sequence[int], count: int | None = None
    ) -> None:
        """Append `lifecycle/gap`: which numbers of which stream will never come. Unknown ones are null."""
        data = {
            "reason": reason,
            "stream": stream,
            "first_seq": seqs[0] if seqs else None,
            "last_seq": seqs[-1] if seqs else None,
            "count": len(seqs) if seqs else count,
        }
        self._append(db, Draft("lifecycle", "gap", None, data, self._stamp(), PRIORITY_ALARM))
        self._save_stream(db)


def _configure(db: sqlite3.Connection) -> None:
    # Text in a damaged row is whatever it is: its checksum tells.
    db.text_factory = lambda raw: raw.decode(errors="replace")
    db.execute("PRAGMA synchronous=FULL")
    # PERSIST keeps the journal's blocks: on a full disk a transaction still has somewhere to go.
    db.execute("PRAGMA journal_mode=PERSIST")
    db.execute("PRAGMA temp_store=MEMORY")
    db.execute("PRAGMA cache_size=-64")
    db.isolation_level = "IMMEDIATE"


def _says_damaged(error: sqlite3.Error) -> bool:
    name: str = getattr(error, "sqlite_errorname", "")  # errors that Python's module raises itself carry none
    if isinstance(error, _Damaged) or name == "SQLITE_IOERR_READ":
        return True
    return name != "" and not name.startswith(_THE_DISK)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
