"""What a scanner's facts mean, when it is used, when it is left alone, and how often it is asked in trouble."""

import fcntl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.contract.typed import Invalid, build
from agent.devices.sysfs import KernelFiles
from agent.devices.workers import WorkerFailed
from agent.peripherals import scanner
from agent.peripherals.scanner import PERIPHERAL, Options, ScannerSource
from agent.rules.declaration import Reading, Unreadable
from agent.system.session import open_lock
from tests.devices.test_usb import plug
from tests.peripherals.surroundings import Around, Recorded

FINE: dict[str, Any] = {
    "present": True, "opened": True, "status": "ok", "cover_open": None, "document_loaded": None, "scanned_bytes": 361,
}  # fmt: skip
OPTIONS = Options("sane:test:0")


@pytest.mark.parametrize(
    ("facts", "codes"),
    [
        ({}, []),
        ({"cover_open": False, "document_loaded": True}, []),
        ({"status": "jammed"}, ["jammed"]),
        ({"status": "cover-open"}, ["cover-open"]),
        ({"cover_open": True, "scanned_bytes": None}, ["cover-open"]),
        ({"cover_open": True, "status": "cover-open"}, ["cover-open"]),
        ({"cover_open": True, "status": "jammed"}, ["cover-open", "jammed"]),
        ({"status": "no-docs"}, ["no-docs"]),
        ({"status": "access-denied", "opened": False}, ["access-denied"]),
        ({"status": "io-error"}, ["io-error"]),
        ({"status": "invalid", "opened": False}, ["io-error"]),  # plugged, and its backend does not find it
        ({"status": "invalid"}, ["hardware-error"]),
        ({"status": "end-of-file", "scanned_bytes": 0}, ["hardware-error"]),
        ({"status": "Something new"}, ["hardware-error"]),
        ({"status": "warming-up"}, ["lamp-error"]),
        ({"status": "no-memory"}, ["probe-failed"]),
    ],
)
def test_findings_follow_from_facts(facts: dict[str, Any], codes: list[str]) -> None:
    found = list(scanner.find(FINE | facts, OPTIONS))
    assert [item.code for item in found] == codes
    assert not any(item.holds_only for item in found)


