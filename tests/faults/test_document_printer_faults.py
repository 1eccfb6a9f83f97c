"""The fault catalogue on the document printer, with a real cupsd: rows 57 to 60 and 62; stale reasons; what stays private."""

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.devices.sysfs import KernelFiles
from agent.peripherals import document_printer, printer_waiting
from agent.peripherals.document_printer import PERIPHERAL, DocumentPrinterSource, Options
from agent.rules.declaration import Reading
from agent.simulator.cups import _PATH, Cups
from agent.simulator.usb_tree import plug, unplug
from tests.devices.ports import established
from tests.peripherals.surroundings import Around, NobodyThere, Recorded
from tests.world import world

if shutil.which("cupsd", path=_PATH) is None or shutil.which("lp") is None:
    pytest.skip("cupsd or lp is missing: apt-get install cups-daemon cups-client", allow_module_level=True)

CANARY = "canary-0e7f"


@dataclass
class Bench:
    """A print server and a source that asks it."""

    cups: Cups
    source: DocumentPrinterSource
    options: Options

    async def read(self) -> Reading:
        reading = await self.source.probe(active=False)
        assert reading is not None
        return reading

    async def codes(self) -> list[str]:
        return self.of(await self.read())

    def of(self, reading: Reading) -> list[str]:
        return sorted(item.code for item in PERIPHERAL.findings_of(reading, self.options))

    async def until(self, *codes: str, and_: Callable[[Reading], bool] = lambda _: True) -> Reading:
        """Asks until exactly these are found."""
        async with asyncio.timeout(30):
            while self.of(reading := await self.read()) != sorted(codes) or not and_(reading):
                await asyncio.sleep(0.02)
        return reading


@contextlib.asynccontextmanager
async def bench(
    tmp_path: Path,
    *,
    device_uri: str = "simulated://printer",
    history: bool = False,
    policy: str = "stop-printer",
    **options: Any,
) -> AsyncIterator[Bench]:
    cups = Cups(tmp_path, device_uri=device_uri, history=history, policy=policy)
    chosen = Options(cups.url, **options)
    state_dir = tmp_path / "state"
    state_dir.mkdir(exist_ok=True)
    source = DocumentPrinterSource(chosen, Around(KernelFiles(tmp_path), state_dir=state_dir).view, Recorded())
    await cups.start()
    try:
        yield Bench(cups, source, chosen)
    finally:
        await source.close()
        await cups.stop()


