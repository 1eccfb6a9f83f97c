"""The kiosk: an application that runs, ends, ends again and again, and stands still."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.contract.typed import Invalid, build
from agent.devices import cgroup
from agent.devices.sysfs import KernelFiles
from agent.peripherals import kiosk
from agent.peripherals.kiosk import PERIPHERAL, KioskSource, Options
from agent.rules.declaration import Reading
from agent.rules.health import Judgement, Now, judge
from agent.simulator.kiosk import UNIT, KioskApplication
from agent.simulator.machine import SimulatedFiles
from tests.devices.control_group import control_group, end, process_in
from tests.peripherals.surroundings import Around, Recorded

FINE: dict[str, Any] = {"running": True, "closed": False, "restarting": False, "heartbeat_age_s": 3.0}
EVENTS = f"sys/fs/cgroup/system.slice/{UNIT}/cgroup.events"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(kiosk, "monotonic", lambda: self.now_s)


class Looked:
    """A source in a machine of files."""

    def __init__(self, folder: Path, options: Options, files: KernelFiles | None = None) -> None:
        self.files = SimulatedFiles(folder)
        self.files.write("sys/fs/cgroup/cgroup.controllers", "cpu")
        self.heartbeat = folder / "kiosk-heartbeat"
        self.signals = Recorded()
        self.options = options
        self.source = KioskSource(options, Around(files or self.files, runtime_dir=folder).view, self.signals)
        self._stamp_s = 10**9

    def beat(self) -> None:
        """A touch with a time stamp of its own, far from the wall clock's."""
        self._stamp_s += 1
        self.heartbeat.touch()
        os.utime(self.heartbeat, (self._stamp_s, self._stamp_s))

    def populate(self, word: int) -> None:
        self.files.write(EVENTS, f"populated {word}\nfrozen 0")

    async def facts(self, *, active: bool = False) -> dict[str, Any]:
        reading = await self.source.probe(active=active)
        assert reading is not None
        assert reading.unreadable is None
        assert set(reading.facts) == {fact.name for fact in PERIPHERAL.facts}
        return dict(reading.facts)

    async def codes(self) -> list[str]:
        return [item.code for item in PERIPHERAL.find(await self.facts(), self.options)]


@pytest.mark.parametrize(
    ("facts", "codes"),
    [
        ({}, []),
        ({"running": None}, []),
        ({"heartbeat_age_s": None}, []),
        ({"running": False, "heartbeat_age_s": None}, ["app-not-running"]),
        ({"running": False, "closed": True}, []),
        ({"heartbeat_age_s": 59.9}, []),
        ({"heartbeat_age_s": 60.0}, ["app-frozen"]),
        ({"running": None, "heartbeat_age_s": 61.0}, ["app-frozen"]),
        ({"restarting": True}, ["app-not-running"]),
        ({"restarting": True, "running": False}, ["app-not-running"]),
    ],
)
def test_findings_follow_from_facts(facts: dict[str, Any], codes: list[str]) -> None:
    assert [item.code for item in kiosk.find(FINE | facts, Options())] == codes