def test_while_somebody_else_has_it_what_was_believed_stands_and_nothing_new_is() -> None:
    first, *others = scanner.find(FINE | {"status": "busy", "opened": False}, OPTIONS)
    assert (first.code, PERIPHERAL.finding_kinds["busy"].severity) == ("busy", "info")
    assert others
    assert all(item.holds_only for item in others)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "device"),
        ({"device": "test:0"}, "device"),
        ({"device": "sane:test"}, "device"),
        ({"device": "sane:../etc:0"}, "device"),
        ({"device": "sane:test:0\nnet"}, "device"),
        ({"device": "sane:test:0", "usb": "4b8:130"}, "usb"),
        ({"device": "sane:test:0", "config_dir": "here"}, "config_dir"),
        ({"device": "sane:test:0", "worker_s": 21}, "worker_s"),
    ],
)
def test_wrong_options_are_named_by_their_path(options: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        build(Options, options, "peripherals.scanner")
    assert [problem.path for problem in caught.value.problems] == [f"peripherals.scanner.{path}"]


@pytest.mark.parametrize("device", ["sane:epson2:libusb:001:004", "sane:pixma:04A91913_1122", "sane:genesys:auto"])
def test_a_device_is_written_as_its_backend_names_it(device: str) -> None:
    build(Options, {"device": device, "usb": "04b8:0130/X/1"})


def test_a_citizen_waits_less_than_a_minute_for_scanner_and_camera_together() -> None:
    assert Options("sane:test:0").worker_s < PERIPHERAL.deadline_s <= 30


ANSWER: dict[str, Any] = {
    "listed": True, "opened": True, "status": "ok", "text": None, "vendor": "ACME", "product": "Flat",
    "cover_open": None, "document_loaded": None, "scanned_bytes": 361,
}  # fmt: skip
NOT_FOUND = {"listed": False, "opened": False, "status": "invalid", "vendor": None, "product": None, "scanned_bytes": None}


class Calls:
    """In the place of Workers: answers what it is told to, and counts."""

    def __init__(self) -> None:
        self.count = 0
        self.answer: dict[str, Any] | WorkerFailed = ANSWER

    async def call(self, *_: Any, **__: Any) -> dict[str, Any]:
        self.count += 1
        if isinstance(self.answer, WorkerFailed):
            raise self.answer
        return self.answer


class Case:
    """A source whose worker is answered for, on a machine whose clock and USB ports are ours."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.root = folder / "machine"
        self.calls = Calls()
        self.signals = Recorded()
        self.now_s = 1000.0
        monkeypatch.setattr("agent.peripherals.scanner.time.monotonic", lambda: self.now_s)
        around = Around(KernelFiles(self.root), state_dir=folder, runtime_dir=folder)
        self.around = around
        self.handlers = around._usb
        self.options = Options("sane:x:1", **options)
        self.source = ScannerSource(self.options, replace(around.view, workers=self.calls), self.signals)  # type: ignore[arg-type]

    async def codes(self, *, active: bool = True) -> list[str] | None:
        reading = await self.source.probe(active=active)
        return None if reading is None else [item.code for item in PERIPHERAL.findings_of(reading, self.options)]

    def event(self, action: str, path: str = "/devices/pci0/usb1/1-1/1-1.2") -> tuple[int, int]:
        """How often that woke the engine, and how often for a check that uses the scanner."""
        wakes, active = self.signals.wakes, self.signals.active_wakes
        for handler in self.handlers:
            handler(action, path)
        return self.signals.wakes - wakes, self.signals.active_wakes - active

    def plug(self) -> None:
        plug(self.root, "1-1.2", "04b8", "0130", manufacturer=b"EPSON", product=b"Perfection", serial=b"S1")

    def unplug(self) -> None:
        device = self.root / "sys/bus/usb/devices/1-1.2"
        for file in device.iterdir():
            file.unlink()
        device.rmdir()


USB = {"usb": "04b8:0130"}


async def test_a_healthy_scanner_is_left_alone_between_the_active_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, monkeypatch)
    assert await case.codes() == []
    assert await case.codes(active=False) is None
    assert (case.calls.count, case.source.interval_s()) == (1, 3600.0)
    case.calls.answer = ANSWER | {"status": "no-docs"}
    assert await case.codes() == ["no-docs"]
    assert await case.codes(active=False) is None
    assert (case.calls.count, case.source.interval_s()) == (2, 3600.0)


async def test_one_in_trouble_is_used_again_by_itself_until_it_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, monkeypatch)
    case.calls.answer = ANSWER | {"status": "jammed"}
    assert await case.codes() == ["jammed"]
    assert await case.codes(active=False) == ["jammed"]
    case.calls.answer = ANSWER
    assert await case.codes(active=False) == []
    assert await case.codes(active=False) is None


@pytest.mark.parametrize(
    ("answer", "cadence"),
    [
        ({"status": "jammed"}, [(0, 3.0), (599, 3.0), (601, 30.0)]),
        ({"status": "cover-open"}, [(0, 3.0), (599, 3.0), (601, 30.0)]),
        ({"cover_open": True}, [(0, 3.0), (599, 3.0), (601, 30.0)]),
        ({"status": "io-error"}, [(0, 3.0), (11, 60.0)]),
        ({"status": "access-denied"}, [(0, 3.0), (11, 60.0)]),
        ({"status": "busy"}, [(0, 3.0), (11, 60.0)]),
        (WorkerFailed("not-responding", {}), [(0, 3.0), (11, 60.0)]),
        (WorkerFailed("wedged", {"pid": 7}), [(0, 3.0), (11, 60.0)]),
        (NOT_FOUND, [(0, 3.0), (599, 3.0), (601, 30.0)]),  # somebody may be at its plug
    ],
)
async def test_how_soon_it_is_asked_again_depends_on_who_may_be_mending_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any, cadence: list[tuple[float, float]]
) -> None:
    case = Case(tmp_path, monkeypatch)
    case.calls.answer = answer if isinstance(answer, WorkerFailed) else ANSWER | answer
    began_s = case.now_s
    for after_s, interval_s in cadence:
        case.now_s = began_s + after_s
        await case.source.probe(active=True)
        assert case.source.interval_s() == interval_s, after_s


@pytest.mark.parametrize(
    ("answer", "cadence"),
    [
        ({"status": "jammed"}, [(0, 3.0), (11, 3600.0)]),
        ({"status": "io-error"}, [(0, 3.0), (11, 3600.0)]),
        (NOT_FOUND, [(0, 3.0), (11, 3600.0)]),
    ],
)
async def test_out_of_hours_nobody_mends_it_and_its_lamp_is_spared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any, cadence: list[tuple[float, float]]
) -> None:
    case = Case(tmp_path, monkeypatch)
    case.around.open = False
    case.calls.answer = ANSWER | answer
    await case.source.probe(active=True)
    for after_s, interval_s in cadence:
        case.now_s = 1000.0 + after_s
        assert case.source.interval_s() == interval_s, after_s


async def test_where_its_plug_shows_an_absent_one_costs_nothing_to_look_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path, monkeypatch, **USB)
    assert await case.codes() == ["no-device"]
    for open_ in (True, False):
        case.around.open = open_
        assert case.source.interval_s() == 10.0


async def test_a_scanner_that_was_always_busy_was_never_seen_to_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, monkeypatch)
    tried = []
    for answer in (
        {"status": "busy"},
        {"status": "ok"},
        {"status": "busy"},
        WorkerFailed("not-responding", {}),
        {"status": "busy"},
    ):
        case.calls.answer = answer if isinstance(answer, WorkerFailed) else ANSWER | answer
        reading = await case.source.probe(active=True)
        assert reading is not None
        tried.append(not reading.untried)
    assert tried == [False, True, True, True, False]


async def test_a_browser_that_is_still_closing_it_does_not_date_the_end_of_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path, monkeypatch)
    case.calls.answer = ANSWER | {"status": "busy"}
    with open(open_lock(tmp_path)) as citizen:
        fcntl.flock(citizen, fcntl.LOCK_EX)
        assert await case.codes() is None
    case.now_s += 59
    assert await case.codes() is None
    assert case.calls.count == 1
    case.now_s += 2
    found = await case.codes()
    assert found is not None
    assert found[0] == "busy"


async def test_another_trouble_begins_its_own_ten_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, monkeypatch)
    case.calls.answer = ANSWER | {"status": "jammed"}
    await case.codes()
    case.now_s += 700
    assert case.source.interval_s() == 30.0
    case.calls.answer = ANSWER | {"status": "cover-open"}  # somebody came
    await case.codes()
    assert case.source.interval_s() == 3.0


async def test_a_worker_that_failed_is_said_with_its_code_and_detail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, monkeypatch)
    case.calls.answer = WorkerFailed("probe-failed", {"how": "SIGSEGV"})
    reading = await case.source.probe(active=True)
    assert reading == Reading(unreadable=Unreadable("probe-failed", {"how": "SIGSEGV"}))


async def test_during_a_session_nothing_is_used_but_unplugging_is_still_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path, monkeypatch, **USB)
    case.plug()
    lock = open(open_lock(tmp_path), closefd=True)  # noqa: SIM115 - held for the test
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert await case.codes() is None
        case.calls.answer = ANSWER | {"status": "jammed"}
        assert await case.codes(active=False) is None
        assert case.calls.count == 0
        case.unplug()
        assert await case.codes(active=False) == ["no-device"]
        case.plug()
        reading = await case.source.probe(active=True)
        assert reading is not None, "plugged in again is said at once"
        assert (reading.untried, reading.identity.serial, case.signals.active_wakes) == (True, "S1", 1)
        assert reading.facts == {name: True if name == "present" else None for name in FINE}
        assert await case.codes() is None, "but only using it would tell how it is"
        assert case.calls.count == 0
    assert await case.codes(active=False) == ["jammed"]


async def test_the_session_lock_is_held_while_the_worker_works_and_not_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path, monkeypatch)
    free: list[bool] = []

    def try_it() -> bool:
        with open(open_lock(tmp_path)) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    async def call(*_: Any, **__: Any) -> dict[str, Any]:
        free.append(try_it())
        return ANSWER

    monkeypatch.setattr(case.calls, "call", call)
    assert await case.codes() == []
    assert [*free, try_it()] == [False, True]


async def test_unplugging_is_seen_without_opening_and_plugging_in_asks_for_a_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path, monkeypatch, **USB)
    case.plug()
    reading = await case.source.probe(active=True)
    assert reading is not None
    assert (reading.identity.slot, reading.identity.vendor, reading.identity.serial) == ("usb-1.2", "EPSON", "S1")
    assert case.event("change") == (0, 0), "nothing is wrong with it"
    assert case.event("add", "/devices/pci0/usb1/1-1/1-1.3") == (0, 0), "another device"
    assert case.event("add") == (1, 1), "it went and came back before anybody looked"

    case.unplug()
    assert case.event("remove") == (1, 0)
    assert await case.codes(active=False) == ["no-device"]
    assert case.calls.count == 1
    assert case.event("remove") == (0, 0)

    case.plug()
    assert case.event("bind") == (1, 1)
    assert await case.codes(active=False) == [], "even if only looked at: it was absent"


async def test_without_usb_ids_any_removal_may_have_been_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, monkeypatch)
    assert await case.codes() == []
    assert case.event("add") == (0, 0)
    assert case.event("remove") == (1, 1)
    case.calls.answer = ANSWER | NOT_FOUND
    assert await case.codes() == ["no-device"]
    assert case.event("remove") == (0, 0)
    assert case.event("add") == (1, 1)


async def test_plugged_in_but_not_found_by_its_backend_is_no_missing_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path, monkeypatch, **USB)
    case.plug()
    case.calls.answer = ANSWER | NOT_FOUND
    reading = await case.source.probe(active=True)
    assert reading is not None
    assert (reading.facts["present"], reading.facts["opened"], reading.facts["status"]) == (True, False, "invalid")
    assert await case.codes() == ["io-error"]
