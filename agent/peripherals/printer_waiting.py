"""What waits at a document printer while nobody does: an earlier citizen's document, which must go; and a job of ours, which may stay."""

import time
from collections.abc import Mapping
from typing import Final

from agent.contract.health import FactValue
from agent.peripherals.printer_reasons import HANDS, Look, code_of

_HELD_S: Final = 15.0  # a document that nothing prints, and no session waits for
_PRINTING_S: Final = 120.0  # one that seems to be printed: the first page of a slow printer may take long
# Universal Exit Language (PJL Technical Reference, chapter 2): leaves whatever language the printer is in, and prints nothing.
EMPTY_JOB: Final = b"\x1b%-12345X"
_EMPTY_JOB_S: Final = (60.0, 3600.0)  # between two of them, at first and at most


def held_documents(facts: Mapping[str, FactValue]) -> bool:
    """Whether somebody's document waits and nobody does: it must not come out for the next one. A page that is being printed has
    its time, also where the session that it belongs to is over."""
    held_s = facts["held_s"]
    blocked = facts["state"] != "processing" or any(code_of(reason) in HANDS for reason in current_reasons(facts))
    return isinstance(held_s, int | float) and held_s >= (_HELD_S if blocked else _PRINTING_S)


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
