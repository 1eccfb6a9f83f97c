"""The document printer: a queue of CUPS, asked over IPP; whether it is plugged in, asked of sysfs."""

import asyncio
import contextlib
import hashlib
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

from agent.contract.health import FactValue
from agent.contract.typed import Check, Pattern, Range
from agent.contract.words import is_loopback, printable
from agent.devices import usb
from agent.devices.ipp import Conversation, QueueAddress, converse
from agent.devices.ipp_http import IppFailed, NoAnswer, QueueNotFound, SchedulerAway
from agent.devices.sysfs import KernelFiles
from agent.devices.usb import UsbDevice
from agent.devices.usb_printers import Presence, is_printer
from agent.peripherals.declaration import LOCAL, Acceptance, Chore, Hands, NotAcceptable, Peripheral, Signals, Test
from agent.peripherals.document_printer_words import FACTS, FINDINGS, NOUN
from agent.peripherals.printer_reasons import HANDS, Look, ReasonMemory, code_of, joined
from agent.peripherals.printer_trial import TestPages, try_page
from agent.peripherals.printer_waiting import EMPTY_JOB, EmptyJob, LeftDocuments, current_reasons
from agent.peripherals.surroundings import Surroundings
from agent.rules.declaration import Identity, Observed, Reading, Unreadable, threshold
from agent.rules.ladder import Remedy

_ASK_S: Final = 3.0  # one conversation with the scheduler
_AGAIN_S: Final = 1.0  # a scheduler that restarts is back after that
_DEADLINE_S: Final = 10.0  # two conversations, and the pause between them
_THROUGH_LOOKS: Final = 8  # whether an empty job is through, at a printer that should take jobs again
_THROUGH_EVERY_S: Final = 0.3
_MENDING_S: Final = 600.0  # so long after something went wrong somebody is taken to be at it
_SHIP_AT_PCT: Final = 15.0  # toner: booths.md, "What breaks"
_REPLACED_AT_PCT: Final = 20.0
PURGE: Final = "purge-spool"
_LEFT_OVER: Final = frozenset({"spool-area-full", "timed-out"})  # remedies end them, and CUPS keeps the words until the next job
PAGES_USED_UP: Final = "Le nombre de pages permis est atteint."  # root's word where it lets a queue refuse jobs: no fault
_STATES: Final = {3: "idle", 4: "processing", 5: "stopped"}
_TONER: Final = re.compile("toner|ink|wax", re.IGNORECASE)
_NO_TONER: Final = re.compile("waste|drum|opc|photoconductor|fuser|belt|transfer|maintenance|cleaner", re.IGNORECASE)
_NOTHING: Final[dict[str, FactValue]] = {fact.name: None for fact in FACTS}


def _device_problem(url: str) -> str | None:
    try:
        QueueAddress.parse(url)
    except ValueError as error:
        return str(error)
    return None


@dataclass(frozen=True)
class Options:
    """`poll_s`: how often the queue is asked; `troubled_s`: while something is wrong that a person may be mending.

    `job_stuck_s`: so long may a job print without a page coming out. `usb`: ids of the printer, where cupsd's own
    `device-uri` does not tell (a queue of ipp-usb, say). `empty_job`: whether an idle printer that somebody has to do something
    at is asked by a job of nine bytes that prints nothing; false for one that prints them.
    """

    device: Annotated[str, Check(_device_problem, "ipp:// URL of the queue")] = field(metadata=LOCAL)
    poll_s: Annotated[float, Range(1, 15)] = 15.0
    troubled_s: Annotated[float, Range(1, 4)] = 2.0
    job_stuck_s: Annotated[float, Range(10, 86400)] = 300.0
    empty_job: bool = True
    usb: Annotated[str, Pattern("([0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}(/.+)?)?", 'ids as lsusb shows them, such as "04f9:0054"')] = ""


