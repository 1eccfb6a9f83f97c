"""`test-print`, `test-scan`, `test-camera` with a real cupsd, SANE, a camera's program; `self-test` and `probe` over them."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from agent.app import Agent
from agent.devices import ipp_jobs
from agent.peripherals.camera import PERIPHERAL as CAMERA
from agent.peripherals.camera import Options as CameraOptions
from agent.peripherals.document_printer import DocumentPrinterSource
from agent.settings import PeripheralSettings
from agent.simulator.camera import MARK, Behaviour, Camera
from agent.simulator.cups import _PATH, Cups
from agent.simulator.machine import SimulatedMachine
from agent.simulator.scanner import Scanner
from tests.commands.technician import begin_session, command, ended, send, states
from tests.devices.test_sane import need_sane
from tests.world import World, agent_inside, world

PRINTER = "document-printer"


@dataclass
class Booth:
    """Online, each device judged once."""

    w: World
    agent: Agent
    cups: Cups
    scanner: Scanner
    camera: Camera

    async def test(self, verb: str, peripheral: str, **request: Any) -> Any:
        return await command(self.w, verb, args={"peripheral": peripheral}, **request)

    async def print_page(self) -> Any:
        return await self.test("test-print", PRINTER)

    @property
    def printer(self) -> DocumentPrinterSource:
        source = self.agent._watches[PRINTER].source
        assert isinstance(source, DocumentPrinterSource)
        return source

    async def our_jobs(self) -> list[int]:
        async with self.printer.pages.converse() as scheduler:
            return await ipp_jobs.ours(scheduler)

    async def jobs(self) -> list[int]:
        async with self.printer.pages.converse() as scheduler:
            return [job.id for job in await scheduler.jobs()]

    async def waits(self) -> None:
        """Until a job is at the printer."""
        async with asyncio.timeout(20):
            while not await self.jobs():
                await asyncio.sleep(0.05)

    async def nothing_prints_later(self, out: list[int]) -> None:
        """The printer is mended, a citizen prints: her page comes out, and nothing else but `out` did."""
        self.cups.change(paper="plenty", held=False, jammed=False, cover_open=False, crashes=False, fails=False)
        with suppress(RuntimeError):
            await self.cups.start_queue()
        hers = await self.cups.print_something()
        await self.w.until(lambda: hers in self.cups.printed, "a citizen's page")
        assert self.cups.printed == [*out, hers]


@asynccontextmanager
async def booth(
    folder: Path,
    *,
    only: tuple[str, ...] = (),
    history: bool = False,
    more: tuple[PeripheralSettings, ...] = (),
    before: Callable[[Cups, Scanner, Camera], None] = lambda *_: None,
    **options: Any,
) -> AsyncIterator[Booth]:
    """`only`: these peripherals; `options` are the document printer's; `before` breaks something before the agent is there."""
    cups, scanner, camera = Cups(folder, history=history), Scanner(folder / "scanner"), Camera(folder / "camera")
    before(cups, scanner, camera)
    known: dict[str, Any] = {
        PRINTER: {"kind": "document-printer", "device": cups.url, "empty_job": False, **options},
        "scanner": {"kind": "scanner", "device": scanner.device, "config_dir": str(scanner.folder)},
        "camera": {"kind": "camera", "device": "csi:0", "csi_program": str(camera.program)},
    }
    peripherals = {name: table for name, table in known.items() if not only or name in only}
    if PRINTER in peripherals:
        if shutil.which("cupsd", path=_PATH) is None or shutil.which("lp") is None:
            pytest.skip("cupsd or lp is missing: apt-get install cups-daemon cups-client")
        await cups.start()
    if "scanner" in peripherals:
        need_sane()
    try:
        async with (
            world(folder, peripherals=peripherals) as w,
            agent_inside(w, SimulatedMachine(folder / "machine"), *more) as agent,
        ):
            await w.until(lambda: w.observer.last("state") and w.observer.last("state")["state"] == "online", "online")
            yield Booth(w, agent, cups, scanner, camera)
    finally:
        await cups.stop()


# --- printing ---


