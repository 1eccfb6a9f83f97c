"""`test-print` on a document printer: one page, which the scheduler has to say came out. One that did not is taken back.

What CUPS counts is what the printer's driver or the printer says was printed. A page that is not out soon is cancelled, by us
or, should the scheduler not answer, at the next look that it does answer: nothing of ours may come out for a citizen.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NoReturn, Protocol

from agent.devices import ipp_jobs
from agent.devices.ipp import Conversation, Queue
from agent.devices.ipp_http import IppFailed, QueueNotFound, Refused
from agent.devices.ipp_jobs import COMPLETED, STATES, Outcome, Submitted
from agent.peripherals.declaration import TestFailed
from agent.peripherals.document_printer_words import FINDINGS
from agent.peripherals.printer_reasons import HANDS, ReasonMemory, code_of
from agent.peripherals.printer_waiting import EmptyJob
from agent.rules.declaration import Reading

_COMES_OUT_WITHIN_S: Final = 27.0  # a laser printer that wakes up; the command has 40 s, and others wait for the booth
_GONE_AFTER_S: Final = 60  # cupsd's own part, should nobody be left to cancel it
_POLL_S: Final = 0.25
_NEW_TROUBLE_S: Final = 3.0  # a reason that came with the page
_OLD_TROUBLE_S: Final = 15.0  # one that was there before: it may be over, and CUPS learns that from the page
_SILENT_S: Final = 5.0
_ENDS_LOOKS: Final = 6  # until the backend of a cancelled page is gone
_ENDS_EVERY_S: Final = 0.3
_RAW: Final = "Local Raw Printer"  # cupsd's model of a queue without a driver
_TEXTS: Final = {kind.code: kind.text.en for kind in FINDINGS}

Look = Callable[[], Awaitable[Reading]]


class TestPages:
    """Our test pages at one queue. `number`: of the one that is out, which is nobody's left document; `testing`: a test goes on.
    `documents`: how many that are not ours the last look found.

    What is left of them after a test has to go, and also at first: an agent may have ended in the middle of one.
    """

    __test__ = False  # no test of ours

    def __init__(
        self, converse: Callable[[], AbstractAsyncContextManager[Conversation]], empty_job: EmptyJob, memory: ReasonMemory
    ) -> None:
        self.converse = converse
        self.testing = False
        self.documents = 0
        self._job: Submitted | None = None
        self._unwanted = True
        self._empty_job = empty_job
        self._memory = memory

    def begin(self) -> None:
        self.testing = True

    @property
    def number(self) -> int | None:
        return self._job.number if self._job is not None and self.testing else None

    def sent(self, job: Submitted) -> None:
        self._job = job
        self._memory.sent(job.number)

    async def end(self) -> None:
        """Whatever came of it. Where the scheduler does not answer now, the next look clears."""
        self.testing, self._unwanted = False, True
        with contextlib.suppress(IppFailed):
            async with self.converse() as scheduler:
                await self.cleared(scheduler)

    async def cleared(self, scheduler: Conversation) -> None:
        """To be called at each look, before the queue is looked at. Raises IppFailed."""
        if not self._unwanted or self.testing:
            return
        with contextlib.suppress(Refused):  # who forbids us this has it purged by root, as a left document
            pages = [number for number in await ipp_jobs.ours(scheduler) if number != self._empty_job.number]
            for number in pages:
                await ipp_jobs.cancel(scheduler, number)
            if pages:
                await _at_rest(scheduler)
                self._memory.purged()  # that it is gone says nothing of its having been printed
            if self._job is not None:
                await ipp_jobs.forget(scheduler, self._job)
        self._unwanted, self._job = False, None


class Printer(Protocol):
    """What is tested."""

    pages: TestPages


async def try_page(printer: Printer, look: Look) -> dict[str, Any]:
    """Raises TestFailed. The result: `sheets`, `format`, `took_s`."""
    began_s = time.monotonic()
    pages = printer.pages
    pages.begin()
    try:
        before = await look()
        _check(before, pages.documents)
        job, format_ = await _send(pages)
        pages.sent(job)
        try:
            done = await _followed(pages, job, before, began_s + _COMES_OUT_WITHIN_S)
        except TestFailed:
            with contextlib.suppress(TestFailed):
                await look()  # what is wrong shows while the page waits
            raise
    finally:
        await pages.end()
    with contextlib.suppress(TestFailed):
        await look()  # what CUPS said before the page is old now
    return {"sheets": done.sheets, "format": format_, "took_s": round(time.monotonic() - began_s, 1)}


def _check(reading: Reading, documents: int) -> None:
    """A page is sent only where it can come out now."""
    facts = reading.facts
    if reading.unreadable is not None:
        _fail("It cannot be asked now.", (reading.unreadable.code,))
    elif facts["scheduler"] is False:
        _fail("Restart cups.", ("scheduler-down",))
    elif facts["queue"] is False:
        _fail("Add the queue, or correct its name in agent.toml.", ("queue-missing",))
    elif facts["present"] is False:
        _fail("Then ask again.", ("no-device",))
    elif facts["state"] == "stopped" or facts["accepting"] is False:
        _fail("Heal it, then ask again.", ("queue-stopped",))
    elif documents:
        raise TestFailed(f"{documents} documents wait at the printer: purge-queue first, then ask again", documents=documents)


async def _send(pages: TestPages) -> tuple[Submitted, str]:
    from agent.peripherals.printer_test_page import TITLE, page  # noqa: PLC0415 - for a test alone

    try:
        async with pages.converse() as scheduler:
            queue = await scheduler.queue()
            date = time.strftime("%d/%m/%Y %H:%M")
            format_, document = page(await ipp_jobs.formats(scheduler), date, raw=queue.make_and_model == _RAW)
            return await ipp_jobs.submit(scheduler, document, format_, TITLE, _GONE_AFTER_S), format_
    except IppFailed as error:
        raise TestFailed(
            f"the print server did not take the page ({error}): see the queue's state and the log of cups"
        ) from error
    except ValueError as error:
        raise TestFailed(f"{error}: give it a driver") from error


async def _followed(pages: TestPages, job: Submitted, before: Reading, until_s: float) -> Outcome:
    """Until it came out. Raises TestFailed."""
    old, stale = (frozenset(str(before.facts[name] or "").split(",")) for name in ("reasons", "stale_reasons"))
    trouble_since_s: float | None = None
    heard_s = time.monotonic()
    while True:
        try:
            queue, found = await _ask(pages, job)
        except IppFailed as error:
            if time.monotonic() - heard_s > _SILENT_S:
                _fail(f"It went away while the page was printed ({error}): restart the scheduler.", ("scheduler-down",))
        else:
            heard_s = time.monotonic()
            if found is None:
                raise TestFailed("the print server forgot the page, and does not say whether it came out: look at the tray")
            if found.ended:
                return _judged(found, queue)
            troubles = [reason for reason in queue.reasons if code_of(reason) in HANDS and reason not in stale]
            codes = sorted({code for reason in troubles if (code := code_of(reason)) is not None})
            if queue.state == 5:
                _fail("Heal it, then ask again.", (*codes, "queue-stopped"))
            trouble_since_s = (trouble_since_s or heard_s) if codes else None
            patience_s = _OLD_TROUBLE_S if old.issuperset(troubles) else _NEW_TROUBLE_S
            if trouble_since_s is not None and heard_s - trouble_since_s >= patience_s:
                _fail("The page did not come out, and was taken back.", codes)
            if heard_s >= until_s:
                raise TestFailed(
                    f"no sheet within {_COMES_OUT_WITHIN_S:g} s, and the printer does not say why: switch it off and on",
                    job=STATES.get(found.state), reasons=codes,
                )  # fmt: skip
        await asyncio.sleep(_POLL_S)


async def _ask(pages: TestPages, job: Submitted) -> tuple[Queue, Outcome | None]:
    async with pages.converse() as scheduler:
        found = await ipp_jobs.outcome(scheduler, job)
        if found is None or found.ended:
            await _at_rest(scheduler)  # so that the look after it sees a queue that has nothing to do
        return await scheduler.queue(), found


async def _at_rest(scheduler: Conversation) -> None:
    with contextlib.suppress(QueueNotFound):
        for _ in range(_ENDS_LOOKS):
            if (await scheduler.queue()).state != 4:
                return
            await asyncio.sleep(_ENDS_EVERY_S)


def _judged(found: Outcome, queue: Queue) -> Outcome:
    if found.state == COMPLETED and found.sheets:
        return found
    seen: Mapping[str, Any] = {"job": STATES.get(found.state), "sheets": found.sheets}
    if found.state == COMPLETED:
        raise TestFailed("cups says that it is printed, and counted no sheet: look whether one is in the tray", **seen)
    codes = sorted({code for reason in queue.reasons if (code := code_of(reason)) is not None})
    raise TestFailed("the page was cancelled, or its driver gave up: see the log of cups", reasons=codes, **seen)


def _fail(then: str, codes: Iterable[str]) -> NoReturn:
    """With what the codes mean, and what to do."""
    codes = tuple(codes)
    raise TestFailed(" ".join([*(_TEXTS.get(code, f"{code}.") for code in codes), then]), reasons=list(codes))
