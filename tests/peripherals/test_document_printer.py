"""What a document printer's facts mean, which reasons are believed, and when it is plugged in."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.contract.typed import Invalid, build
from agent.devices.ipp import Job, Queue
from agent.devices.sysfs import KernelFiles
from agent.devices.usb_printers import Presence
from agent.peripherals.document_printer import PERIPHERAL, DocumentPrinterSource, Options, _is_toner, find
from agent.peripherals.printer_reasons import KNOWN, LOW, Look, ReasonMemory, code_of, joined
from agent.simulator.usb_tree import plug, unplug
from tests.peripherals.surroundings import Around, Recorded

OPTIONS = Options("ipp://127.0.0.1:631/printers/forms")
FINE: dict[str, Any] = dict.fromkeys(fact.name for fact in PERIPHERAL.facts) | {
    "scheduler": True, "queue": True, "present": True, "state": "idle", "accepting": True, "queued_jobs": 0,
}  # fmt: skip


def codes(**facts: Any) -> list[str]:
    return sorted(item.code for item in find(FINE | facts, OPTIONS))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, []),
        (dict.fromkeys(FINE), []),
        ({"reasons": "media-empty-error,paused", "state": "stopped"}, ["media-empty", "queue-stopped"]),
        ({"reasons": "media-jam-warning"}, ["media-jam"]),
        ({"reasons": "cover-open-report,media-low"}, ["cover-open", "media-low"]),
        ({"reasons": "media-jam-error", "stale_reasons": "media-jam-error"}, []),
        ({"reasons": "media-jam-error,door-open", "stale_reasons": "media-jam-error"}, ["door-open"]),
        ({"accepting": False}, ["queue-stopped"]),
        ({"state": "stopped", "present": False}, ["no-device", "queue-stopped"]),
        ({"scheduler": False, "queue": None, "state": None, "trouble": "connection refused"}, ["scheduler-down"]),
        ({"scheduler": False, "present": False}, ["no-device", "scheduler-down"]),
        ({"queue": False}, ["queue-missing"]),
        ({"job_stalled_s": 299}, []),
        ({"job_stalled_s": 300}, ["job-stuck"]),
        # What keeps it from printing is known: the job is no trouble of its own.
        ({"job_stalled_s": 300, "reasons": "media-empty-error"}, ["media-empty"]),
        ({"job_stalled_s": 300, "present": False}, ["no-device"]),
        ({"job_stalled_s": 300, "state": "stopped"}, ["queue-stopped"]),
        ({"job_stalled_s": 300, "reasons": "toner-low-report"}, ["job-stuck", "toner-low"]),
        ({"job_stalled_s": 300, "reasons": "media-jam", "stale_reasons": "media-jam"}, ["job-stuck"]),
        ({"toner_lowest_pct": 15}, ["toner-low"]),
        ({"toner_lowest_pct": 21}, []),
        ({"toner_lowest_pct": 3, "reasons": "toner-low-warning,toner-empty-error"}, ["toner-empty", "toner-low"]),
        ({"reasons": "offline-report"}, []),  # plugged in, says the kernel
        ({"reasons": "offline-report", "present": None}, ["offline"]),
        ({"reasons": "vendor-thing-error"}, ["other"]),
        ({"reasons": "com.vendor-thing-error,cups-missing-filter-warning,connecting-to-device"}, []),
    ],
)
def test_findings_follow_from_facts(facts: dict[str, Any], expected: list[str]) -> None:
    assert codes(**facts) == expected


@pytest.mark.parametrize("code", KNOWN)
@pytest.mark.parametrize("suffix", ["", "-report", "-warning", "-error"])
def test_every_known_reason_is_found_with_any_suffix(code: str, suffix: str) -> None:
    assert codes(reasons=code + suffix, present=None) == [code]


def test_every_declared_code_can_be_found_and_the_reasons_are_declared() -> None:
    ours = {"no-device", "queue-stopped", "queue-missing", "job-stuck", "scheduler-down", "access-denied"}
    assert {kind.code for kind in PERIPHERAL.findings} == ours | set(KNOWN)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("none", None),
        ("paused", None),
        ("moving-to-paused-report", None),
        ("cups-ipp-conformance-failure-report", None),
        ("vendor-thing-warning", None),
        ("vendor-thing-report", None),
        ("vendor-thing", "other"),
        ("shutdown", "offline"),
        ("interlock-open-error", "cover-open"),
        ("service-needed-warning", "other"),
        ("", "other"),
    ],
)
def test_reasons_without_meaning_mean_nothing(reason: str, code: str | None) -> None:
    assert code_of(reason) == code


def test_low_toner_holds_between_its_two_limits() -> None:
    (between,) = find(FINE | {"toner_lowest_pct": 18}, OPTIONS)
    assert (between.code, between.holds_only) == ("toner-low", True)
    (stated,) = find(FINE | {"toner_lowest_pct": 18, "reasons": "toner-low-report"}, OPTIONS)
    assert (stated.code, stated.holds_only) == ("toner-low", False)


@pytest.mark.parametrize(
    ("kind", "name", "toner"),
    [
        ("toner", "Black", True),
        ("toner-cartridge", "Black", True),
        ("ink-cartridge", "", True),
        ("waste-toner", "Waste", False),
        ("wasteInk", "", False),
        ("opc", "Drum Unit", False),
        ("fuser", "", False),
        ("", "Black Cartridge", True),
        ("", "Waste Toner Box", False),
        ("", "Drum Unit", False),
    ],
)
def test_waste_boxes_and_drums_are_no_toner(kind: str, name: str, *, toner: bool) -> None:
    assert _is_toner(kind, name) is toner


def test_a_fact_holds_whole_reasons_and_those_first_that_we_know() -> None:
    many = [f"vendor-{number}-warning" for number in range(30)]
    line = joined([*many, "media-empty-error", "\x1b[2Jevil"]) or ""
    assert len(line) <= 128
    assert line.startswith("media-empty-error,")
    assert "\x1b" not in line
    assert set(line.split(",")) <= {*many, "media-empty-error", "\\x1b[2Jevil"}


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "device"),
        ({"device": "tcp://127.0.0.1:9100"}, "device"),
        ({"device": OPTIONS.device, "poll_s": 16}, "poll_s"),
        ({"device": OPTIONS.device, "job_stuck_s": 9}, "job_stuck_s"),
        ({"device": OPTIONS.device, "usb": "4b8:202"}, "usb"),
    ],
)
def test_wrong_options_are_named_by_their_path(options: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        build(Options, options, "p")
    assert [problem.path for problem in caught.value.problems] == [f"p.{path}"]


IDLE = Queue(3, (), True, 0, 100, 100, (), None, "stop-printer", None)


def done(number: int, at_s: int, state: int = 9) -> Job:
    return Job(number, state, 0, 0, None, at_s)


def running(number: int) -> Job:
    return Job(number, 5, 0, 0, 100, None)


def idle(*reasons: str, changed_at_s: int = 100, policy: str = "stop-printer") -> Queue:
    return replace(IDLE, reasons=reasons, changed_at_s=changed_at_s, error_policy=policy)


def busy(*reasons: str) -> Queue:
    return replace(IDLE, state=4, reasons=reasons, queued_jobs=1)


JAM = "media-jam-error"


def test_a_reason_older_than_the_newest_success_is_stale_until_it_goes(tmp_path: Path) -> None:
    memory = ReasonMemory(tmp_path / "reasons")
    assert memory.stale(Look(idle(JAM), done=(done(4, 90),))) == (), "job 4 came before it was seen"
    assert memory.stale(Look(idle(JAM), done=(done(5, 120, state=7), done(4, 90)))) == (), "a cancelled job proves nothing"
    assert memory.stale(Look(idle(JAM), done=(done(6, 130), done(5, 120, state=8)))) == (JAM,)
    assert memory.stale(Look(idle(JAM))) == (JAM,), "its history was purged"
    assert memory.stale(Look(idle(), done=(done(6, 130),))) == ()
    assert memory.stale(Look(idle(JAM), done=(done(6, 130),))) == (), "a new jam"


def test_what_is_merely_low_is_never_stale(tmp_path: Path) -> None:
    memory = ReasonMemory(tmp_path / "reasons")
    low = idle(*LOW)
    assert memory.stale(Look(low, done=(done(4, 90),))) == ()
    assert memory.stale(Look(low, done=(done(5, 130),))) == ()
    assert not memory.concerned([*LOW, "none", "paused"])
    assert memory.concerned([JAM])


def test_an_older_success_that_shows_after_a_purge_proves_nothing(tmp_path: Path) -> None:
    memory = ReasonMemory(tmp_path / "reasons")
    memory.stale(Look(idle(JAM), done=(done(5, 120), done(4, 90))))
    assert memory.stale(Look(idle(JAM), done=(done(4, 90),))) == ()


def kept(file: Path) -> Any:
    """What the memory's own thread has written."""
    for thread in threading.enumerate():
        if thread.name == "printer-reasons":
            thread.join(10)
    return json.loads(file.read_text())