@pytest.mark.parametrize("history", [True, False])
async def test_a_page_that_came_out_is_counted_whether_cups_remembers_it_or_not(tmp_path: Path, *, history: bool) -> None:
    async with booth(tmp_path, only=(PRINTER,), history=history) as b:
        b.cups.change(page_s=0.5)
        status = await b.print_page()
        assert (status["state"], status["reason"]) == ("succeeded", None)
        result = status["result"]
        assert result == {"sheets": 1, "format": "application/vnd.cups-raw", "took_s": result["took_s"]}
        assert 0.5 <= result["took_s"] < 20
        assert b.cups.printed == [1]
        assert (await b.print_page())["state"] == "succeeded"
        assert b.cups.printed == [1, 2]
        assert b.w.observer.codes(PRINTER) == []


@pytest.mark.parametrize("history", [True, False])
async def test_out_of_paper_fails_with_its_code_and_nothing_comes_out_later(tmp_path: Path, *, history: bool) -> None:
    async with booth(tmp_path, only=(PRINTER,), history=history) as b:
        b.cups.change(paper="out")
        status = await b.print_page()
        assert (status["state"], status["reason"]) == ("failed", None)
        result = status["result"]
        assert (result["codes"], result["reasons"]) == (["media-empty"], ["media-empty"])
        assert "out of paper" in result["message"]
        assert "taken back" in result["message"]
        assert await b.jobs() == []
        await b.w.until(lambda: b.w.observer.codes(PRINTER) == ["media-empty"], "health says so too")
        # That the page is gone is no sign of paper: it is still believed at the next looks.
        for _ in range(3):
            probed = await command(b.w, "probe", args={"peripheral": PRINTER})
            assert probed["result"]["codes"] == ["media-empty"]
        await b.nothing_prints_later([])


async def test_after_the_paper_is_filled_in_a_page_tells_so(tmp_path: Path) -> None:
    async with booth(tmp_path, only=(PRINTER,)) as b:
        b.cups.change(paper="out")
        assert (await b.print_page())["state"] == "failed"
        b.cups.change(paper="plenty")
        assert b.w.observer.codes(PRINTER) == ["media-empty"]
        status = await b.print_page()
        assert (status["state"], status["result"]["sheets"]) == ("succeeded", 1)
        await b.w.until(lambda: b.w.observer.codes(PRINTER) == [], "CUPS has learnt of it")


@pytest.mark.parametrize(
    ("condition", "codes", "words"),
    [
        ({"jammed": True}, ["media-jam"], "jammed"),
        ({"fails": True}, ["queue-stopped"], "Heal it"),
        ({"crashes": True}, ["queue-stopped"], "Heal it"),
    ],
)
async def test_each_way_not_to_come_out_is_told(tmp_path: Path, condition: dict[str, Any], codes: list[str], words: str) -> None:
    async with booth(tmp_path, only=(PRINTER,)) as b:
        b.cups.change(**condition)
        status = await b.print_page()
        assert status["state"] == "failed"
        assert (status["result"]["codes"], status["result"]["reasons"]) == (codes, codes)
        assert words in status["result"]["message"]
        await b.nothing_prints_later([])


async def test_one_that_stands_still_without_a_word_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.peripherals.printer_trial._COMES_OUT_WITHIN_S", 2.0)
    async with booth(tmp_path, only=(PRINTER,), job_stuck_s=10) as b:
        b.cups.change(held=True)
        status = await b.print_page()
        assert (status["state"], status["result"]["job"]) == ("failed", "processing")
        assert "within 2 s" in status["result"]["message"]
        assert status["result"]["codes"] == [], "it is no stuck job of a citizen's"
        await b.nothing_prints_later([])


async def test_a_sheet_that_nobody_counted_is_not_taken_for_one_that_came_out(tmp_path: Path) -> None:
    async with booth(tmp_path, only=(PRINTER,)) as b:
        backend = tmp_path / "cups" / "bin" / "backend" / "simulated"
        backend.write_text(backend.read_text().replace('say("PAGE: 1 1")', "pass"))
        status = await b.print_page()
        assert (status["state"], status["result"]["job"], status["result"]["sheets"]) == ("failed", "completed", 0)
        assert "look whether one is in the tray" in status["result"]["message"]


async def test_where_it_could_not_come_out_none_is_sent(tmp_path: Path) -> None:
    async with booth(tmp_path, only=(PRINTER,)) as b:
        await b.cups.stop_queue()
        assert (await b.print_page())["result"]["reasons"] == ["queue-stopped"]
        await b.cups.start_queue()
        b.cups.change(held=True)
        hers = await b.cups.print_something()
        status = await b.print_page()
        assert status["result"]["documents"] == 1
        assert "purge-queue" in status["result"]["message"]
        assert await b.jobs() == [hers], "it is not this test's to cancel"
        await b.cups.purge()
        await b.cups.stop()
        assert (await b.print_page())["result"]["reasons"] == ["scheduler-down"]
        await b.cups.start()
        await b.cups.delete_queue()
        assert (await b.print_page())["result"]["reasons"] == ["queue-missing"]
        await b.cups.add_queue()
        b.cups.change(held=False)
        assert (await b.print_page())["state"] == "succeeded"


