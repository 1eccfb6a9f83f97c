"""The store's file: what one transaction moves, what is dropped first, and what becomes of a failed one."""

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.system.outbox import OutboxFile
from agent.system.outbox_rows import PRIORITY_ALARM, PRIORITY_INFO, PRIORITY_ROUTINE, Batch, Draft, Limits, Stamp, StoredEvent


def stamp() -> Stamp:
    return Stamp("2026-11-22T10:00:00.000Z", 1, "synced", "boot")


def draft(number: int, priority: int = PRIORITY_ROUTINE) -> Draft:
    return Draft("health", "tick", "board", {"n": number}, stamp(), priority)


def outbox(folder: Path, limits: Limits | None = None) -> OutboxFile:
    file = OutboxFile(folder / "store.db", limits or Limits(), stamp)
    file.open()
    return file


def everything(file: OutboxFile) -> list[StoredEvent]:
    found: list[StoredEvent] = []
    while batch := file.pending(found[-1].position if found else 0, 50):
        found += batch
    return found


def events(file: OutboxFile) -> list[dict[str, Any]]:
    return [json.loads(event.body) for event in everything(file)]


def numbers(file: OutboxFile) -> list[int]:
    return [event["data"]["n"] for event in events(file) if event["code"] == "tick"]


def test_events_keep_their_order_number_and_stream_over_a_reopening(tmp_path: Path) -> None:
    file = outbox(tmp_path)
    assert file.write(Batch(drafts=[draft(1), draft(2)])) == 2
    file.close()
    file = outbox(tmp_path)
    assert file.write(Batch(drafts=[draft(3)])) == 3
    found = events(file)
    assert [event["seq"] for event in found] == [1, 2, 3]
    assert numbers(file) == [1, 2, 3]
    assert len({event["stream"] for event in found}) == 1
    assert [event["id"] for event in found] == [f"{event['stream']}-{event['seq']}" for event in found]
    file.close()


def test_an_acknowledged_event_is_gone_and_its_number_is_never_used_again(tmp_path: Path) -> None:
    file = outbox(tmp_path)
    file.write(Batch(drafts=[draft(1), draft(2)]))
    assert file.write(Batch(acknowledged=[event.position for event in everything(file)])) == 0
    file.close()
    file = outbox(tmp_path)
    file.write(Batch(drafts=[draft(3)]))
    assert [event["seq"] for event in events(file)] == [3]
    file.close()


def test_a_full_outbox_drops_the_oldest_info_first_then_routine_and_says_the_gap(tmp_path: Path) -> None:
    file = outbox(tmp_path, Limits(events=100))
    for start, priority in ((0, PRIORITY_ALARM), (20, PRIORITY_ROUTINE), (40, PRIORITY_INFO), (43, PRIORITY_ROUTINE)):
        file.write(Batch(drafts=[draft(n, priority) for n in range(start, start + {0: 20, 20: 20, 40: 3, 43: 57}[start])]))
    assert numbers(file) == list(range(100))
    assert file.write(Batch(drafts=[draft(100)])) <= 100
    # 6 go, to come down to 95: the three of info, then the three oldest of routine.
    assert numbers(file) == [*range(20), *range(23, 40), *range(43, 101)]
    gap = events(file)[-1]
    assert (gap["class"], gap["code"], gap["seq"]) == ("lifecycle", "gap", 102)
    assert gap["data"] == {"reason": "outbox-full", "stream": gap["stream"], "first_seq": 21, "last_seq": 43, "count": 6}
    file.close()


def test_alarms_are_dropped_when_there_is_nothing_else(tmp_path: Path) -> None:
    file = outbox(tmp_path, Limits(events=20))
    file.write(Batch(drafts=[draft(n, PRIORITY_ALARM) for n in range(30)]))
    assert numbers(file) == list(range(11, 30))
    assert events(file)[-1]["data"]["count"] == 11
    file.close()


def test_the_outbox_is_bounded_in_bytes_too(tmp_path: Path) -> None:
    file = outbox(tmp_path, Limits(bytes_=50_000))
    for n in range(100):
        file.write(Batch(drafts=[Draft("health", "tick", None, {"n": n, "filler": "x" * 2000}, stamp())]))
    stored = everything(file)
    assert sum(len(event.body) for event in stored) <= 50_000
    assert len(stored) > 15
    missing = set(range(1, json.loads(stored[-1].body)["seq"])) - {json.loads(event.body)["seq"] for event in stored}
    said = [event["data"] for event in events(file) if event["code"] == "gap"]
    assert missing <= {seq for gap in said for seq in range(gap["first_seq"], gap["last_seq"] + 1)}
    file.close()