def test_the_memory_outlives_the_agent(tmp_path: Path) -> None:
    file = tmp_path / "reasons"
    first = ReasonMemory(file)
    first.stale(Look(idle(JAM), done=(done(4, 90),)))
    assert kept(file) == {JAM: {"success": [4, 90], "stale": False}}
    second = ReasonMemory(file)
    assert second.stale(Look(idle(JAM), done=(done(5, 130),))) == (JAM,), "printed while the agent was away"
    assert kept(file) == {JAM: {"success": [4, 90], "stale": True}}
    assert ReasonMemory(file).stale(Look(idle(JAM))) == (JAM,)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"media-jam": 1}', '{"media-jam": {"success": [1], "stale": true}}'])
def test_a_memory_that_a_power_cut_spoilt_is_none(tmp_path: Path, content: str) -> None:
    file = tmp_path / "reasons"
    file.write_text(content)
    assert ReasonMemory(file).stale(Look(idle(JAM))) == ()


def test_without_history_a_job_that_came_later_and_went_well_is_a_success(tmp_path: Path) -> None:
    memory = ReasonMemory(tmp_path / "reasons")
    memory.stale(Look(idle(JAM)))
    assert memory.stale(Look(busy(JAM), (running(7),), stalled_s=1.0)) == ()
    assert memory.stale(Look(idle(JAM, changed_at_s=110))) == (JAM,)