async def test_an_empty_job_that_asks_the_printer_stays_when_a_page_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.peripherals.printer_trial._OLD_TROUBLE_S", 1.0)
    async with booth(tmp_path, only=(PRINTER,), empty_job=True) as b:
        b.cups.change(paper="out")
        assert (await b.print_page())["state"] == "failed"
        async with asyncio.timeout(20):
            while b.printer._empty_job.number is None:
                await command(b.w, "probe", args={"peripheral": PRINTER})
        asks = await b.our_jobs()
        assert len(asks) == 1
        status = await b.print_page()
        assert (status["state"], status["result"]["reasons"]) == ("failed", ["media-empty"])
        assert await b.our_jobs() == asks
        b.cups.change(paper="plenty")
        assert (await b.print_page())["state"] == "succeeded"
        assert await b.our_jobs() == []


@pytest.mark.parametrize(
    ("takes", "format_", "start", "word"),
    [
        (("application/pdf", "text/plain"), "application/pdf", b"%PDF-1.4\n", "12,50 \u20ac ; n\xb0 7 ; \xab".encode("cp1252")),
        (("text/plain",), "text/plain", b"Page d'essai\n", "12,50 € ; n° 7 ; «".encode()),
    ],
)
async def test_a_queue_with_a_driver_gets_the_page_as_pdf_or_else_as_text(
    tmp_path: Path, takes: tuple[str, ...], format_: str, start: bytes, word: bytes
) -> None:
    async with booth(tmp_path, only=(PRINTER,)) as b:
        await _drive(b.cups, tmp_path / "cups", takes)
        b.cups.change(page_s=1.5)
        id_ = send(b.w, "test-print", args={"peripheral": PRINTER})
        document = await b.w.until(lambda: list((tmp_path / "cups" / "spool").glob("d0*")), "the page")
        content = document[0].read_bytes()
        assert content.startswith(start)
        assert word in content
        status = await ended(b.w, "test-print", id_)
        assert (status["state"], status["result"]["format"]) == ("succeeded", format_)


async def test_a_queue_whose_driver_takes_neither_is_told_apart(tmp_path: Path) -> None:
    async with booth(tmp_path, only=(PRINTER,)) as b:
        await _drive(b.cups, tmp_path / "cups", ("image/pwg-raster",))
        status = await b.print_page()
        assert status["state"] == "failed"
        assert "neither application/pdf nor text/plain" in status["result"]["message"]
        assert await b.jobs() == []


async def _drive(cups: Cups, folder: Path, takes: tuple[str, ...]) -> None:
    """Give the queue a driver, whose printer takes these formats as they are."""
    (folder / "ppd").mkdir(exist_ok=True)
    lines = [
        '*PPD-Adobe: "4.3"', '*FormatVersion: "4.3"', '*FileVersion: "1.0"', "*LanguageVersion: English",
        "*LanguageEncoding: ISOLatin1", '*PCFileName: "LASER.PPD"', '*Manufacturer: "Simulated"', '*Product: "(Laser)"',
        '*ModelName: "Laser"', '*ShortNickName: "Laser"', '*NickName: "Simulated Laser"', '*PSVersion: "(3010.000) 0"',
        *(f'*cupsFilter2: "{format_} {format_} 0 -"' for format_ in takes),
        "*OpenUI *PageSize/Size: PickOne", "*DefaultPageSize: A4", '*PageSize A4/A4: ""', "*CloseUI: *PageSize",
        "*DefaultImageableArea: A4", '*ImageableArea A4: "0 0 595 842"', "*DefaultPaperDimension: A4",
        '*PaperDimension A4: "595 842"',
    ]  # fmt: skip
    (folder / "ppd" / "forms.ppd").write_text("\n".join(lines) + "\n")
    await cups.restart()