def test_only_the_newest_hundred_dead_letters_are_kept(tmp_path: Path) -> None:
    file = outbox(tmp_path)
    for n in range(0, 300, 2):  # every other one is acknowledged: the places of the dead are not dense
        file.write(Batch(drafts=[draft(n), draft(n + 1)]))
        alive, dead = everything(file)
        file.write(Batch(acknowledged=[alive.position], dead=[(dead.position, "reason code 0x87")]))
        [gap] = everything(file)
        file.write(Batch(acknowledged=[gap.position]))
    assert everything(file) == []
    file.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as db:
        kept = db.execute("SELECT body, reason FROM dead_letter ORDER BY number").fetchall()
    assert [json.loads(body)["data"]["n"] for body, _ in kept] == list(range(101, 300, 2))
    assert {reason for _, reason in kept} == {"reason code 0x87"}


def test_the_numbers_of_what_the_broker_refused_are_told_after_a_restart_too(tmp_path: Path) -> None:
    file = outbox(tmp_path)
    file.write(Batch(drafts=[draft(n) for n in range(4)]))
    found = everything(file)
    file.write(Batch(acknowledged=[found[0].position], dead=[(found[1].position, "0x87"), (found[2].position, "0x87")]))
    file.close()
    file = outbox(tmp_path)
    kept, gap = events(file)
    assert (kept["seq"], gap["class"], gap["code"], gap["seq"]) == (4, "lifecycle", "gap", 5)
    assert gap["data"] == {"reason": "refused", "stream": gap["stream"], "first_seq": 2, "last_seq": 3, "count": 2}
    file.write(Batch(drafts=[draft(5)]))
    assert [event["seq"] for event in events(file)] == [4, 5, 6]
    file.close()


def test_a_gap_that_is_refused_itself_is_kept_to_be_sent_again(tmp_path: Path) -> None:
    """Or each would leave another behind, for ever."""
    file = outbox(tmp_path)
    file.write(Batch(drafts=[draft(1)]))
    [event] = everything(file)
    file.write(Batch(dead=[(event.position, "0x87")]))
    [gap] = everything(file)
    file.write(Batch(dead=[(gap.position, "0x87"), (event.position, "0x87")]))
    assert everything(file) == [gap]
    file.close()


def test_state_and_events_move_in_one_transaction(tmp_path: Path) -> None:
    file = outbox(tmp_path)
    file.write(Batch(drafts=[draft(1)], state={"alarms": ["a"]}))
    with pytest.raises(TypeError):
        file.write(Batch(drafts=[draft(2)], state={"alarms": object()}))
    assert numbers(file) == [1]
    file.write(Batch(drafts=[draft(3)]))
    file.close()
    file = OutboxFile(tmp_path / "store.db", Limits(), stamp)
    assert file.open().state == {"alarms": ["a"]}
    assert [event["seq"] for event in events(file)] == [1, 2], "the failed transaction used no number"
    assert numbers(file) == [1, 3]
    file.close()


class CommitFails:
    """An SQLite connection whose next commit reports an error: before it was done, or although it was."""

    def __init__(self, db: sqlite3.Connection, *, arrives: bool) -> None:
        self._db = db
        self._arrives = arrives

    def __enter__(self) -> sqlite3.Connection:
        self._db.__enter__()
        return self._db

    def __exit__(self, *error: Any) -> None:
        if self._arrives:
            self._db.commit()
        else:
            self._db.rollback()
        failed = sqlite3.OperationalError("disk I/O error")
        failed.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise failed

    def close(self) -> None:
        self._db.close()


@pytest.mark.parametrize("arrives", [False, True])
def test_a_commit_that_failed_is_repeated_and_no_event_comes_twice(tmp_path: Path, arrives: bool) -> None:
    file = outbox(tmp_path)
    file.write(Batch(drafts=[draft(1)]))
    batch = Batch(drafts=[draft(2), draft(3)], state={"key": "value"})
    file._db = CommitFails(file._db, arrives=arrives)  # type: ignore[arg-type, assignment]
    with pytest.raises(sqlite3.OperationalError):
        file.write(batch)
    batch.drafts.append(draft(4))  # what came meanwhile goes with it
    assert file.write(batch) == 4
    assert numbers(file) == [1, 2, 3, 4]
    assert [event["seq"] for event in events(file)] == [1, 2, 3, 4]
    assert not file.was_damaged
    file.close()