def test_a_restart_is_no_fault_but_ten_seconds_are() -> None:
    down = PERIPHERAL.findings_of(Reading(FINE | {"running": False}), Options())
    judgement, _ = judge(Judgement(), [], PERIPHERAL.finding_kinds, Now(0.0, "w"))
    for at_s, status in ((1.0, "ok"), (10.9, "ok"), (11.0, "fault")):
        judgement, _ = judge(judgement, down, PERIPHERAL.finding_kinds, Now(at_s, "w"))
        assert judgement.status == status
    again = PERIPHERAL.findings_of(Reading(FINE | {"restarting": True}), Options())
    judgement, _ = judge(Judgement(), again, PERIPHERAL.finding_kinds, Now(0.0, "w"))
    assert judgement.status == "fault"  # that was debounced by being counted


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"unit": "booth kiosk"}, "unit"),
        ({"unit": "../x.service"}, "unit"),
        ({"cgroup": "system.slice/x"}, "cgroup"),
        ({"cgroup": "/sys/fs/cgroup/"}, "cgroup"),
        ({"cgroup": "/sys/fs/cgroup/../../../etc"}, "cgroup"),
        ({"cgroup": "/sys/fs/cgroup/system.slice/.."}, "cgroup"),
        ({"cgroup": "/sys/fs/cgroup//system.slice"}, "cgroup"),
        ({"heartbeat": "kiosk-heartbeat"}, "heartbeat"),
        ({"frozen_after_s": 1}, "frozen_after_s"),
    ],
)
def test_wrong_options_are_named_by_their_path(options: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        build(Options, options, "peripherals.kiosk")
    assert [problem.path for problem in caught.value.problems] == [f"peripherals.kiosk.{path}"]


@pytest.mark.parametrize("group", ["x", "user.slice/user-1000.slice/x.service/", "..x/y..z/...", "a b"])
def test_any_group_below_the_root_may_be_named(group: str) -> None:
    assert build(Options, {"cgroup": f"/sys/fs/cgroup/{group}"}, "").cgroup == f"/sys/fs/cgroup/{group}"


def test_a_units_group_is_where_systemd_makes_it() -> None:
    assert cgroup.of_unit("booth-kiosk.service") == "system.slice/booth-kiosk.service"
    assert cgroup.of_unit("cage@tty1.service") == "system.slice/system-cage.slice/cage@tty1.service"
    assert cgroup.of_unit("booth-kiosk@1.service") == "system.slice/system-booth\\x2dkiosk.slice/booth-kiosk@1.service"


async def test_it_is_seen_to_end_and_to_start(tmp_path: Path) -> None:
    looked = Looked(tmp_path, Options(UNIT))
    assert await looked.codes() == ["app-not-running"]  # no such group: not started yet
    assert looked.source.interval_s() == 2.0
    looked.populate(1)
    assert await looked.codes() == []
    assert looked.source.interval_s() == 15.0
    wakes = looked.signals.wakes
    looked.populate(0)
    assert looked.signals.wakes == wakes + 1  # the kernel announces it
    assert looked.signals.active_wakes == 0
    assert await looked.codes() == ["app-not-running"]
    await looked.source.close()
    looked.populate(1)
    assert looked.signals.wakes == wakes + 1


async def test_a_machine_without_control_groups_is_said_not_guessed(tmp_path: Path) -> None:
    source = KioskSource(Options(UNIT), Around(SimulatedFiles(tmp_path)).view, Recorded())
    reading = await source.probe(active=True)
    assert reading is not None
    assert reading.unreadable is not None
    assert reading.unreadable.code == "probe-failed"


async def test_one_that_ends_again_and_again_is_not_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    looked = Looked(tmp_path, Options(UNIT))
    assert await looked.codes() == ["app-not-running"]
    looked.populate(1)
    assert await looked.codes() == []
    for _ in range(4):
        clock.now_s += 60
        looked.populate(0)
        assert await looked.codes() == ["app-not-running"]
        clock.now_s += 3
        looked.populate(1)
        assert await looked.codes() == []
    # So quick that it runs again when it is looked at: the announcement alone tells.
    looked.populate(0)
    looked.populate(1)
    assert await looked.codes() == ["app-not-running"]
    assert (await looked.facts())["running"] is True
    clock.now_s += 599
    assert await looked.codes() == []
    await looked.source.close()


async def test_one_that_is_started_anew_after_each_session_is_no_crash_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    looked = Looked(tmp_path, Options(UNIT))
    looked.populate(1)
    assert await looked.codes() == []
    looked.populate(0)
    looked.populate(1)  # how long that one ran, nobody knows
    assert await looked.codes() == []
    for _ in range(9):  # within ten minutes
        clock.now_s += 60.5
        looked.populate(0)
        looked.populate(1)
        assert await looked.codes() == []
    await looked.source.close()


async def test_the_heartbeat_is_measured_by_a_clock_that_never_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    looked = Looked(tmp_path, Options(UNIT))
    looked.populate(1)
    looked.beat()  # in 2001, says its time stamp
    assert (await looked.facts())["heartbeat_age_s"] is None  # it was there before us
    looked.beat()
    assert (await looked.facts())["heartbeat_age_s"] == 0.0
    clock.now_s += 59.9
    assert await looked.codes() == []
    clock.now_s += 0.1
    assert await looked.codes() == ["app-frozen"]
    os.utime(looked.heartbeat, (10**8, 10**8))  # it moves, and the wall clock was set back between two touches
    assert await looked.codes() == []
    clock.now_s += 60
    looked.heartbeat.unlink()
    assert await looked.codes() == ["app-frozen"]  # taken away is not touched
    await looked.source.close()


@pytest.mark.parametrize("options", [Options(UNIT), Options()])
@pytest.mark.parametrize("since", ["never", "before", "later"])
async def test_an_application_that_knows_nothing_of_the_heartbeat_never_freezes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Options, since: str
) -> None:
    clock = Clock(monkeypatch)
    looked = Looked(tmp_path, options)
    looked.populate(1)
    if since == "before":
        looked.beat()  # as systemd-tmpfiles makes it at power-on
    assert (await looked.facts())["heartbeat_age_s"] is None
    if since == "later":
        looked.beat()
    for _ in range(2):
        assert (await looked.facts())["heartbeat_age_s"] is None
        clock.now_s += 3600
        assert await looked.codes() == []
    await looked.source.close()


@pytest.mark.parametrize("with_unit", [True, False])
async def test_a_heartbeat_that_was_promised_and_never_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_unit: bool
) -> None:
    clock = Clock(monkeypatch)
    looked = Looked(tmp_path, Options(UNIT if with_unit else None, heartbeat=str(tmp_path / "kiosk-heartbeat")))
    looked.populate(1)
    assert await looked.codes() == []
    assert (await looked.facts())["running"] is (True if with_unit else None)
    clock.now_s += 60
    assert await looked.codes() == ["app-frozen"]
    looked.beat()
    assert await looked.codes() == []
    await looked.source.close()