async def test_a_scheduler_that_is_killed_in_the_middle_prints_nothing_once_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.peripherals.printer_trial._SILENT_S", 1.0)
    async with booth(tmp_path, only=(PRINTER,)) as b:
        b.cups.change(held=True)
        id_ = send(b.w, "test-print", args={"peripheral": PRINTER})
        await b.waits()
        await asyncio.sleep(1.2)  # cupsd writes its jobs down a second later: what it starts with again
        await b.cups.kill()
        status = await ended(b.w, "test-print", id_)
        assert (status["state"], status["result"]["reasons"]) == ("failed", ["scheduler-down"])
        await b.cups.start()
        await command(b.w, "probe", args={"peripheral": PRINTER})
        assert await b.jobs() == []
        await b.nothing_prints_later([])


async def test_an_agent_that_ends_in_the_middle_takes_its_page_back_when_it_starts(tmp_path: Path) -> None:
    cups = Cups(tmp_path)
    await cups.start()
    try:
        peripherals = {PRINTER: {"kind": "document-printer", "device": cups.url}}
        async with world(tmp_path, peripherals=peripherals) as w:
            agent = await w.start_agent()
            cups.change(held=True)
            id_ = send(w, "test-print", args={"peripheral": PRINTER})
            await w.until(lambda: "executing" in states(w, "test-print", id_), "it begins")
            spool = tmp_path / "cups" / "spool"
            await w.until(lambda: list(spool.glob("d0*")), "the page at the printer")
            await agent.kill()
            await w.start_agent()
            assert (await ended(w, "test-print", id_))["reason"] == "interrupted"
            assert (await command(w, "probe", args={"peripheral": PRINTER}))["result"]["facts"]["queued_jobs"] == 0
            cups.change(held=False)
            hers = await cups.print_something()
            await w.until(lambda: cups.printed, "a citizen's page")
            assert cups.printed == [hers]
    finally:
        await cups.stop()


async def test_a_page_under_way_is_nobodys_left_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.peripherals.printer_waiting._NOBODYS_S", (0.0, 0.0))
    monkeypatch.setattr("agent.peripherals.printer_trial._COMES_OUT_WITHIN_S", 2.0)
    async with booth(tmp_path, only=(PRINTER,)) as b:
        b.cups.change(held=True)
        assert (await b.print_page())["state"] == "failed"
        await command(b.w, "probe", args={"peripheral": PRINTER})
        assert [event for event in b.w.observer.events() if event["class"] == "heal"] == []
        assert b.agent._watches[PRINTER].reading.chores == frozenset()


async def test_nothing_of_a_page_stays_in_a_file_or_in_the_scheduler(tmp_path: Path) -> None:
    async with booth(tmp_path, only=(PRINTER,)) as b:
        assert (await b.print_page())["state"] == "succeeded"
        b.cups.change(paper="out")
        assert (await b.print_page())["state"] == "failed"
        assert list((tmp_path / "cups" / "spool").glob("[cd]0*")) == []
        kept = [path for path in (b.w.state_dir, b.w.runtime_dir) for path in path.rglob("*") if path.is_file()]
        assert [path for path in kept if b"Page d" in path.read_bytes()] == []
        subscriptions = tmp_path / "cups" / "subscriptions.conf"
        async with asyncio.timeout(10):  # cupsd writes a second later
            while subscriptions.exists() and "<Subscription" in subscriptions.read_text():
                await asyncio.sleep(0.1)


# --- scanning ---


async def test_a_scan_is_told_by_its_size_and_brightness_alone(tmp_path: Path) -> None:
    async with booth(tmp_path, only=("scanner",)) as b:
        status = await b.test("test-scan", "scanner")
        assert status["state"] == "succeeded"
        result = status["result"]
        assert result.keys() == {"bytes", "width", "height", "luma_mean"}
        assert result["bytes"] == result["width"] * result["height"] > 1000
        assert 4 < result["luma_mean"] <= 255
        assert {path.name for path in b.w.runtime_dir.rglob("sane/*/*")} == {"dll.conf", "test.conf"}


@pytest.mark.parametrize(
    ("word", "codes", "words"),
    [
        ("jammed", ["jammed"], "remove it"),
        ("cover-open", ["cover-open"], "close it"),
        ("no-docs", ["no-docs"], "lay a sheet in"),
        ("access-denied", [], "udev"),
        ("io-error", [], "cable"),
        ("no-memory", [], "runbook"),
    ],
)
async def test_a_scan_that_fails_says_sanes_word_and_what_to_do(tmp_path: Path, word: str, codes: list[str], words: str) -> None:
    async with booth(tmp_path, only=("scanner",)) as b:
        b.scanner.status = word
        status = await b.test("test-scan", "scanner")
        assert (status["state"], status["reason"]) == ("failed", None)
        result = status["result"]
        assert (result["status"], result["message"].partition(":")[0]) == (word, word)
        assert set(codes) <= set(result["codes"])
        assert words in result["message"]
        b.scanner.status = "ok"
        assert (await b.test("test-scan", "scanner"))["state"] == "succeeded"