def test_a_file_that_cannot_be_made_is_made_by_a_later_write(tmp_path: Path) -> None:
    folder = tmp_path / "not-yet"
    file = OutboxFile(folder / "store.db", Limits(), stamp)
    with pytest.raises((sqlite3.Error, OSError)):
        file.open()
    with pytest.raises((sqlite3.Error, OSError)):
        file.write(Batch(drafts=[draft(0)]))
    folder.mkdir()
    file.write(Batch(drafts=[draft(1)]))
    (event,) = events(file)
    assert event["seq"] == 1
    assert event["stream"]
    file.close()


def test_a_journal_whose_file_is_gone_is_not_played_back_into_a_new_one(tmp_path: Path) -> None:
    file = outbox(tmp_path)
    file.write(Batch(drafts=[draft(n) for n in range(50)]))
    hot = _with_a_hot_journal(file, tmp_path)
    (tmp_path / "store.db").unlink()
    (tmp_path / "store.db-journal").write_bytes(hot)
    file = outbox(tmp_path)
    assert not file.was_damaged
    file.write(Batch(drafts=[draft(1)]))
    assert numbers(file) == [1]
    file.close()


def _with_a_hot_journal(file: OutboxFile, folder: Path) -> bytes:
    """The journal as it stands in the middle of a commit."""
    assert file._db is not None
    file._db.execute("PRAGMA cache_size=1")
    file._db.execute("BEGIN IMMEDIATE")
    file._db.execute("UPDATE outbox SET body = zeroblob(3000)")
    journal = (folder / "store.db-journal").read_bytes()
    assert journal[:8] != bytes(8)
    file._db.rollback()
    file.close()
    return journal


def test_a_hot_journal_is_played_back_before_the_file_is_judged(tmp_path: Path) -> None:
    file = outbox(tmp_path)
    file.write(Batch(drafts=[draft(n) for n in range(50)]))
    assert file._db is not None
    file._db.execute("PRAGMA cache_size=1")
    file._db.execute("BEGIN IMMEDIATE")
    file._db.execute("UPDATE outbox SET body = zeroblob(9000)")
    middle = {name: (tmp_path / name).read_bytes() for name in ("store.db", "store.db-journal")}
    file._db.rollback()
    file.close()
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "store.db").write_bytes(middle["store.db"] + b"torn")  # the page that the power cut tore
    (cut / "store.db-journal").write_bytes(middle["store.db-journal"])
    file = outbox(cut)
    assert not file.was_damaged
    assert numbers(file) == list(range(50))
    file.close()


Damage = Callable[[sqlite3.Connection], object]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda db: db.execute("UPDATE outbox SET body = 'text' WHERE seq = 3"), id="another type"),
        pytest.param(lambda db: db.execute("UPDATE outbox SET body = CAST(x'ff' AS TEXT) WHERE seq = 3"), id="no text"),
        pytest.param(lambda db: db.execute("UPDATE outbox SET class = 'heal' WHERE seq = 3"), id="another class"),
        pytest.param(lambda db: db.execute("UPDATE outbox SET priority = 0 WHERE seq = 3"), id="another priority"),
        pytest.param(lambda db: db.execute("UPDATE outbox SET body = zeroblob(9) WHERE seq = 3"), id="another body"),
        pytest.param(lambda db: db.execute("UPDATE outbox SET crc = 'x' WHERE seq = 3"), id="another checksum"),
    ],
)
def test_a_damaged_row_is_left_out_and_the_gap_says_which(tmp_path: Path, damage: Damage) -> None:
    file = outbox(tmp_path)
    file.write(Batch(drafts=[draft(n) for n in range(1, 6)]))
    file.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as db:
        damage(db)
    file = outbox(tmp_path)
    found = [json.loads(event.body) for event in file.pending(0, 50)]
    assert [event["seq"] for event in found] == [1, 2, 4, 5, 6], "with the gap itself: nobody need ask again"
    assert found[-1]["data"] == {
        "reason": "damaged-row", "stream": found[0]["stream"], "first_seq": 3, "last_seq": 3, "count": 1,
    }  # fmt: skip
    file.close()


