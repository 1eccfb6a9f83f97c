"""What an IPP printer's state reasons mean, and which of them CUPS should have forgotten.

Reasons are keywords of RFC 8011 section 5.4.12, PWG 5100.9 and the vendors, with a suffix `-report`, `-warning` or
`-error`. The suffix says little: CUPS calls a jam a warning. So severity follows from the word alone.
"""

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.contract.words import TEXT_LIMIT, printable
from agent.devices.ipp import Job, Queue

SUFFIXES: Final = ("-report", "-warning", "-error")

# Low is no fault yet: the printer prints, and a page that came out disproves nothing.
LOW: Final = (
    "media-low", "output-area-almost-full", "toner-low", "marker-supply-low", "marker-waste-almost-full", "developer-low",
    "opc-near-eol",
)  # fmt: skip
# Somebody has to do something at the printer before it goes on.
HANDS: Final = (
    "media-empty", "media-needed", "media-jam", "cover-open", "door-open", "input-tray-missing", "output-tray-missing",
    "output-area-full", "toner-empty", "marker-supply-empty", "marker-supply-missing", "marker-waste-full",
)  # fmt: skip
KNOWN: Final = (
    *HANDS, "developer-empty", "opc-life-over", "fuser-over-temp", "fuser-under-temp", "spool-area-full",
    "interpreter-resource-unavailable", "timed-out", "offline", "other", *LOW,
)  # fmt: skip
_SAME: Final = {"interlock-open": "cover-open", "shutdown": "offline", "service-needed": "other"}

# What CUPS and drivers say of themselves; `paused` is the printer's state once more.
_MEANINGLESS: Final = (
    "none", "paused", "moving-to-paused", "connecting-to-device", "stopping", "stopped-partly", "hold-new-jobs",
    "deactivated", "identify-printer-requested", "resuming", "testing", "wifi-not-configured",
)  # fmt: skip
_MEANINGLESS_STARTS: Final = ("cups-", "com.", "job-")

_GAVE_UP_S: Final = 60.0  # a job that stood still for so long and then went away was cancelled, as far as we can tell


def code_of(reason: str) -> str | None:
    """The finding that a reason stands for; None where it says nothing about the printer."""
    for word in (reason, _stem(reason)):
        if word in KNOWN:
            return word
        if word in _SAME:
            return _SAME[word]
    if _stem(reason) in _MEANINGLESS or reason.startswith(_MEANINGLESS_STARTS):
        return None
    return None if reason.endswith(("-report", "-warning")) else "other"


def _stem(reason: str) -> str:
    suffix = next((suffix for suffix in SUFFIXES if reason.endswith(suffix)), "")
    return reason.removesuffix(suffix)


def joined(reasons: Iterable[str]) -> str | None:
    """Whole keywords, as many as a fact may hold; what we know first."""
    line = ""
    for reason in sorted(map(printable, reasons), key=_rank):
        longer = f"{line},{reason}" if line else reason
        if len(longer) > TEXT_LIMIT:
            break
        line = longer
    return line or None


def _rank(reason: str) -> tuple[bool, int]:
    code = code_of(reason)
    return code in (None, "other"), KNOWN.index(code) if code else 0


@dataclass(frozen=True)
class Look:
    """One answer of the scheduler: the queue, its jobs that are not done, and the newest that are.

    `stalled_s` is how long the current job has stood still.
    """

    queue: Queue
    jobs: tuple[Job, ...] = ()
    done: tuple[Job, ...] = ()
    stalled_s: float | None = None

    @property
    def at_rest(self) -> bool:
        return self.queue.state == 3 and self.queue.accepting is not False and not self.jobs


@dataclass
class _Seen:
    """A reason since it was first seen. `success`: number and end of the newest job that had succeeded by then."""

    success: list[int] | None
    jobs: frozenset[int]
    stale: bool = False


