"""What a damaged file of the store still yields."""

import contextlib
import os
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.system.outbox_rows import MAX_POSITION, PAGE_BYTES, STREAM, intact_row, read_state


@dataclass
class Salvaged:
    """What a damaged file still yields: state, events by position, and the name of its stream."""

    state: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, tuple[str, int, int, str, bytes]] = field(default_factory=dict)
    stream: str | None = None


def salvage(path: Path) -> Salvaged:
    """Whatever can still be read; where something cannot, what was read before it is what is saved."""
    salvaged = Salvaged()
    try:
        _pad(path)
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    except (sqlite3.Error, OSError):
        return salvaged
    try:
        db.text_factory = lambda raw: raw.decode(errors="replace")
        with contextlib.suppress(sqlite3.Error):
            salvaged.state, _ = read_state(db)
        # From both ends, up to the damage.
        for query in ("SELECT * FROM outbox ORDER BY position", "SELECT * FROM outbox ORDER BY position DESC"):
            with contextlib.suppress(sqlite3.Error):
                for row in db.execute(query):
                    if intact_row(row) and row[0] < MAX_POSITION:
                        salvaged.rows[row[0]] = row[1:6]
    finally:
        db.close()
    stream = salvaged.state.pop(STREAM, None)
    salvaged.stream = stream["stream"] if isinstance(stream, dict) else None
    return salvaged


def _pad(path: Path) -> None:
    """Fill a file that was cut short with zeros: SQLite reads no page of a file shorter than its header says."""
    with open(path, "r+b") as file:
        pages = int.from_bytes(file.read(32)[28:32], "big")  # SQLite file format, section 1.3.5
        size = file.seek(0, os.SEEK_END)
        if size < pages * PAGE_BYTES < 1 << 30:
            file.truncate(pages * PAGE_BYTES)