def test_rows_damaged_beyond_telling_are_counted(tmp_path: Path) -> None:
    file = outbox(tmp_path)
    file.write(Batch(drafts=[draft(n) for n in range(1, 4)]))
    file.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as db:
        db.execute("UPDATE outbox SET stream = 'other', body = zeroblob(9)")
    file = outbox(tmp_path)
    (gap,) = [json.loads(event.body) for event in file.pending(0, 50)]
    assert gap["data"] == {"reason": "damaged-row", "stream": None, "first_seq": None, "last_seq": None, "count": 3}
    assert gap["seq"] == 4
    file.close()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda db: db.execute("ALTER TABLE outbox RENAME TO outbux"), id="a table's name"),
        pytest.param(lambda db: db.execute("ALTER TABLE state RENAME COLUMN body TO bode"), id="a column's name"),
        pytest.param(lambda db: db.execute("UPDATE state SET key = 'streem' WHERE key = 'stream'"), id="the stream's key"),
        pytest.param(lambda db: db.execute("UPDATE state SET body = zeroblob(3) WHERE key = 'alarms'"), id="state"),
        pytest.param(lambda db: db.execute("DELETE FROM state"), id="no stream"),
    ],
)
def test_a_file_that_is_not_what_was_written_is_set_aside_with_its_events_saved(tmp_path: Path, damage: Damage) -> None:
    file = outbox(tmp_path)
    file.write(Batch(drafts=[draft(n) for n in range(1, 4)], state={"alarms": [1]}))
    old = events(file)[0]["stream"]
    file.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as db:
        damage(db)
    file = outbox(tmp_path)
    assert file.was_damaged
    found = events(file)
    assert [event["data"]["n"] for event in found if event["code"] == "tick"] in ([1, 2, 3], [])
    assert found[-1]["code"] == "gap"
    assert (found[-1]["stream"], found[-1]["seq"]) != (old, 1)
    assert (tmp_path / "store.damaged").stat().st_size > 0
    file.close()


def test_a_damaged_file_on_a_disk_that_takes_no_new_one_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = outbox(tmp_path)
    file.write(Batch(drafts=[draft(n) for n in range(1, 4)], state={"alarms": [1]}))
    file.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as db:
        db.execute("UPDATE state SET body = zeroblob(3) WHERE key = 'alarms'")

    def refused(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refused)
        file = OutboxFile(tmp_path / "store.db", Limits(), stamp)
        with pytest.raises(OSError, match="No space"):
            file.open()
        with pytest.raises(OSError, match="No space"):
            file.write(Batch(drafts=[draft(4)]))
    file.write(Batch(drafts=[draft(5)]))
    assert file.was_damaged
    assert numbers(file) == [1, 2, 3, 5], "nothing was lost while there was no room"
    assert [event["code"] for event in events(file)].count("gap") == 1
    file.close()


def test_a_stream_that_fell_behind_its_own_events_is_not_continued(tmp_path: Path) -> None:
    file = outbox(tmp_path)
    file.write(Batch(drafts=[draft(n) for n in range(1, 4)]))
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as db:
        old_row = db.execute("SELECT body, crc FROM state WHERE key = 'stream'").fetchone()
    file.write(Batch(drafts=[draft(n) for n in range(4, 7)]))
    known = {event["id"] for event in events(file)}
    file.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as db:
        db.execute("UPDATE state SET body = ?, crc = ? WHERE key = 'stream'", old_row)
    file = outbox(tmp_path)
    file.write(Batch(drafts=[draft(7)]))
    assert {event["id"] for event in events(file) if event["data"].get("n") == 7}.isdisjoint(known)
    assert file.was_damaged
    file.close()


def test_a_read_only_file_is_not_blamed_and_can_still_be_read(tmp_path: Path) -> None:
    file = outbox(tmp_path)
    file.write(Batch(drafts=[draft(1)]))
    assert file._db is not None
    file._db.execute("PRAGMA query_only=1")  # root may write any file: SQLite itself must refuse
    with pytest.raises(sqlite3.OperationalError):
        file.write(Batch(drafts=[draft(2)]))
    assert not file.was_damaged
    assert numbers(file) == [1]
    file.close()


def test_files_have_whole_pages_and_no_leftovers(tmp_path: Path) -> None:
    outbox(tmp_path).close()
    assert [file.name for file in tmp_path.iterdir()] == ["store.db"]
    assert (tmp_path / "store.db").stat().st_size % 4096 == 0
