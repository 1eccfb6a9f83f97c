"""Rows 57, 58, 59, 61, 62 and 67 of the catalogue for the scanner: a real SANE backend in trouble, and a live agent beside it."""

import asyncio
import contextlib
import fcntl
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.app import Agent
from agent.devices.workers import Workers
from agent.peripherals import declared
from agent.peripherals.scanner import PERIPHERAL, Options, ScannerSource
from agent.peripherals.surroundings import Surroundings
from agent.rules.declaration import Unreadable
from agent.settings import read
from agent.simulator.machine import SimulatedMachine
from agent.simulator.scanner import RemoteScanner, Scanner
from agent.system.session import open_lock
from agent.system.uevents import Uevent
from tests.devices.test_sane import need_sane, need_saned
from tests.devices.test_usb import plug
from tests.peripherals.surroundings import Around, Recorded
from tests.world import World, world

HEALTH = "health/scanner"
DEVPATH = "/devices/platform/usb1/1-1/1-1.4"
FAST: dict[str, Any] = {"mend_s": 1, "retry_s": 1, "absent_s": 1}


def table(device: str, config_dir: Path, **options: Any) -> dict[str, Any]:
    return {"kind": "scanner", "device": device, "config_dir": str(config_dir)} | FAST | options


async def until_codes(w: World, *codes: str) -> dict[str, Any]:
    """Until the scanner has just these findings; returns its health."""
    await w.until(lambda: w.observer.last(HEALTH) and w.observer.codes("scanner") == list(codes), f"findings {codes}")
    health: dict[str, Any] = w.observer.last(HEALTH)
    return health


async def until_alarm(w: World, code: str, *, raised: bool, within_s: float = 30) -> Any:
    topic = f"alarm/scanner/{code}"
    await w.until(lambda: (w.observer.last(topic) is not None) is raised, f"{topic} raised: {raised}", within_s)
    return w.observer.last(topic)


@asynccontextmanager
async def agent_with_usb(w: World, folder: Path, **options: Any) -> AsyncIterator[tuple[SimulatedMachine, Scanner]]:
    """The agent in this process, on a machine whose USB ports are ours, its scanner plugged in and well."""
    machine = SimulatedMachine(folder / "machine")
    scanner = Scanner(folder / "scanner")
    plug(machine.files.root, "1-1.4", "04b8", "0130")
    w.config["peripherals"]["scanner"] = table(scanner.device, scanner.folder, usb="04b8:0130", **options)
    stop = asyncio.Event()
    running = asyncio.create_task(Agent(read(w.config, declared(), folder), w.state_dir, machine).run(stop))
    try:
        health = await until_codes(w)
        assert (health["status"], health["slot"], health["facts"]["opened"]) == ("ok", "usb-1.4", True)
        yield machine, scanner
    finally:
        stop.set()
        await running


@asynccontextmanager
async def world_with_scanner(folder: Path, **options: Any) -> AsyncIterator[tuple[World, Scanner]]:
    """No agent yet; the one that is started uses the scanner, which has no `usb`."""
    need_sane()
    scanner = Scanner(folder / "scanner")
    async with world(folder) as w:
        w.config["peripherals"]["scanner"] = table(scanner.device, scanner.folder, **options)
        yield w, scanner


@asynccontextmanager
async def remote_scanner(folder: Path) -> AsyncIterator[RemoteScanner]:
    """It serves; killed at the end."""
    need_saned()
    remote = RemoteScanner(folder / "remote")
    await remote.start()
    try:
        yield remote
    finally:
        await remote.kill()


def source_of(scanner: Scanner | RemoteScanner, surroundings: Surroundings, worker_s: float) -> tuple[ScannerSource, Recorded]:
    """The source alone, and the engine as it sees it."""
    signals = Recorded()
    options = Options(scanner.device, config_dir=str(scanner.folder), worker_s=worker_s)
    return ScannerSource(options, surroundings, signals), signals


def unplug(machine: SimulatedMachine) -> None:
    folder = machine.files.root / "sys/bus/usb/devices/1-1.4"
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


# --- 57, 58: mute, slow, dead ---


async def test_f57_a_frozen_backend_is_not_responding_and_harms_nobody_else(tmp_path: Path) -> None:
    async with remote_scanner(tmp_path) as remote, world(tmp_path) as w:
        remote.freeze()
        w.config["peripherals"]["scanner"] = table(remote.device, remote.folder, worker_s=3)
        agent = await w.start_agent()
        health = await until_codes(w, "not-responding")
        assert health["status"] == "fault"
        assert health["findings"][0]["detail"] == {"reason": "no answer in 3 s"}
        alarm = await until_alarm(w, "not-responding", raised=True)
        assert alarm["text"]["fr"] == "Le scanner ne répond pas : nouvel essai en cours."
        assert alarm["fix_by"] == "auto"
        for other in ("receipt-printer", "board", "booth"):
            assert "not-responding" not in w.observer.codes(other)
        # While the scanner's worker hangs, what the printer says is published within a second.
        w.printer.change(paper="out")
        changed_s = time.monotonic()
        await w.until(lambda: w.observer.codes("receipt-printer") == ["media-empty"])
        assert time.monotonic() - changed_s < 1.5
        assert "libsane" not in Path(f"/proc/{agent.pid}/maps").read_text(), "libsane is in the daemon"

        remote.thaw()
        health = await until_codes(w)
        assert health["status"] == "ok"
        assert health["facts"]["scanned_bytes"] > 0