class ReasonMemory:
    """Which reasons were there before the newest job that succeeded, and so outlived their cause.

    CUPS keeps a reason until a backend takes it back, and one that was killed in a jam never does: it survives
    purge, enable, printed pages and restarts of cupsd. Success is read from the list of completed jobs. With
    `PreserveJobHistory No` there is none: then a job that came after the reason and went, without standing still for a
    minute, leaving the queue idle and accepting, counts as a success, unless the error policy is to drop failed jobs.

    The memory is a small file, since booths restart every night. Limits: without history, a job that nobody saw is missed where
    it ended in the second of the one before (the next one tells), a job that is cancelled
    within its first minute passes for a success, and so does one whose filter failed; what was printed while the agent was
    off goes unnoticed; a second jam that CUPS cannot tell from the first shows as `job-stuck` or `queue-stopped`, which
    name the stale reason. A reason that goes away and comes back is a new one. What is merely low is never stale.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen = _read(file)
        self._last: Look | None = None
        self._sent: int | None = None  # a job of ours, since the spool was emptied
        self._writing = threading.Lock()

    @staticmethod
    def concerned(reasons: Iterable[str]) -> bool:
        """Whether any of them can be stale, so that completed jobs matter."""
        return any(code_of(reason) not in (None, *LOW) for reason in reasons)

    def stale(self, look: Look) -> tuple[str, ...]:
        """The reasons of this look that are stale; to be called with every look, in order."""
        before = _stored(self._seen)
        success = max(
            ([job.id, job.completed_at_s or 0] for job in look.done if job.state == 9), key=lambda item: item[::-1], default=None
        )
        known = frozenset(job.id for job in look.jobs)
        ended = self._ended_well(look)
        if look.done:
            ended = next((job.id for job in look.done if job.state == 9 and job.id == self._sent), None)
        if self._sent not in known:
            self._sent = None
        seen: dict[str, _Seen] = {}
        for reason in look.queue.reasons:
            if not self.concerned((reason,)):
                continue
            entry = self._seen.get(reason)
            if entry is None:
                entry = _Seen(success, known)
            elif _newer(success, entry.success) or (ended is not None and ended not in entry.jobs):
                entry.stale = True
            seen[reason] = entry
        self._seen = seen
        self._last = look
        if _stored(seen) != before:
            # In a thread that can be left behind: a memory card that hangs must not stop the loop.
            threading.Thread(target=self._keep, name="printer-reasons", daemon=True).start()
        return tuple(reason for reason, entry in seen.items() if entry.stale)

    def purged(self) -> None:
        """Every job was deleted: that one is gone says nothing of its having been printed."""
        self._last = self._sent = None
        for entry in self._seen.values():
            entry.jobs = frozenset()  # cupsd may count from 1 again

    def sent(self, number: int | None) -> None:
        """A job of ours came after all that was seen, and may be gone before the next look."""
        self._last, self._sent = None, number

    def _keep(self) -> None:
        with self._writing:  # the newest content is written last, whichever thread comes first
            _write(self._file, _stored(self._seen))

    def _ended_well(self, look: Look) -> int | None:
        """The number of a job that ended since the last look, seemingly well; 0 for one that nobody saw."""
        last = self._last
        if not look.at_rest or look.queue.error_policy == "abort-job":
            return None
        if last is None:
            return self._sent
        if last.at_rest:
            return 0 if look.queue.changed_at_s != last.queue.changed_at_s else None
        running = next((job.id for job in last.jobs if job.state == 5), None)
        return None if (last.stalled_s or 0.0) >= _GAVE_UP_S else running


def _newer(success: list[int] | None, known: list[int] | None) -> bool:
    if success is None:
        return False
    return known is None or (success != known and success[1] >= known[1])


def _stored(seen: dict[str, _Seen]) -> dict[str, Any]:
    return {reason: {"success": entry.success, "stale": entry.stale} for reason, entry in seen.items()}


def _write(file: Path, content: dict[str, Any]) -> None:
    """Losing it costs one false alarm: no sync, and a full disk is somebody else's finding."""
    fresh = file.with_suffix(".new")
    try:
        fresh.write_text(json.dumps(content), encoding="utf-8")
        fresh.replace(file)
    except OSError:
        return


def _read(file: Path) -> dict[str, _Seen]:
    """Empty where there is none, or what a power cut left is no memory."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {
            str(reason): _Seen(_pair(entry["success"]), frozenset(), entry["stale"] is True) for reason, entry in content.items()
        }
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return {}


def _pair(value: Any) -> list[int] | None:
    return None if value is None else [int(value[0]), int(value[1])]