def find(facts: Mapping[str, FactValue], options: Options) -> Iterable[Observed]:
    """A job that stands still has no other cause than the one that is known, if one is known."""
    if facts["present"] is False:
        yield Observed("no-device", {"reason": "not plugged in"})
    if facts["scheduler"] is False:
        yield Observed("scheduler-down", {"reason": facts["trouble"]})
        return
    if facts["queue"] is False:
        yield Observed("queue-missing")
        return
    stale = {"reasons": facts["stale_reasons"]} if facts["stale_reasons"] else {}
    found = {item.code: item for item in _toner(facts)}
    for reason in current_reasons(facts):
        code = code_of(reason)
        if code is not None and not _contradicted(code, facts):
            found[code] = Observed(code, {"reason": reason} if code == "other" else found.get(code, Observed(code)).detail)
    yield from found.values()
    stopped = facts["state"] == "stopped" or facts["accepting"] is False
    if stopped:
        yield Observed("queue-stopped", {"accepting": facts["accepting"]} | stale)
    stalled_s = facts["job_stalled_s"]
    explained = stopped or facts["present"] is False or not found.keys().isdisjoint(HANDS)
    if isinstance(stalled_s, int | float) and stalled_s >= options.job_stuck_s and not explained:
        yield Observed("job-stuck", {"job_stalled_s": stalled_s} | stale)


def _contradicted(code: str, facts: Mapping[str, FactValue]) -> bool:
    """Whether something that is measured knows better than a reason, which may be left over."""
    if code == "offline":
        return facts["present"] is True  # plugged in: SNMP knows less
    level_pct = facts["toner_lowest_pct"]
    return code == "toner-low" and isinstance(level_pct, int | float) and level_pct > _REPLACED_AT_PCT


def _toner(facts: Mapping[str, FactValue]) -> list[Observed]:
    level_pct = facts["toner_lowest_pct"]
    known = level_pct if isinstance(level_pct, int | float) else None
    return threshold("toner-low", known, raises_at=_SHIP_AT_PCT, clears_at=_REPLACED_AT_PCT, detail_key="toner_lowest_pct")