async def test_f57_a_worker_is_gone_soon_after_its_deadline(tmp_path: Path) -> None:
    around = Around(runtime_dir=tmp_path)
    async with remote_scanner(tmp_path) as remote:
        remote.freeze()
        source, _ = source_of(remote, around.view, 2.0)
        started_s = time.monotonic()
        reading = await source.probe(active=True)
        took_s = time.monotonic() - started_s
        assert reading is not None
        assert reading.unreadable is not None
        assert reading.unreadable.code == "not-responding"
        assert around.view.workers.alive == 0, "the reading came before the worker had gone"
        assert 2.0 <= took_s < 3.0  # 100 ms on a booth; this machine is shared


async def test_f58_a_scan_that_trickles_has_one_deadline_for_all_of_it(tmp_path: Path) -> None:
    need_sane()
    scanner = Scanner(tmp_path / "scanner")
    scanner.slow = True
    around = Around(runtime_dir=tmp_path)
    source, _ = source_of(scanner, around.view, 2.0)
    reading = await source.probe(active=True)
    assert reading is not None
    assert [item.code for item in PERIPHERAL.findings_of(reading, Options("sane:test:1"))] == ["not-responding"]
    assert around.view.workers.alive == 0


async def test_a_backend_that_crashes_is_a_finding_that_says_how(tmp_path: Path) -> None:
    async with world_with_scanner(tmp_path) as (w, scanner):
        scanner.crashes = True
        await w.start_agent()
        health = await until_codes(w, "probe-failed")
        detail = health["findings"][0]["detail"]
        assert (detail["reason"], detail["how"]) == ("crashed", "SIGSEGV")
        scanner.crashes = False
        await until_codes(w)


async def test_a_remote_scanner_that_dies_in_mid_call_ends_the_check_and_nothing_else(tmp_path: Path) -> None:
    around = Around(runtime_dir=tmp_path)
    async with remote_scanner(tmp_path) as remote:
        remote.scanner.slow = True
        source, _ = source_of(remote, around.view, 8.0)
        probing = asyncio.create_task(source.probe(active=True))
        async with asyncio.timeout(10):
            while not remote.in_use():
                await asyncio.sleep(0.02)
    reading = await probing
    assert reading is not None
    # libsane 1.2 says end of file or a failed read; older ones aborted here. Whichever: a fault, and we are still here.
    (found, *_) = PERIPHERAL.findings_of(reading, Options("sane:test:1"))
    assert PERIPHERAL.finding_kinds[found.code].severity == "fault"
    assert around.view.workers.alive == 0


# --- 59: what the scanner says of itself ---


@pytest.mark.parametrize(
    ("status", "french"),
    [
        ("jammed", "Une feuille est coincée dans le scanner : retirez-la."),
        ("cover-open", "Le capot du scanner est ouvert : fermez-le."),
    ],
)
async def test_f59_what_a_shopkeeper_can_mend_has_her_words_and_is_gone_soon_after(
    tmp_path: Path, status: str, french: str
) -> None:
    async with world_with_scanner(tmp_path, mend_s=3) as (w, scanner):
        scanner.status = status
        await w.start_agent()
        assert (await until_codes(w, status))["status"] == "fault"
        alarm = await until_alarm(w, status, raised=True)
        assert (alarm["fix_by"], alarm["text"]["fr"], alarm["services"]) == ("shopkeeper", french, ["scan"])
        scanner.status = "ok"
        await until_alarm(w, status, raised=False, within_s=10)  # 5 s on a booth; the simulated one may hang 4 s in letting go
        assert (await until_codes(w))["status"] == "ok"


@pytest.mark.parametrize(
    ("status", "code", "severity"),
    [
        ("no-docs", "no-docs", "info"),
        ("io-error", "io-error", "fault"),
        ("access-denied", "access-denied", "fault"),
        ("unsupported", "hardware-error", "fault"),
        ("no-memory", "probe-failed", "fault"),
    ],
)
async def test_f59_every_other_status_has_its_code(tmp_path: Path, status: str, code: str, severity: str) -> None:
    need_sane()
    scanner = Scanner(tmp_path / "scanner")
    scanner.status = status
    around = Around(runtime_dir=tmp_path)
    options = Options(scanner.device, config_dir=str(scanner.folder))
    reading = await ScannerSource(options, around.view, Recorded()).probe(active=True)
    assert reading is not None
    (found,) = PERIPHERAL.findings_of(reading, options)
    assert (found.code, PERIPHERAL.finding_kinds[code].severity) == (code, severity)