def test_without_history_a_job_too_short_to_be_seen_shows_in_the_time_of_the_state(tmp_path: Path) -> None:
    memory = ReasonMemory(tmp_path / "reasons")
    memory.stale(Look(idle(JAM)))
    assert memory.stale(Look(idle(JAM))) == ()
    assert memory.stale(Look(idle(JAM, changed_at_s=110))) == (JAM,)


@pytest.mark.parametrize(
    "looks",
    [
        # the very job that jammed was cancelled
        [Look(busy(JAM), (running(7),)), Look(idle(JAM, changed_at_s=110))],
        # a later one stood still and was cancelled
        [Look(idle(JAM)), Look(busy(JAM), (running(8),), stalled_s=70.0), Look(idle(JAM, changed_at_s=190))],
        # a later one failed: the queue stopped, and was purged and enabled
        [
            Look(idle(JAM)), Look(busy(JAM), (running(8),)), Look(replace(idle(JAM), state=5), (replace(running(8), state=3),)),
            Look(idle(JAM, changed_at_s=120)),
        ],
        # a failed job is dropped here, so idle says nothing
        [
            Look(idle(JAM, policy="abort-job")), Look(busy(JAM), (running(8),)),
            Look(idle(JAM, changed_at_s=110, policy="abort-job")),
        ],
    ],
)  # fmt: skip
def test_without_history_a_job_that_may_have_failed_proves_nothing(tmp_path: Path, looks: list[Look]) -> None:
    memory = ReasonMemory(tmp_path / "reasons")
    for look in looks:
        assert memory.stale(look) == ()


URI = "usb://Brother/HL-L2310D%20series?serial=E123"


def looked(root: Path, uri: str = URI) -> bool | None:
    presence = Presence(KernelFiles(root), "")
    presence.learn(uri)
    return presence.look()[0]


def test_a_printer_is_known_by_its_serial_number(tmp_path: Path) -> None:
    plug(tmp_path, "1-1.2", "E123")
    presence = Presence(KernelFiles(tmp_path), "")
    assert presence.look() == (None, None), "no URI yet"
    presence.learn(URI)
    there, device = presence.look()
    assert there
    assert device is not None
    assert device.slot == "usb-1.2"
    plug(tmp_path, "1-1.3", "E999")
    unplug(tmp_path, "1-1.2")
    assert presence.look() == (False, None), "its serial number was seen once: the twin is another one"


def test_in_doubt_nobody_says_that_it_is_absent(tmp_path: Path) -> None:
    (tmp_path / "sys/bus/usb/devices").mkdir(parents=True)
    assert looked(tmp_path) is False, "no printer at all"
    plug(tmp_path, "1-1", "TM1", maker="EPSON", model="TM-T88III")
    assert looked(tmp_path) is False, "the receipt printer is another one"
    plug(tmp_path, "1-3", "E123", interface_class="08")
    assert looked(tmp_path) is False, "no printer, whatever its serial number"
    plug(tmp_path, "1-2", "000E123")  # the URI's serial number may be that of the IEEE 1284 id
    assert looked(tmp_path) is None
    assert looked(tmp_path, "usb://Brother/HL-L2310D") is None
    assert looked(tmp_path, "ipp://printer.local/ipp/print") is None
    assert looked(tmp_path / "nowhere") is None, "a machine without USB in sysfs"


def test_configured_ids_are_the_truth(tmp_path: Path) -> None:
    presence = Presence(KernelFiles(tmp_path), "04F9:0054/E123")
    presence.learn("ipp://localhost:60000/ipp/print")
    assert presence.look() == (False, None)
    plug(tmp_path, "1-1", "E124")
    assert presence.look() == (False, None)
    plug(tmp_path, "1-2", "E123")
    assert presence.look()[0] is True


async def test_usb_events_wake_where_the_printer_is_on_usb() -> None:
    for usb, wakes in (("", 0), ("04f9:0054", 1)):
        around, signals = Around(), Recorded()
        source = DocumentPrinterSource(replace(OPTIONS, usb=usb), around.view, signals)
        around.usb_event("remove")
        assert signals.wakes == wakes
        await source.close()


@pytest.mark.parametrize(
    ("level_pct", "codes"), [(80, []), (21, []), (None, ["toner-low"]), (18, ["toner-low"]), (5, ["toner-low"])]
)
def test_a_toner_level_knows_better_than_a_reason_that_is_left_over(level_pct: int | None, codes: list[str]) -> None:
    facts = dict.fromkeys(fact.name for fact in PERIPHERAL.facts) | {
        "scheduler": True, "queue": True, "state": "idle", "accepting": True, "reasons": "toner-low-report",
        "toner_lowest_pct": level_pct,
    }  # fmt: skip
    assert [item.code for item in PERIPHERAL.find(facts, Options("ipp://127.0.0.1/printers/forms"))] == codes
