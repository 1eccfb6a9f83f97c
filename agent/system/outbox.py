"""The file behind the store: an SQLite database that notices damage and keeps to its size.

Synchronous; `system.store` runs it in its thread. Raises sqlite3.Error and OSError.
"""

import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent.contract.decode import encode
from agent.contract.event import Event, EventClass
from agent.contract.typed import plain
from agent.contract.words import ClockWord
from agent.system import chance

# What is dropped first when there is no room: 0, then 1, then 2.
PRIORITY_INFO: Final = 0
PRIORITY_ROUTINE: Final = 1
PRIORITY_ALARM: Final = 2

_PAGE_BYTES: Final = 4096
_DEAD_LETTERS: Final = 100
_SCHEMA: Final = """
CREATE TABLE outbox (position INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, seq INTEGER NOT NULL,
                     priority INTEGER NOT NULL, class TEXT NOT NULL, body BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE state (key TEXT PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE dead_letter (position INTEGER PRIMARY KEY, class TEXT NOT NULL, body BLOB NOT NULL, reason TEXT NOT NULL);
"""
_STREAM: Final = "stream"  # the state row of the stream itself: {"stream": token, "next_seq": n}


@dataclass(frozen=True)
class Stamp:
    """The moment of an event, by every clock that a reader may need."""

    ts: str
    mono_ms: int
    clock: ClockWord
    boot_id: str


@dataclass(frozen=True)
class Draft:
    """An event before it has its place in the stream. `data` must be capped already."""

    class_: EventClass
    code: str
    peripheral: str | None
    data: dict[str, Any]
    stamp: Stamp
    priority: int = PRIORITY_ROUTINE


@dataclass
class Batch:
    """What one transaction moves, all of it together."""

    drafts: list[Draft] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    dead: list[tuple[int, str]] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.drafts or self.acknowledged or self.dead or self.state)


@dataclass(frozen=True)
class StoredEvent:
    """An event on disk: `position` is its place in the file, `body` the payload to publish."""

    position: int
    class_: str
    body: bytes


@dataclass(frozen=True)
class Limits:
    """The outbox holds at most so many events and so many bytes of them."""

    events: int = 20_000
    bytes_: int = 16 * 1024 * 1024


@dataclass(frozen=True)
class Opened:
    state: dict[str, Any]
    depth: int
    damaged: bool


class _Damaged(Exception):
    """The file is not what was written."""