# --- 61: in use ---


async def test_f61_a_scanner_in_use_is_busy_and_not_at_fault(tmp_path: Path) -> None:
    async with world_with_scanner(tmp_path) as (w, scanner):
        scanner.status = "busy"
        await w.start_agent()
        health = await until_codes(w, "busy")
        assert (health["status"], health["checked_at"]) == ("unknown", None), "it was never seen to work"
        assert health["findings"][0]["severity"] == "info"
        scanner.status = "ok"
        await until_codes(w)
        assert not w.observer.of("alarm/scanner/busy")


async def test_f61_while_a_citizen_has_the_booth_no_worker_is_started(tmp_path: Path) -> None:
    need_sane()
    scanner = Scanner(tmp_path / "scanner")
    around = Around(runtime_dir=tmp_path)
    source = ScannerSource(Options(scanner.device, config_dir=str(scanner.folder)), around.view, Recorded())
    with open(open_lock(tmp_path)) as citizen:
        fcntl.flock(citizen, fcntl.LOCK_EX)
        assert await source.probe(active=True) is None
        assert not (tmp_path / "sane").exists(), "a worker made its folder"
    reading = await source.probe(active=True)
    assert reading is not None
    assert reading.facts["status"] == "ok"
    assert (tmp_path / "sane").exists()


# --- 62: vanishing ---


async def test_f62_unplugging_is_seen_at_once_and_plugging_in_is_checked_for_real(tmp_path: Path) -> None:
    need_sane()
    async with world(tmp_path) as w, agent_with_usb(w, tmp_path) as (machine, scanner):
        unplug(machine)
        scanner.plugged = False
        gone_s = time.monotonic()
        machine.uevents.announce(Uevent("remove", "usb", DEVPATH))
        health = await until_codes(w, "no-device")
        assert time.monotonic() - gone_s < 2  # one health message a second
        assert health["status"] == "absent"
        alarm = await until_alarm(w, "no-device", raised=True)
        assert alarm["text"]["fr"] == "La borne ne voit plus le scanner : vérifiez la prise et le câble."

        scanner.plugged = True
        scanner.status = "jammed"
        plug(machine.files.root, "1-1.4", "04b8", "0130")
        machine.uevents.announce(Uevent("add", "usb", DEVPATH))
        await until_codes(w, "jammed")


async def test_f62_one_that_comes_back_during_a_session_is_no_longer_absent_and_is_used_after_it(tmp_path: Path) -> None:
    need_sane()
    async with world(tmp_path) as w, agent_with_usb(w, tmp_path) as (machine, _):
        with open(open_lock(w.state_dir)) as citizen:
            fcntl.flock(citizen, fcntl.LOCK_EX)
            unplug(machine)
            machine.uevents.announce(Uevent("remove", "usb", DEVPATH))
            health = await until_codes(w, "no-device")
            checked_at = health["checked_at"]
            plug(machine.files.root, "1-1.4", "04b8", "0130")
            machine.uevents.announce(Uevent("add", "usb", DEVPATH))
            health = await until_codes(w)
            assert (health["status"], health["facts"]["present"], health["facts"]["opened"]) == ("unknown", True, None)
            assert health["checked_at"] == checked_at
        # An active check was owed, which is tried every 15 s.
        await w.until(lambda: w.observer.last(HEALTH)["status"] == "ok", "used after the session", 25)
        assert w.observer.last(HEALTH)["facts"]["opened"] is True


async def test_f62_one_that_vanishes_without_usb_ids_is_absent_at_the_next_check(tmp_path: Path) -> None:
    async with world_with_scanner(tmp_path) as (w, scanner):
        scanner.plugged = False
        await w.start_agent()
        health = await until_codes(w, "no-device")
        assert (health["status"], health["findings"][0]["detail"]) == ("absent", {"reason": "the backend does not find it"})
        scanner.plugged = True
        await until_codes(w)


# --- 67: what cannot be killed ---


async def test_f67_a_worker_that_cannot_be_killed_is_wedged_one_only_and_over_when_it_goes(tmp_path: Path) -> None:
    pids: list[int] = []
    workers = Workers(kill=pids.append)
    around = replace(Around(runtime_dir=tmp_path).view, workers=workers)
    async with remote_scanner(tmp_path) as remote:
        with contextlib.closing(workers):
            remote.freeze()
            source, signals = source_of(remote, around, 1.0)
            for _ in range(3):
                reading = await source.probe(active=True)
                assert reading is not None
                assert reading.unreadable == Unreadable("wedged", {"pid": pids[0]})
                assert workers.alive == 1
            assert set(pids) == {pids[0]}
            assert signals.wakes == 0
            assert source.interval_s() <= 60
            os.kill(pids[0], signal.SIGKILL)  # the kernel lets it go after all
            await signals.until(lambda: signals.wakes == 1)
            assert workers.alive == 0
            remote.thaw()
            reading = await source.probe(active=False)
            assert reading is not None
            assert reading.facts["status"] == "ok"