async def test_a_scan_that_is_wholly_black_fails_and_says_what_to_do(tmp_path: Path) -> None:
    async with booth(tmp_path, only=("scanner",)) as b:
        b.scanner.dark = True
        status = await b.test("test-scan", "scanner")
        assert (status["state"], status["reason"]) == ("failed", None)
        result = status["result"]
        assert (result["status"], result["luma_mean"], result["codes"]) == ("black", 0, [])
        assert "lamp" in result["message"]
        b.scanner.dark = False
        assert (await b.test("test-scan", "scanner"))["state"] == "succeeded"


async def test_a_scanner_that_is_gone_or_whose_library_dies_fails_its_test(tmp_path: Path) -> None:
    async with booth(tmp_path, only=("scanner",)) as b:
        b.scanner.plugged = False
        status = await b.test("test-scan", "scanner")
        assert (status["state"], status["result"]["status"], status["result"]["codes"]) == ("failed", "no-device", ["no-device"])
        b.scanner.plugged, b.scanner.crashes = True, True
        status = await b.test("test-scan", "scanner")
        assert (status["state"], status["result"]["status"]) == ("failed", "probe-failed")


@pytest.mark.parametrize("worked", [True, False])
async def test_f61_a_test_of_a_scanner_in_use_says_so_and_finds_no_fault(tmp_path: Path, *, worked: bool) -> None:
    def before(_cups: Cups, scanner: Scanner, _camera: Camera) -> None:
        scanner.status = "ok" if worked else "busy"

    async with booth(tmp_path, only=("scanner",), before=before) as b:
        b.scanner.status = "busy"
        status = await b.test("test-scan", "scanner")
        assert (status["state"], status["reason"], status["result"]["status"]) == ("failed", "busy", "busy")
        assert "no fault" in status["result"]["message"]
        assert "fault" not in (b.w.observer.last("health/scanner") or {"status": "unknown"})["status"]


async def test_f61_a_test_in_a_session_is_refused_and_no_worker_is_started(tmp_path: Path) -> None:
    async with booth(tmp_path, only=("scanner", "camera")) as b:
        session = begin_session(b.w)
        for verb, name in (("test-scan", "scanner"), ("test-camera", "camera")):
            status = await b.test(verb, name)
            assert (status["state"], status["reason"]) == ("refused", "session-active")
        os.close(session)


# --- filming ---


async def test_good_frames_pass_and_no_picture_leaves_the_worker(tmp_path: Path) -> None:
    async with booth(tmp_path, only=("camera",)) as b:
        status = await b.test("test-camera", "camera")
        assert status["state"] == "succeeded"
        result = status["result"]
        assert result.keys() == {"frames", "luma_mean", "luma_deviation", "distinct_frames"}
        assert (result["frames"], result["distinct_frames"]) == (25, 10)
        assert 100 < result["luma_mean"] < 160
        _nowhere(b, MARK)


def _nowhere(b: Booth, mark: bytes) -> None:
    """Neither in what was published, nor in a file that is younger than the booth."""
    assert [m.topic for m in b.w.observer.messages if mark in m.payload] == []
    kept = [path for path in b.w.folder.rglob("*") if path.is_file() and mark in path.read_bytes()]
    assert kept == []