class OutboxFile:
    """One database file. `open` first; `write` moves a batch in one transaction."""

    def __init__(self, file: Path, limits: Limits, stamp: Callable[[], Stamp]) -> None:
        self._path = file
        self._stamp = stamp
        self._limits = limits
        self._db: sqlite3.Connection | None = None
        self._stream = ""
        self._next_seq = 1
        self._depth = 0
        self._bytes = 0
        self.was_damaged = False

    def open(self) -> Opened:
        """Open the file, make it where there is none, or set a damaged one aside and save what can be read."""
        if not self._path.exists():
            self._create()
        try:
            state = self._open_checked()
        except (_Damaged, sqlite3.DatabaseError) as error:
            if isinstance(error, sqlite3.OperationalError) and not _says_damaged(error):
                raise  # the disk is full or read-only: the file is not to blame
            state = self._replace_damaged()
        return Opened(state, self._depth, self.was_damaged)

    def write(self, batch: Batch) -> int:
        """Apply a batch, make room where the outbox is full; returns the number of events it holds."""
        if self._db is None:
            self.open()
        try:
            return self._write(batch)
        except sqlite3.DatabaseError as error:
            if not _says_damaged(error):
                raise
            self._replace_damaged()
            return self._write(batch)

    def pending(self, after: int, limit: int) -> Sequence[StoredEvent]:
        """The oldest events behind position `after`. A row that is not what was written is left out, and a gap said."""
        rows = self._connection.execute(
            "SELECT position, class, body, crc, stream, seq FROM outbox WHERE position > ? ORDER BY position LIMIT ?",
            (after, limit),
        ).fetchall()
        bad = [(position, stream, seq) for position, _, body, crc, stream, seq in rows if zlib.crc32(body) != crc]
        if bad:
            with self._connection as db:
                self._forget(db, [position for position, _, _ in bad])
                self._say_gap(db, "damaged-row", bad[0][1], [seq for _, _, seq in bad])
        return [StoredEvent(row[0], row[1], row[2]) for row in rows if zlib.crc32(row[2]) == row[3]]

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    # --- opening ---

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise sqlite3.OperationalError("the store is not open")
        return self._db

    def _connect(self, path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA synchronous=FULL")
        # PERSIST keeps the journal's blocks: on a full disk a transaction still has somewhere to go.
        db.execute("PRAGMA journal_mode=PERSIST")
        db.execute("PRAGMA temp_store=MEMORY")
        db.execute("PRAGMA cache_size=-64")
        db.isolation_level = "IMMEDIATE"
        return db

    def _create(self) -> None:
        """Make the file beside its place, then move it there: an empty file at its place is damage, not a first start."""
        new = self._path.with_suffix(".new")
        for leftover in (new, Path(f"{new}-journal")):
            leftover.unlink(missing_ok=True)
        db = sqlite3.connect(new, isolation_level=None)
        try:
            db.execute(f"PRAGMA page_size={_PAGE_BYTES}")
            db.execute("PRAGMA journal_mode=DELETE")
            db.execute("PRAGMA synchronous=FULL")
            db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            # Free pages of our own: room for some events when the rest of the disk is full.
            db.execute("CREATE TABLE room (filler BLOB)")
            db.execute("INSERT INTO room VALUES (zeroblob(262144))")
            db.execute("DROP TABLE room")
            body = encode({"stream": chance.token(8), "next_seq": 1})
            db.execute("INSERT INTO state VALUES (?, ?, ?)", (_STREAM, body, zlib.crc32(body)))
        finally:
            db.close()
        new.rename(self._path)
        _sync_directory(self._path.parent)

    def _open_checked(self) -> dict[str, Any]:
        size = self._path.stat().st_size
        if size == 0 or size % _PAGE_BYTES:
            raise _Damaged(f"{size} bytes is no whole number of pages")
        self._db = self._connect(self._path)
        if (verdict := self._db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _Damaged(verdict)
        state, intact = _read_state(self._db)
        stream = state.pop(_STREAM, None)
        if not intact or not isinstance(stream, dict):
            raise _Damaged("a state row is not what was written")
        self._stream, self._next_seq = stream["stream"], stream["next_seq"]
        self._depth, total = self._db.execute("SELECT count(*), total(length(body)) FROM outbox").fetchone()
        self._bytes = int(total)
        return state

    def _replace_damaged(self) -> dict[str, Any]:
        """Start afresh with a new stream, with what could be read of the old file, and a gap that says so."""
        self.was_damaged = True
        self.close()
        aside = self._path.with_suffix(".damaged")
        self._path.replace(aside)
        Path(f"{self._path}-journal").unlink(missing_ok=True)
        state, rows, old_stream = _salvage(aside)
        self._create()
        fresh = self._open_checked()
        assert not fresh
        with self._connection as db:
            for stream, seq, priority, class_, body in rows:
                self._insert(db, stream, seq, priority, class_, body)
            for key, value in state.items():
                _put_state(db, key, value)
            self._say_gap(db, "store-damaged", old_stream, [])
        return state

    # --- writing ---

    def _write(self, batch: Batch) -> int:
        before = (self._next_seq, self._depth, self._bytes)
        try:
            with self._connection as db:
                self._forget(db, batch.acknowledged)
                for position, reason in batch.dead:
                    self._bury(db, position, reason)
                for key, value in batch.state.items():
                    _put_state(db, key, value)
                for draft in batch.drafts:
                    self._append(db, draft)
                if self._depth > self._limits.events or self._bytes > self._limits.bytes_:
                    self._drop_oldest(db)
        except BaseException:
            self._next_seq, self._depth, self._bytes = before
            raise
        return self._depth

    def _append(self, db: sqlite3.Connection, draft: Draft) -> None:
        seq, stamp = self._next_seq, draft.stamp
        event = Event(
            f"{self._stream}-{seq}", self._stream, seq, stamp.ts, stamp.mono_ms, stamp.boot_id, stamp.clock, draft.class_,
            draft.code, draft.peripheral, draft.data,
        )  # fmt: skip
        self._insert(db, self._stream, seq, draft.priority, draft.class_, encode(plain(event)))
        self._next_seq = seq + 1
        _put_state(db, _STREAM, {"stream": self._stream, "next_seq": self._next_seq})

    def _insert(self, db: sqlite3.Connection, stream: str, seq: int, priority: int, class_: str, body: bytes) -> None:
        db.execute(
            "INSERT INTO outbox (stream, seq, priority, class, body, crc) VALUES (?, ?, ?, ?, ?, ?)",
            (stream, seq, priority, class_, body, zlib.crc32(body)),
        )
        self._depth += 1
        self._bytes += len(body)

    def _forget(self, db: sqlite3.Connection, positions: Sequence[int]) -> None:
        for position in positions:
            deleted = db.execute("DELETE FROM outbox WHERE position = ? RETURNING length(body)", (position,)).fetchall()
            self._depth -= len(deleted)
            self._bytes -= sum(length for (length,) in deleted)

    def _bury(self, db: sqlite3.Connection, position: int, reason: str) -> None:
        db.execute(
            "INSERT OR IGNORE INTO dead_letter SELECT position, class, body, ? FROM outbox WHERE position = ?",
            (reason, position),
        )
        self._forget(db, [position])
        db.execute(
            "DELETE FROM dead_letter WHERE position <= (SELECT max(position) FROM dead_letter) - ?",
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
            self._say_gap(db, "store-full", stream, sorted(seq for other, seq in dropped if other == stream))

    def _say_gap(self, db: sqlite3.Connection, reason: str, stream: str | None, seqs: Sequence[int]) -> None:
        """Append `lifecycle/gap`: which numbers of which stream will never come. Unknown ones are null."""
        data = {
            "reason": reason,
            "stream": stream,
            "first_seq": seqs[0] if seqs else None,
            "last_seq": seqs[-1] if seqs else None,
            "count": len(seqs) if seqs else None,
        }
        self._append(db, Draft("lifecycle", "gap", None, data, self._stamp(), PRIORITY_ALARM))


def _put_state(db: sqlite3.Connection, key: str, value: Any) -> None:
    body = encode(value)
    db.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (key, body, zlib.crc32(body)))


def _read_state(db: sqlite3.Connection) -> tuple[dict[str, Any], bool]:
    """The state rows that are what was written, and whether all of them are."""
    state: dict[str, Any] = {}
    intact = True
    for key, body, crc in db.execute("SELECT key, body, crc FROM state"):
        if isinstance(body, bytes) and zlib.crc32(body) == crc:
            state[key] = json.loads(body)
        else:
            intact = False
    return state, intact


def _salvage(path: Path) -> tuple[dict[str, Any], list[tuple[str, int, int, str, bytes]], str | None]:
    """Whatever a damaged file still yields: state, events in order, and the name of its stream."""
    state: dict[str, Any] = {}
    rows: list[tuple[str, int, int, str, bytes]] = []
    try:
        _pad(path)
        db = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    except (sqlite3.Error, OSError):
        return state, rows, None
    try:
        state, _ = _read_state(db)
        for stream, seq, priority, class_, body, crc in db.execute(
            "SELECT stream, seq, priority, class, body, crc FROM outbox ORDER BY position"
        ):
            if isinstance(body, bytes) and zlib.crc32(body) == crc:
                rows.append((stream, seq, priority, class_, body))
    except (sqlite3.Error, ValueError):
        pass  # the rest cannot be read: what was is what is saved
    finally:
        db.close()
    stream = state.pop(_STREAM, None)
    return state, rows, stream["stream"] if isinstance(stream, dict) else None


def _pad(path: Path) -> None:
    """Fill a file that was cut short with zeros: SQLite reads no page of a file shorter than its header says."""
    with open(path, "r+b") as file:
        pages = int.from_bytes(file.read(32)[28:32], "big")  # SQLite file format, section 1.3.5
        size = file.seek(0, os.SEEK_END)
        if size < pages * _PAGE_BYTES < 1 << 30:
            file.truncate(pages * _PAGE_BYTES)


def _says_damaged(error: sqlite3.Error) -> bool:
    # Errors that Python's module raises itself carry no code.
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
