"""What waits at a document printer while nobody does: an earlier citizen's document, which must go; and jobs of ours, of which an
empty one may stay."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent.contract.health import FactValue
from agent.devices.ipp import Job
from agent.peripherals.printer_reasons import Look

_STILL_S: Final = 30.0  # a document of a session that is over, and seems to be printed: a page comes out in that time
_NOBODYS_S: Final = (15.0, 120.0)  # one that no session was seen with: blocked, and seemingly printed
# Universal Exit Language (PJL Technical Reference, chapter 2): leaves whatever language the printer is in, and prints nothing.
EMPTY_JOB: Final = b"\x1b%-12345X"
_EMPTY_JOB_S: Final = (60.0, 3600.0)  # between two of them, at first and at most


class LeftDocuments:
    """Whether a document waits and nobody does: it must not come out for the next citizen. To be asked at each look."""

    def __init__(self) -> None:
        self._of_sessions: frozenset[int] = frozenset()  # jobs that were there while a citizen was
        self._waiting: tuple[tuple[Any, ...], float] = ((), 0.0)  # what is to be printed, and since when that stands still

    def left(self, jobs: Sequence[Job], *, blocked: bool, session: bool) -> bool:
        """`blocked`: nothing is printed until somebody has done something. A page that is being printed has its time, also
        where its session is over."""
        now_s = time.monotonic()
        waiting = tuple((job.id, job.sheets, job.impressions) for job in jobs)
        if waiting != self._waiting[0]:
            self._waiting = (waiting, now_s)
        numbers = frozenset(job.id for job in jobs)
        if session:
            self._of_sessions = numbers
            return False
        self._of_sessions &= numbers
        still_s = now_s - self._waiting[1]
        if self._of_sessions:
            return blocked or still_s >= _STILL_S
        return bool(numbers) and still_s >= (_NOBODYS_S[0] if blocked else _NOBODYS_S[1])


class EmptyJob:
    """When an empty job is worth sending, and which one is out."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._next_s = 0.0
        self._pause_s = _EMPTY_JOB_S[0]
        self._stops_queue = False

    def due(self, look: Look, *, hands: bool) -> bool:
        """Whether somebody has to do something at an idle printer, by what was said last. To be called with every look."""
        out = self.number is not None and any(job.id == self.number for job in look.jobs)
        if not hands:
            self._next_s, self._pause_s, self._stops_queue = 0.0, _EMPTY_JOB_S[0], False
        elif look.queue.state == 5 and out:
            self._stops_queue = True  # it waits for nothing, and would have the queue enabled again and again
        if not out:
            self.number = None
        return hands and look.at_rest and not self._stops_queue and time.monotonic() >= self._next_s

    def purged(self) -> None:
        """It was purged together with what others had left: another one may follow at once."""
        self.number, self._next_s, self._pause_s = None, 0.0, _EMPTY_JOB_S[0]

    def sent(self, number: int | None) -> None:
        self.number = number
        self._next_s = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _EMPTY_JOB_S[1])


def current_reasons(facts: Mapping[str, FactValue]) -> list[str]:
    """The state reasons that did not outlive their cause."""
    stale = _listed(facts["stale_reasons"])
    return [reason for reason in _listed(facts["reasons"]) if reason not in stale]


def _listed(value: FactValue) -> list[str]:
    return value.split(",") if isinstance(value, str) else []