class DocumentPrinterSource:
    """Asks the scheduler, also while a citizen prints: it answers for the printer, which is not disturbed."""

    def __init__(self, options: Options, surroundings: Surroundings, signals: Signals) -> None:
        self._options = options
        self._address = QueueAddress.parse(options.device)
        self._resolve = surroundings.resolve
        self._signals = signals
        name = hashlib.sha256(self._address.uri.encode()).hexdigest()[:8]
        self._memory = ReasonMemory(surroundings.state_dir / f"printer-reasons-{name}.json")
        self._presence = Presence(surroundings.files, options.usb)
        self._away = False
        self._progress: tuple[tuple[Any, ...], float] | None = None  # of the current job, and since when
        self._left = LeftDocuments()
        self._waits = False
        self._interval_s = options.poll_s
        self._codes: tuple[frozenset[str], float] = (frozenset(), 0.0)  # what is wrong, and since when
        self._session = surroundings.session
        self._empty_job = EmptyJob()
        self._left_over = False
        self.pages = TestPages(self._conversation, self._empty_job, self._memory)
        self._unsubscribe = surroundings.on_usb(self._usb_event)

    async def probe(self, *, active: bool) -> Reading | None:
        """The same either way: cupsd's knowledge is all there is short of printing a page."""
        del active
        facts = dict(_NOTHING)
        look: Look | None = None
        left = False
        try:
            look = await self._look_twice()
            self._away = False
            self._presence.learn(look.queue.device_uri)
        except (SchedulerAway, NoAnswer) as error:
            self._away = True
            facts |= {"scheduler": False, "trouble": str(error)}
        except QueueNotFound as error:
            self._away = False
            facts |= {"scheduler": True, "queue": False, "trouble": str(error)}
        except IppFailed as error:
            self._away = False
            self._interval_s = self._options.poll_s
            return Reading(unreadable=Unreadable("probe-failed", {"reason": str(error)}))
        present, device = self._presence.look()
        facts["present"] = present
        if look is not None:
            facts |= self._facts(self._timed(look, present))
            codes = {code_of(reason) for reason in current_reasons(facts)}
            hands = not codes.isdisjoint(HANDS)
            self._left_over = not codes.isdisjoint(_LEFT_OVER)
            left = self._documents_left(look, blocked=hands or present is False or look.queue.state != 4)
            await self._ask_printer(look, hands=hands)
        reading = Reading(facts, self._identity(look, device), chores=frozenset({PURGE} if left else ()))
        self._interval_s = self._next_s(reading)
        return reading

    def interval_s(self) -> float:
        return min(self._interval_s, self._options.troubled_s) if self._waits else self._interval_s

    async def close(self) -> None:
        """Nothing is held open between two probes."""
        self._unsubscribe()

    async def _look_twice(self) -> Look:
        try:
            return await self._look()
        except QueueNotFound:
            raise
        except IppFailed:
            if self._away:
                raise  # it was down before
        await asyncio.sleep(_AGAIN_S)
        return await self._look()

    def _conversation(self) -> contextlib.AbstractAsyncContextManager[Conversation]:
        return converse(self._address, self._resolve, _ASK_S)

    async def _look(self) -> Look:
        async with self._conversation() as scheduler:
            await self.pages.cleared(scheduler)
            queue = await scheduler.queue()
            busy = queue.state == 4 or queue.queued_jobs != 0
            jobs = tuple(await scheduler.jobs()) if busy else ()
            done = tuple(await scheduler.done_jobs()) if self._memory.concerned(queue.reasons) else ()
        return Look(queue, jobs, done)

    def purged(self) -> None:
        """Every document of the queue was cancelled and forgotten."""
        self._memory.purged()
        self._empty_job.purged()

    def _documents_left(self, look: Look, *, blocked: bool) -> bool:
        """Whether somebody's document waits and she has gone. While any waits, the session is looked at as often as the queue."""
        jobs = [job for job in look.jobs if job.id not in (self._empty_job.number, self.pages.number)]
        self.pages.documents = len(jobs)
        self._waits = bool(jobs)
        return self._left.left(jobs, blocked=blocked, session=self._waits and self._session.held())

    async def _ask_printer(self, look: Look, *, hands: bool) -> None:
        """CUPS learns that paper was filled in while a job runs, and no citizen's job may wait for that: an empty one does. Once
        it is through, its reasons are as old as the fault."""
        if not self._empty_job.due(look, hands=hands) or not self._options.empty_job or self.pages.testing:
            return
        with self._session.taken() as ours:
            if ours:
                with contextlib.suppress(IppFailed):
                    async with self._conversation() as scheduler:
                        self._empty_job.sent(await scheduler.print_raw(EMPTY_JOB, "booth-agent"))

    async def ask_anew(self) -> None:
        """After a remedy, whether what CUPS goes on saying still holds: as above, an empty job tells."""
        if not self._left_over or not self._options.empty_job:
            return
        with contextlib.suppress(IppFailed):  # then it does
            async with self._conversation() as scheduler:
                number = await scheduler.print_raw(EMPTY_JOB, "booth-agent")
                self._empty_job.sent(number)
                self._memory.sent(number)
                for _ in range(_THROUGH_LOOKS):
                    if all(job.id != number for job in await scheduler.jobs()):
                        break
                    await asyncio.sleep(_THROUGH_EVERY_S)

    def _timed(self, look: Look, present: bool | None) -> Look:
        """With how long the current job has stood still: seen by ourselves, or by cupsd's clock where we came later.

        A job that waits for its next attempt is the current one too (error policy retry-job).
        """
        jobs = [] if look.queue.state == 5 else sorted(look.jobs, key=lambda job: (job.state not in (5, 6), job.id))
        job = next((job for job in jobs if job.state != 4 and job.id != self.pages.number), None)  # 4: held, by somebody's wish
        if job is None:
            self._progress = None
            return look
        now_s = time.monotonic()
        # Paper that was filled in or a cable that is back is progress as well: the page takes a moment from there.
        progress = (job.id, job.sheets, job.impressions, look.queue.reasons, present)
        if self._progress is None or self._progress[0] != progress:
            began_s = now_s
            if self._progress is None and not (job.sheets or job.impressions) and job.processing_at_s and look.queue.now_s:
                ago_s = look.queue.now_s - job.processing_at_s
                began_s -= ago_s if 0 < ago_s < 86400 else 0  # more: its clock was set in between
            self._progress = (progress, began_s)
        return replace(look, stalled_s=now_s - self._progress[1])

    def _facts(self, look: Look) -> dict[str, FactValue]:
        queue = look.queue
        stale = self._memory.stale(look)
        lowest = min(
            (supply for supply in queue.supplies if supply.level_pct is not None and _is_toner(supply.type, supply.name)),
            key=lambda supply: supply.level_pct or 0,
            default=None,
        )
        return {
            "scheduler": True,
            "queue": True,
            "state": _STATES.get(queue.state or 0),
            "accepting": None if queue.accepting is False and queue.message == PAGES_USED_UP else queue.accepting,
            "reasons": joined(reason for reason in queue.reasons if reason != "none"),
            "stale_reasons": joined(stale),
            "queued_jobs": queue.queued_jobs,
            "job_stalled_s": None if look.stalled_s is None else int(look.stalled_s),
            "toner_lowest_pct": lowest.level_pct if lowest else None,
            "toner_lowest": printable(lowest.name or lowest.type) if lowest else None,
        }

    def _identity(self, look: Look | None, device: UsbDevice | None) -> Identity:
        if device is not None:
            return Identity(device.slot, device.vendor, device.product, device.serial)
        model = look.queue.make_and_model if look else None
        return Identity("loopback" if is_loopback(self._address.host) else "network", product=printable(model) if model else None)

    def _next_s(self, reading: Reading) -> float:
        """Soon while somebody may be mending it, and waits for the light to turn."""
        codes = frozenset(item.code for item in PERIPHERAL.findings_of(reading, self._options) if not item.holds_only)
        now_s = time.monotonic()
        if codes != self._codes[0]:
            self._codes = (codes, now_s)
        faults = any(PERIPHERAL.finding_kinds[code].severity == "fault" for code in codes)
        if not codes or (not faults and now_s - self._codes[1] > _MENDING_S):
            return self._options.poll_s  # toner is low for weeks
        return min(self._options.poll_s, self._options.troubled_s * (1 if now_s - self._codes[1] <= _MENDING_S else 2))

    def _usb_event(self, _action: str, _path: str) -> None:
        if self._presence.on_usb:
            self._signals.wake()


