"""The process that makes one bundle: `python -m agent.diagnostics DESCRIPTOR`. The daemon's question goes in as JSON, the bundle
goes to the descriptor, its length and hash come out as JSON.

It reads what the daemon must not keep in memory, the journal first of all, and ends.
"""

import contextlib
import hashlib
import json
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from agent.contract.typed import build
from agent.contract.words import Area, BoothId
from agent.diagnostics import journal, lines, units
from agent.diagnostics.allowed import BOOT_ID, LEFT_OUT, TIME, form, text, word
from agent.diagnostics.known import Known
from agent.diagnostics.packing import TooSmall, packed
from agent.diagnostics.versions import versions

SCHEMA: Final = 1
_NICE: Final = 10  # a citizen's page goes first; in the unit's sandbox it stays at the unit's own 5


def main(descriptor: int) -> int:
    with contextlib.suppress(OSError):  # the unit's filter forbids it
        os.nice(_NICE)
    # The agent itself is protected from the kernel's memory killer; what reads a journal need not be.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("500")
    question = json.load(sys.stdin)
    try:
        whole = packed(bundle(question), question["max_bytes"])
    except TooSmall as error:
        json.dump({"problem": str(error)}, sys.stdout)
        return 0
    with open(descriptor, "wb") as stream:
        stream.write(whole)
    json.dump({"bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}, sys.stdout)
    return 0


def bundle(question: Mapping[str, Any]) -> dict[str, Any]:
    """All of it, before it is cut to its size. `journal`, in the question: the folder of a journal that is not the system's."""
    known = Known(question)
    names = units.Names(known.units())
    folder = question.get("journal")
    return {
        "schema": SCHEMA,
        "area": build(Area, question["area"]),
        "booth": build(BoothId, question["booth"]),
        "at": text(question.get("at"), TIME),
        "clock": text(question.get("clock"), word(("synced", "unsynced"))),
        "boot_id": text(question.get("boot_id"), BOOT_ID),
        "board": {name: _board(question, name) for name in ("model", "architecture")},
        "versions": versions(),
        "units": units.states(names),
        **known.sections(),
        "journal": asdict(lines.read(names, known.peripherals, Path(folder)))
        if folder
        else journal.told(names.configured, known.peripherals),
    }


def _board(question: Mapping[str, Any], name: str) -> str | None:
    """What the firmware says: it is soldered in."""
    return text(question.get("board", {}).get(name), form(r"[A-Za-z0-9][A-Za-z0-9 ._()+-]{0,63}")) or LEFT_OUT


if __name__ == "__main__":
    try:
        sys.exit(main(int(sys.argv[1])))
    except Exception as error:  # noqa: BLE001 - a fault of ours; what it says may quote what must not go in
        places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        sys.exit(f"booth-agent: no diagnostics bundle: {type(error).__name__} at {' '.join(places)}")