@pytest.mark.parametrize(
    ("behaviour", "word"),
    [("black", "black"), ("frozen", "frozen"), ("stalled", "no-frames"), ("unplugged", "no-device"), ("crash", "probe-failed")],
)
async def test_bad_frames_fail_at_the_first_film(
    tmp_path: Path, behaviour: Behaviour, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.peripherals.camera._FILM_S", 2.0)
    async with booth(tmp_path, only=("camera",)) as b:
        b.camera.behaviour = behaviour
        status = await b.test("test-camera", "camera")
        assert (status["state"], status["reason"]) == ("failed", None)
        assert status["result"]["message"].startswith(f"{word}: ")
        if behaviour == "black":
            assert status["result"]["luma_mean"] == 16
        b.camera.behaviour = "good"
        assert (await b.test("test-camera", "camera"))["state"] == "succeeded"


@pytest.mark.parametrize("worked", [True, False])
async def test_f65_a_test_of_a_camera_in_use_leaves_it_to_its_user(tmp_path: Path, *, worked: bool) -> None:
    def before(_cups: Cups, _scanner: Scanner, camera: Camera) -> None:
        camera.behaviour = "good" if worked else "busy"

    async with booth(tmp_path, only=("camera",), before=before) as b:
        b.camera.behaviour = "busy"
        status = await b.test("test-camera", "camera")
        assert (status["state"], status["reason"]) == ("failed", "busy")
        assert "no fault" in status["result"]["message"]
        assert [event for event in b.w.observer.events() if event["class"] == "heal"] == [], "nothing was tried about it"


async def test_a_camera_in_a_closed_shop_is_not_filmed(tmp_path: Path) -> None:
    async with booth(tmp_path, only=("camera",)) as b:
        source: Any = b.agent._watches["camera"].source
        object.__setattr__(source._surroundings, "people_expected", lambda: False)
        status = await b.test("test-camera", "camera")
        assert status["state"] == "failed"
        assert "opening hours" in status["result"]["message"]


# --- all of them ---


async def test_a_self_test_reports_each_and_is_as_good_as_its_worst(tmp_path: Path) -> None:
    async with booth(tmp_path) as b:
        began_s = time.monotonic()
        status = await command(b.w, "self-test")
        assert status["state"] == "succeeded", status["result"]
        found = status["result"]["peripherals"]
        assert found.keys() == {PRINTER, "scanner", "camera", "booth"}
        assert {one["passed"] for one in found.values()} == {True}
        assert found["scanner"]["facts"]["scanned_bytes"] > 0
        assert found["camera"]["facts"]["frames"] == 25
        assert b.cups.printed == [], "it costs no sheet"
        assert time.monotonic() - began_s < 40
        b.scanner.status = "jammed"
        status = await command(b.w, "self-test", args={"peripherals": ["scanner", "camera"]})
        assert status["state"] == "failed"
        assert "scanner" in status["result"]["message"]
        found = status["result"]["peripherals"]
        assert {name: one["passed"] for name, one in found.items()} == {"scanner": False, "camera": True}
        assert found["scanner"]["codes"] == ["jammed"]


async def test_one_that_cannot_be_opened_fails_the_self_test_and_its_own(tmp_path: Path) -> None:
    def cannot(*_: Any) -> Any:
        raise RuntimeError("no library")

    broken = PeripheralSettings("broken", replace(CAMERA, open=cannot), CameraOptions("csi:1"))
    async with booth(tmp_path, only=("camera",), more=(broken,)) as b:
        status = await command(b.w, "self-test")
        assert status["state"] == "failed"
        passed = {name: one["passed"] for name, one in status["result"]["peripherals"].items()}
        assert passed == {"camera": True, "broken": False, "booth": True}
        assert "could not be opened" in (await b.test("test-camera", "broken"))["result"]["message"]


async def test_what_a_citizen_uses_is_left_alone_by_self_test_and_probe(tmp_path: Path) -> None:
    async with booth(tmp_path) as b:
        await command(b.w, "self-test")
        session = begin_session(b.w)
        b.scanner.status = "jammed"
        b.camera.behaviour = "crash"
        status = await command(b.w, "self-test")
        assert status["state"] == "succeeded", status["result"]
        passed = {name: one["passed"] for name, one in status["result"]["peripherals"].items()}
        assert passed == {PRINTER: True, "scanner": None, "camera": None, "booth": True}
        probed = await command(b.w, "probe", args={"peripheral": "scanner"})
        assert (probed["result"]["asked"], probed["result"]["status"]) == (False, "ok")
        os.close(session)
        probed = await command(b.w, "probe", args={"peripheral": "scanner"})
        assert (probed["result"]["asked"], probed["result"]["codes"]) == (True, ["jammed"])


async def test_the_tests_are_offered_for_what_can_do_them(tmp_path: Path) -> None:
    async with booth(tmp_path) as b:
        commands = (await b.w.until(lambda: b.w.observer.last("meta"), "meta"))["capabilities"]["commands"]
        assert {"test-print", "test-scan", "test-camera"} <= commands.keys()
        for verb, name in (("test-scan", PRINTER), ("test-print", "camera"), ("test-camera", "scanner")):
            assert (await b.test(verb, name))["reason"] == "not-supported"