def _is_toner(kind: str, name: str) -> bool:
    """Waste boxes and drums have levels too. Without a type, whatever is not named like one of them is toner."""
    return _TONER.search(kind) is not None and not _NO_TONER.search(kind) if kind else not _NO_TONER.search(name)


_RESTARTS: Final = frozenset({"queue-stopped", "job-stuck", "spool-area-full", "scheduler-down", "timed-out"})


async def _purge(source: DocumentPrinterSource, hands: Hands) -> None:
    await hands.act("purge-spool")
    source.purged()
    await source.ask_anew()


async def _enable(source: DocumentPrinterSource, hands: Hands) -> None:
    """Root purges before it enables: CUPS would print the held document at once, for whoever stands there now."""
    await hands.act("enable-queue")
    source.purged()


async def _restart(source: DocumentPrinterSource, hands: Hands) -> None:
    """It starts with an empty spool."""
    await hands.act("restart-cups")
    source.purged()
    await source.ask_anew()


async def _reset(source: DocumentPrinterSource, hands: Hands) -> None:
    await hands.act("usb-reset")
    await source.ask_anew()


_LADDER: Final = (
    Remedy("purge-spool", frozenset({"job-stuck", "spool-area-full"}), _purge, settle_s=3.0),
    Remedy("enable-queue", frozenset({"queue-stopped"}), _enable, deadline_s=15.0, max_attempts=2, cooldown_s=30.0),
    Remedy("restart-cups", _RESTARTS, _restart, deadline_s=25.0, settle_s=5.0, max_attempts=2, cooldown_s=300.0),
    Remedy("usb-reset", frozenset({"job-stuck", "timed-out"}), _reset, settle_s=5.0, needs_usb=True),
)


def _named(configured: str, device: UsbDevice, files: KernelFiles) -> str:
    if not is_printer(files, device):
        raise NotAcceptable("what is plugged in there is no printer")
    return usb.ids_like(configured, device)


_ACCEPTANCE: Final = Acceptance(
    "usb",
    _named,
    "its queue in CUPS says which printer it is: point that to the new one, lpadmin -p QUEUE -v URI (lpinfo -v lists URIs)",
    then="its queue in CUPS may still name the former printer and driver: lpstat -v, and test-print",
)

PERIPHERAL = Peripheral(
    kind="document-printer",
    noun=NOUN,
    options=Options,
    facts=FACTS,
    findings=FINDINGS,
    find=find,
    open=DocumentPrinterSource,
    deadline_s=_DEADLINE_S,
    ladder=_LADDER,
    accept=_ACCEPTANCE,
    chores=(Chore(PURGE, _purge),),
    tests=(Test("test-print", try_page),),
)