@pytest.mark.parametrize(
    ("condition", "code", "french"),
    [
        ({"paper": "out"}, "media-empty", "Il n'y a plus de papier dans l'imprimante de documents."),
        ({"jammed": True}, "media-jam", "Bourrage papier dans l'imprimante de documents."),
        ({"cover_open": True}, "cover-open", "Le capot de l'imprimante de documents est ouvert."),
        ({"paper": "low", "held": True}, "media-low", "Il n'y a presque plus de papier dans l'imprimante de documents."),
        ({"toner_pct": 14}, "toner-low", "Il n'y a presque plus de toner dans l'imprimante de documents."),
        (
            {"other_reasons": ("door-open-error",), "held": True},
            "door-open",
            "Une porte de l'imprimante de documents est ouverte.",
        ),
        ({"other_reasons": ("vendor-thing-error",), "held": True}, "other", "L'imprimante de documents signale un problème."),
    ],
)
async def test_f59_paper_jam_cover_low(
    tmp_path: Path, condition: dict[str, Any], code: str, french: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as b:
        assert await b.codes() == []
        assert b.source.interval_s() == 15.0
        b.cups.change(**condition)
        await b.cups.print_something()
        await b.until(code)
        kind = PERIPHERAL.finding_kinds[code]
        assert kind.text.fr == french
        assert b.source.interval_s() == 2.0, "somebody may be mending it"
        with monkeypatch.context() as later:
            later.setattr(document_printer, "_MENDING_S", -1.0)
            reading = await b.read()
            seldom_s = 4.0 if kind.severity == "fault" else 15.0
            assert b.source.interval_s() == (2.0 if reading.facts["queued_jobs"] else seldom_s), "toner is low for weeks"
        b.cups.change(paper="plenty", jammed=False, cover_open=False, toner_pct=90, held=False, other_reasons=())
        if await b.codes():  # a job that is over takes nothing back by itself
            await b.cups.print_something()
        await b.until(and_=lambda reading: reading.facts["queued_jobs"] == 0)
        assert b.source.interval_s() == 15.0


@pytest.mark.parametrize("history", [True, False])
async def test_a_reason_that_outlived_a_printed_page_is_not_believed(tmp_path: Path, *, history: bool) -> None:
    async with bench(tmp_path, history=history, empty_job=False) as b:
        b.cups.change(jammed=True, takes_back=False)
        await b.cups.print_something()
        await b.until("media-jam")
        await b.cups.cancel_jobs()
        b.cups.change(jammed=False)
        await b.until("media-jam", and_=lambda reading: reading.facts["state"] == "idle")
        page_s = 2.5  # without history, the time of the queue's state tells, in whole seconds
        b.cups.change(page_s=page_s)
        await b.cups.print_something()
        reading = await b.until()
        assert (reading.facts["reasons"], reading.facts["stale_reasons"]) == ("media-jam-error", "media-jam-error")
        await b.cups.restart()
        await b.until()


async def test_a_stopped_queue_and_one_that_takes_no_jobs(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.cups.stop_queue()
        reading = await b.until("queue-stopped")
        assert reading.facts["state"] == "stopped"
        await b.cups.start_queue()
        await b.until()
        await b.cups.accept_jobs(accept=False)
        await b.until("queue-stopped")
        await b.cups.accept_jobs(accept=True)
        await b.until()
        b.cups.change(crashes=True)
        await b.cups.print_something()
        await b.until("queue-stopped")


async def test_a_queue_that_was_deleted_is_missing_until_it_is_back(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.cups.delete_queue()
        reading = await b.until("queue-missing")
        assert (reading.facts["scheduler"], reading.facts["queue"]) == (True, False)
        await b.cups.add_queue()
        await b.until()


async def test_a_job_that_stands_still_is_stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(tmp_path, job_stuck_s=10.0) as b:
        b.cups.change(held=True)
        await b.cups.print_something()
        await b.until(and_=lambda reading: reading.facts["job_stalled_s"] is not None)
        later_s = 12.0
        real = time.monotonic
        monkeypatch.setattr("agent.peripherals.document_printer.time.monotonic", lambda: real() + later_s)
        reading = await b.until("job-stuck")
        assert reading.facts["queued_jobs"] == 1
        b.cups.change(paper="out")
        await b.until("media-empty")
        b.cups.change(paper="plenty")
        await b.until()  # paper is progress: the page takes a moment from there
        b.cups.change(held=False)
        await b.until(and_=lambda reading: reading.facts["job_stalled_s"] is None)


async def test_f57_a_frozen_scheduler_is_down_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.peripherals.document_printer._ASK_S", 0.4)
    async with bench(tmp_path) as b:
        b.cups.freeze()
        late_s = 0.0

        async def others() -> None:
            nonlocal late_s
            while True:
                before_s = time.monotonic()
                await asyncio.sleep(0.01)
                late_s = max(late_s, time.monotonic() - before_s - 0.01)

        watching = asyncio.create_task(others())
        began_s = time.monotonic()
        reading = await b.read()
        took_s = time.monotonic() - began_s
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        (found,) = PERIPHERAL.findings_of(reading, b.options)
        assert (found.code, found.detail) == ("scheduler-down", {"reason": "no answer in 0.4 s"})
        assert 1.7 < took_s < 4, "asked twice, a second apart"
        assert late_s < 0.25, "nobody else waited for it"
        began_s = time.monotonic()
        assert await b.codes() == ["scheduler-down"]
        assert time.monotonic() - began_s < 1, "once is enough while it is down"
        b.cups.thaw()
        await b.until()


async def test_f58_a_scheduler_of_one_byte_a_second_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.peripherals.document_printer._ASK_S", 0.4)
    monkeypatch.setattr("agent.peripherals.document_printer._AGAIN_S", 0.05)
    served = 0

    async def slow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        with contextlib.suppress(ConnectionError):
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n":
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.1)
        writer.transport.abort()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    options = Options(f"ipp://127.0.0.1:{server.sockets[0].getsockname()[1]}/printers/forms")
    source = DocumentPrinterSource(options, Around().view, Recorded())
    try:
        reading = await source.probe(active=True)
        assert reading is not None
        assert [item.code for item in PERIPHERAL.findings_of(reading, options)] == ["scheduler-down"]
        assert served == 2
    finally:
        server.close()
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0.02)


async def test_f60_a_scheduler_that_restarts_in_the_middle_of_a_query_is_no_finding(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.cups.freeze()  # the query is in its hands
        asking = asyncio.create_task(b.codes())
        async with asyncio.timeout(10):
            while not established(b.cups.port):
                await asyncio.sleep(0.005)
        await b.cups.kill()
        await b.cups.start()
        assert await asking == []


async def test_a_scheduler_that_is_stopped_is_down(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.cups.stop()
        reading = await b.until("scheduler-down")
        assert reading.facts["trouble"] == "connection refused"
        assert reading.facts["queue"] is None
        await b.cups.start()
        await b.until()


async def test_f62_unplugged_is_absent_though_cups_says_idle(tmp_path: Path) -> None:
    async with bench(tmp_path, device_uri="usb://Brother/HL-L2310D?serial=E123") as b:
        plug(tmp_path, "1-1.2", "E123")
        reading = await b.until()
        assert (reading.identity.slot, reading.identity.serial) == ("usb-1.2", "E123")
        unplug(tmp_path, "1-1.2")
        reading = await b.until("no-device")
        assert reading.facts["state"] == "idle", "what the queue says still shows"
        await b.cups.stop()
        await b.until("no-device", "scheduler-down")
        await b.cups.start()
        plug(tmp_path, "1-1.4", "E123")
        await b.until()


async def test_nothing_of_a_citizen_is_in_a_reading(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.cups.change(held=True)
        await b.cups.print_something(f"{CANARY}-text", title=f"{CANARY}-title", user=f"{CANARY}-user")
        reading = await b.until(and_=lambda reading: reading.facts["job_stalled_s"] is not None)
        assert CANARY not in repr(reading)


async def test_from_the_queue_to_the_alarm_and_back(tmp_path: Path) -> None:
    cups = Cups(tmp_path)
    printer = {"kind": "document-printer", "device": cups.url, "poll_s": 1, "troubled_s": 1}
    async with world(tmp_path, peripherals={"document-printer": printer}) as w:
        try:
            await cups.start()
            agent = await w.start_agent()
            health = "health/document-printer"
            await w.until(lambda: (w.observer.last(health) or {}).get("status") == "ok", "the queue is well")
            assert list(w.observer.last(health)["facts"]) == [fact.name for fact in PERIPHERAL.facts]
            cups.change(paper="out")
            await cups.print_something(title=f"{CANARY}-title", user=f"{CANARY}-user")
            await w.until(lambda: w.observer.last("alarm/document-printer/media-empty"), "the alarm")
            alarm = w.observer.last("alarm/document-printer/media-empty")
            assert alarm["text"]["fr"] == "Il n'y a plus de papier dans l'imprimante de documents."
            assert (alarm["fix_by"], alarm["runbook"]) == ("shopkeeper", "document-printer/media-empty")
            await w.until(lambda: w.observer.last("service/print") == "down", "no page comes out")
            cups.change(paper="plenty")
            await w.until(lambda: w.observer.last("alarm/document-printer/media-empty") is None, "the alarm cleared")
            await w.until(lambda: w.observer.last("service/print") == "ok", "print is back")
            cups.freeze()
            await w.until(lambda: w.observer.codes("document-printer") == ["scheduler-down"], "a scheduler that hangs")
            cups.thaw()
            await w.until(lambda: w.observer.codes("document-printer") == [], "it goes on")
            everything = json.dumps([[m.topic, m.payload.decode(errors="replace")] for m in w.observer.messages])
            assert CANARY not in everything + agent.stderr()
            assert await agent.stop() == 0
        finally:
            await cups.stop()


# --- what waits while nobody does ---


async def refilled(b: Bench) -> None:
    """Paper ends in the middle of a citizen's job; she leaves, and what waited is forgotten, as between sessions."""
    b.cups.change(paper="out")
    await b.cups.print_something()
    await b.until("media-empty")
    assert not (await b.read()).chores
    await b.cups.purge()
    b.source.purged()


async def test_an_empty_job_waits_in_the_citizens_stead_and_the_alarm_goes_when_the_tray_is_filled(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await refilled(b)
        reading = await b.until("media-empty", and_=lambda reading: reading.facts["state"] == "processing")
        assert not reading.chores, "it is nobody's document"
        assert b.source.interval_s() == 2.0
        b.cups.change(paper="plenty")
        await b.until(and_=lambda reading: reading.facts["queued_jobs"] == 0)
        assert len(b.cups.printed) == 1  # the empty one; of the purged one nothing came out


async def test_no_empty_job_is_sent_in_a_session_nor_where_it_is_not_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path, empty_job=False) as b:
        await refilled(b)
        await b.until("media-empty", and_=lambda reading: reading.facts["state"] == "idle")
        assert (await b.read()).facts["queued_jobs"] == 0
    monkeypatch.setattr(NobodyThere, "taken", lambda _self: contextlib.nullcontext(False))
    (tmp_path / "again").mkdir()
    async with bench(tmp_path / "again") as b:
        await refilled(b)
        await b.until("media-empty", and_=lambda reading: reading.facts["state"] == "idle")
        assert (await b.read()).facts["queued_jobs"] == 0


async def test_an_empty_job_that_stops_the_queue_is_sent_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.cups.change(fails=True, takes_back=False, jammed=True)
        first = await b.cups.print_something()
        await b.until("media-jam", "queue-stopped")
        for _ in range(3):
            await b.cups.purge()
            await b.cups.start_queue()
            b.source._empty_job._next_s = 0.0  # an hour later
            await b.read()
            if b.source._empty_job.number is not None:
                await b.until("media-jam", "queue-stopped")
        assert await b.cups.print_something() == first + 2


async def due(b: Bench) -> None:
    async with asyncio.timeout(20):
        while document_printer.PURGE not in (await b.read()).chores:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("policy", ["stop-printer", "retry-job", "retry-current-job", "abort-job"])
@pytest.mark.parametrize("condition", [{"paper": "out"}, {"fails": True}], ids=["paper-out", "backend-fails"])
async def test_a_document_that_waits_is_to_go_as_soon_as_its_session_is_over(
    tmp_path: Path, policy: str, condition: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path, policy=policy) as b:
        there = True
        monkeypatch.setattr(b.source._session, "held", lambda: there)
        b.cups.change(**condition)
        hers = await b.cups.print_something()
        if policy == "abort-job" and "fails" in condition:
            await b.until(and_=lambda reading: reading.facts["queued_jobs"] == 0)  # it is gone by itself
            assert hers not in b.cups.printed
            return
        async with asyncio.timeout(20):
            while (await b.read()).facts["queued_jobs"] != 1:
                await asyncio.sleep(0.05)
        for _ in range(5):
            assert not (await b.read()).chores, "she is there"
        assert b.source.interval_s() <= 2.0, "her session's end is not announced"
        there = False
        if policy.startswith("retry-") and "fails" in condition:  # between two attempts it looks as if it was printed
            monkeypatch.setattr(printer_waiting, "_STILL_S", 0.5)
        await due(b)
        await b.cups.purge()
        b.source.purged()
        b.cups.change(paper="plenty", fails=False)
        await b.cups.start_queue()
        await b.until(and_=lambda reading: not reading.chores and reading.facts["queued_jobs"] == 0)
        assert hers not in b.cups.printed


async def test_without_a_session_a_document_has_some_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(tmp_path) as b:
        b.cups.change(paper="out")
        await b.cups.print_something()
        await b.until("media-empty")
        assert not (await b.read()).chores
        monkeypatch.setattr(printer_waiting, "_NOBODYS_S", (0.5, 100.0))
        await due(b)


async def test_a_purge_is_no_page_that_came_out(tmp_path: Path) -> None:
    async with bench(tmp_path, empty_job=False) as b:
        await refilled(b)
        await b.cups.print_something()
        await b.until("media-empty", and_=lambda reading: reading.facts["queued_jobs"] == 1)
        await b.cups.purge()
        b.source.purged()
        for _ in range(5):
            assert await b.codes() == ["media-empty"], "the paper is still out"


class Root:
    """Root, for this printer's queue. `mends`: once the documents are gone the printer is well, and CUPS does not hear of it."""

    def __init__(self, cups: Cups, *, mends: bool) -> None:
        self._cups = cups
        self._mends = mends

    async def act(self, name: str) -> None:
        await {"purge-spool": self._cups.purge, "restart-cups": self._cups.restart_empty}[name]()
        if self._mends:
            self._cups.change(other_reasons=(), held=False)


async def after(b: Bench, name: str, *, mends: bool = True) -> list[str]:
    """What is found right after this remedy."""
    remedy = next(item for item in PERIPHERAL.ladder if item.name == name)
    async with asyncio.timeout(remedy.deadline_s):
        await remedy.run(b.source, Root(b.cups, mends=mends))
    return await b.codes()


async def says(b: Bench, code: str) -> None:
    """A citizen's document stands still, and the printer says why; the backend will not live to take it back."""
    await b.codes()
    b.cups.change(other_reasons=(f"{code}-error",), held=True, takes_back=False)
    await b.cups.print_something()
    await b.until(code)


@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize(("name", "code"), [("purge-spool", "spool-area-full"), ("restart-cups", "timed-out")])
async def test_what_a_remedy_has_ended_is_over_before_the_next_citizens_page(
    tmp_path: Path, name: str, code: str, *, history: bool
) -> None:
    async with bench(tmp_path, history=history) as b:
        await b.cups.print_something()
        await b.until(and_=lambda reading: reading.facts["queued_jobs"] == 0)
        await says(b, code)
        assert await after(b, name) == []
        assert (await b.read()).facts["queued_jobs"] == 0
        assert len(b.cups.printed) == 2  # with the empty job; of the purged one nothing came out


async def test_what_a_remedy_has_not_ended_stands_and_what_waits_is_nobodys_document(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await says(b, "spool-area-full")
        assert await after(b, "purge-spool", mends=False) == ["spool-area-full"]
        assert not (await b.read()).chores
        assert b.cups.printed == []


async def test_after_a_remedy_nothing_is_sent_to_a_printer_that_would_print_it(tmp_path: Path) -> None:
    async with bench(tmp_path, empty_job=False) as b:
        await says(b, "spool-area-full")
        assert await after(b, "purge-spool") == ["spool-area-full"]
        assert (await b.read()).facts["queued_jobs"] == 0
        assert b.cups.printed == []