async def test_one_that_starts_anew_has_time_until_its_first_touch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    looked = Looked(tmp_path, Options(UNIT))
    looked.populate(1)
    looked.beat()
    await looked.codes()
    looked.beat()
    await looked.codes()
    clock.now_s += 100
    assert await looked.codes() == ["app-frozen"]
    looked.populate(0)
    assert await looked.codes() == ["app-not-running"]
    clock.now_s += 100
    looked.populate(1)
    assert await looked.codes() == []
    clock.now_s += 60
    assert await looked.codes() == ["app-frozen"]
    await looked.source.close()


async def test_a_session_changes_nothing(tmp_path: Path) -> None:
    """It looks and touches nothing, so a citizen's session is no reason to look away, and none of its facts tells of one."""
    around = Around(SimulatedFiles(tmp_path), runtime_dir=tmp_path)
    application = KioskApplication(SimulatedFiles(tmp_path), tmp_path)
    application.start()
    source = KioskSource(Options(UNIT), around.view, Recorded())
    try:
        free = await source.probe(active=True)
        with around.view.session.taken() as ours:
            assert ours
            assert await source.probe(active=True) is not None
            held = await source.probe(active=False)
        assert free is not None
        assert held is not None
        assert free.facts["running"] is held.facts["running"] is True
    finally:
        await source.close()
        await application.stop()


async def test_the_simulated_application_beats_freezes_and_crashes(tmp_path: Path) -> None:
    files = SimulatedFiles(tmp_path)
    application = KioskApplication(files, tmp_path, beat_s=0.01)
    source = KioskSource(Options(UNIT), Around(files, runtime_dir=tmp_path).view, Recorded())
    application.start()
    try:
        async with asyncio.timeout(10):
            while not application.heartbeat.exists():
                await asyncio.sleep(0.005)
        await _touched(application.heartbeat)
        assert await _facts_of(source) == (True, False)  # the first look knows of no touch yet
        await _touched(application.heartbeat)
        assert await _facts_of(source) == (True, True)
        application.freeze()
        assert await _facts_of(source) == (True, True)
        application.crash()
        assert await _facts_of(source) == (False, False)
        application.start()
        assert await _facts_of(source) == (True, True)
    finally:
        await source.close()
        await application.stop()


async def _touched(heartbeat: Path) -> None:
    stamp_ns = heartbeat.stat().st_mtime_ns
    async with asyncio.timeout(10):
        while heartbeat.stat().st_mtime_ns == stamp_ns:
            await asyncio.sleep(0.005)


async def _facts_of(source: KioskSource) -> tuple[bool, bool]:
    reading = await source.probe(active=False)
    assert reading is not None
    return reading.facts["running"] is True, reading.facts["heartbeat_age_s"] is not None


# --- a real kernel's control groups ---


@pytest.fixture
def group() -> Iterator[Path]:
    with control_group("test") as folder:
        yield folder


async def test_the_kernel_announces_that_the_application_ended(group: Path, tmp_path: Path) -> None:
    looked = Looked(tmp_path, Options(cgroup=str(group)), KernelFiles())
    application = process_in(group)
    try:
        assert (await looked.facts())["running"] is True
        assert looked.signals.wakes == 0
        end(application)
        await looked.signals.until(lambda: looked.signals.wakes > 0)
        assert (await looked.facts())["running"] is False
        application = process_in(group)
        assert (await looked.facts())["running"] is True  # nothing announces that: the interval of 2 s sees it
        end(application)
        await looked.signals.until(lambda: looked.signals.wakes > 1)
    finally:
        end(application)
        await looked.source.close()


async def test_a_group_that_systemd_removes_and_makes_anew_is_watched_again(group: Path, tmp_path: Path) -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    looked = Looked(tmp_path, Options(cgroup=str(group)), KernelFiles())
    application = process_in(group)
    try:
        assert (await looked.facts())["running"] is True
        # At least so long: the kernel announces a change once in 10 ms (CGROUP_FILE_NOTIFY_MIN_INTV), and shows it nowhere.
        await asyncio.sleep(0.05)
        end(application)
        group.rmdir()  # before we can read what was announced
        group.mkdir()
        application = process_in(group)
        await looked.signals.until(lambda: looked.signals.wakes > 0)
        assert (await looked.facts())["running"] is True
        wakes = looked.signals.wakes
        end(application)  # of the new group
        await looked.signals.until(lambda: looked.signals.wakes > wakes)
        assert (await looked.facts())["running"] is False
        assert failures == []
    finally:
        end(application)
        await looked.source.close()


async def test_a_restart_that_the_kernel_did_not_announce_is_seen_by_its_group(group: Path, tmp_path: Path) -> None:
    looked = Looked(tmp_path, Options(cgroup=str(group)), KernelFiles())
    application = process_in(group)
    try:
        for _ in range(6):  # how long the first one ran, nobody knows
            assert await looked.codes() == []
            end(application)  # within 10 ms: the announcement is put off, and lost with the group
            group.rmdir()
            group.mkdir()
            application = process_in(group)
        assert await looked.codes() == ["app-not-running"]
    finally:
        end(application)
        await looked.source.close()
