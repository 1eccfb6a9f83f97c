"""The journal, by allow-list. No message goes in: it may hold whatever somebody called a file.

Of our own lines, the text of our source with its gaps (`BOOTH_TEMPLATE`) and the fields that we know; of systemd's, what became
of which unit; of all others, how many there were.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from agent.diagnostics.allowed import JOURNAL_FIELDS, LEFT_OUT, form, text, word
from agent.diagnostics.units import Names

AGENT: Final = "booth-agent.service"
ENTRIES: Final = 20_000  # newest lines that are told one by one
LOOKED_AT: Final = 200_000
WITHIN_S: Final = 25.0
_TEMPLATE_CHARACTERS: Final = 200

# sd-messages.h: what systemd itself says of a unit.
_EVENTS: Final[Mapping[str, str]] = {
    "39f53479d3a045ac8e11786248231fbf": "started",
    "be02cf6855d2428ba40df7e9d022f03d": "start-failed",
    "9d1aaa27d60140bd96365438aad20286": "stopped",
    "7b05ebc668384222baa8881179cfda54": "reloaded",
    "98e322203f7a4ed290d09fe03c09fe15": "process-exit",
    "d9b373ed55a64feb8242e02dbe79a49c": "failed",
    "5eb03494b6584870a536b337290809b3": "restart-scheduled",
    "fe6faa94e7774663a0da52717891d8ef": "out-of-memory",
    "ae8f7b866b0347b9af31fe1c80b127c0": "resources",
}
_WORDS: Final = {
    "UNIT_RESULT": ("result", word((
        "success", "resources", "protocol", "timeout", "exit-code", "signal", "core-dump", "watchdog", "start-limit-hit",
        "start-limit", "oom-kill", "exec-condition",
    ))),
    "JOB_RESULT": ("job", word((
        "done", "canceled", "timeout", "failed", "dependency", "skipped", "invalid", "collected", "once",
    ))),
    "EXIT_CODE": ("how", word(("exited", "killed", "dumped"))),
    "EXIT_STATUS": ("status", form("[0-9]{1,3}|[A-Z]{3,10}")),
    "N_RESTARTS": ("restarts", form("[0-9]{1,6}")),
}  # fmt: skip


@dataclass
class Lines:
    """`entries`: the newest ones, oldest first. `counts`: of each unit's other lines, by syslog's priority. `since`: how far back
    was looked."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    since: str | None = None
    stopped: str | None = None  # why no older ones were looked at
    unavailable: str | None = None


def read(names: Names, peripherals: Collection[str], folder: Path | None = None) -> Lines:
    """The newest lines of the system's journal, or of the files in a folder."""
    try:
        # The submodule, on purpose: the repository's own folder systemd/ would pass for the library.
        from systemd import journal  # noqa: PLC0415 - a machine without it still has the rest of the bundle
    except ImportError:
        return Lines(unavailable="the library systemd-python is missing")
    try:
        reader = journal.Reader(path=None if folder is None else str(folder))
    except OSError as error:
        return Lines(unavailable=f"the journal cannot be opened: {os.strerror(error.errno or 0)}")
    with reader:
        reader.seek_tail()
        return _collected(_backwards(reader), names, frozenset(peripherals))


def _backwards(reader: Any) -> Iterator[dict[str, Any]]:
    while entry := reader.get_previous():
        yield entry


def _collected(newest_first: Iterator[dict[str, Any]], names: Names, peripherals: frozenset[str]) -> Lines:
    lines, counts = Lines(), Counter[tuple[str, str]]()
    end_s = time.monotonic() + WITHIN_S
    oldest: dict[str, Any] | None = None
    for looked_at, entry in enumerate(newest_first):
        if looked_at >= LOOKED_AT or len(lines.entries) >= ENTRIES or time.monotonic() > end_s:
            lines.stopped = "there are older lines"
            break
        oldest = entry
        told = of_ours(entry, peripherals) or of_systemd(entry, names)
        if told is not None:
            lines.entries.append({"at": _at(entry), "priority": _priority(entry), **told})
        else:
            counts[_unit_of(entry, names), str(_priority(entry))] += 1
    if oldest is None:
        lines.unavailable = "no journal is kept here, or this user may not read it (group systemd-journal)"
        return lines
    lines.since = _at(oldest)
    lines.entries.reverse()
    for (unit, priority), count in sorted(counts.items()):
        lines.counts.setdefault(unit, {})[priority] = count
    return lines


def of_ours(entry: Mapping[str, Any], peripherals: frozenset[str]) -> dict[str, Any] | None:
    """A line of the agent's own, by the journal's own word for who wrote it: fields with `_` cannot be forged."""
    template = _string(entry.get("BOOTH_TEMPLATE"))
    if entry.get("_SYSTEMD_UNIT") != AGENT or template is None or not str(_string(entry.get("LOGGER"))).startswith("agent."):
        return None
    told: dict[str, Any] = {"unit": AGENT, "message": template[:_TEMPLATE_CHARACTERS]}
    for name, check in JOURNAL_FIELDS.items():
        value = _string(entry.get(f"BOOTH_{name.upper()}"))
        if value is not None:
            told[name] = (value if value in peripherals else LEFT_OUT) if name == "peripheral" else check(value)
    return told


def of_systemd(entry: Mapping[str, Any], names: Names) -> dict[str, Any] | None:
    """What the service manager says of a unit that we know; of another one nothing."""
    event = _EVENTS.get(re.sub("[^0-9a-f]", "", str(_string(entry.get("MESSAGE_ID")))))
    unit = names.known(_string(entry.get("UNIT")))
    if event is None or unit is None or str(_string(entry.get("_PID"))) != "1":
        return None
    told: dict[str, Any] = {"unit": unit, "event": event}
    for key, (name, check) in _WORDS.items():
        if (value := text(_string(entry.get(key)), check)) is not None:
            told[name] = value
    return told


def _unit_of(entry: Mapping[str, Any], names: Names) -> str:
    if entry.get("_TRANSPORT") == "kernel":
        return "(kernel)"
    return names.known(_string(entry.get("_SYSTEMD_UNIT"))) or "(others)"


def _priority(entry: Mapping[str, Any]) -> int:
    value = str(_string(entry.get("PRIORITY")))
    return int(value) if value in tuple("01234567") else 6


def _at(entry: Mapping[str, Any]) -> str:
    moment = entry["__REALTIME_TIMESTAMP"]
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(int(moment) / 1e6, UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _string(value: Any) -> str | None:
    """A field as text; one that is given twice is a list, and bytes that are no text stay bytes: neither is ours."""
    return str(value) if isinstance(value, str | int | UUID) else None
