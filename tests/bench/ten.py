"""Ten peripherals: every kind, two of some. And what one that hangs, or a worker past its deadline, costs the others."""

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import agent.devices
from agent.devices.workers import WorkerFailed, Workers
from agent.simulator.camera import Camera
from agent.simulator.cups import Cups
from agent.simulator.kiosk import KioskApplication
from agent.simulator.machine import SimulatedFiles
from agent.simulator.receipt_printer import ReceiptPrinter
from agent.simulator.scanner import Scanner
from tests.world import World, world

CHECKS_A_DAY = 5  # two openings, and every 4 h between; beside USB events
REPEATS = 30

HANGING_JOB = "import time\n\ndef hang(request):\n    time.sleep(60)\n"


@contextlib.asynccontextmanager
async def ten_peripherals(w: World, folder: Path) -> AsyncIterator[tuple[ReceiptPrinter, Cups, Camera]]:
    """Configures them in `w`, beside its receipt printer and its board. The machine is the real one: it has no sound card."""
    second = ReceiptPrinter()
    await second.listen()
    cups, scanner = Cups(folder), Scanner(folder / "scanner")
    cameras = [Camera(folder / "camera-1"), Camera(folder / "camera-2")]
    kiosk = KioskApplication(SimulatedFiles(folder / "unused"), folder)
    kiosk.start()
    await cups.start()
    tables: dict[str, dict[str, Any]] = {
        "receipt-printer-2": {"kind": "receipt-printer", "device": f"tcp://127.0.0.1:{second.port}"},
        "document-printer": {"kind": "document-printer", "device": cups.url},
        "scanner": {"kind": "scanner", "device": scanner.device, "config_dir": str(scanner.folder)},
        "camera": {"kind": "camera", "device": "csi:0", "csi_program": str(cameras[0].program)},
        "camera-2": {"kind": "camera", "device": "csi:1", "csi_program": str(cameras[1].program)},
        "kiosk": {"kind": "kiosk", "heartbeat": str(kiosk.heartbeat)},
        "audio": {"kind": "audio", "microphone": False, "speaker": False},  # else its absence here would be a trouble
        "network": {"kind": "network"},
    }
    w.config["peripherals"] |= tables
    try:
        yield second, cups, cameras[1]
    finally:
        await kiosk.stop()
        await cups.stop()
        await second.close()


async def settled(w: World) -> None:
    """Until each has its first judgement, and nothing of the first checks runs any more."""
    for name in w.config["peripherals"]:
        await w.until(partial(w.observer.last, f"health/{name}"), name)
    await asyncio.sleep(12)


async def hanging() -> list[tuple[str, str, str]]:
    """A printer that is mute, a cupsd that hangs, a camera that hangs: what a healthy printer's news is late by."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with world(folder) as w, ten_peripherals(w, folder) as (second, cups, camera):
            await w.start_agent()
            await settled(w)
            healthy = await _news(w)
            second.behaviour.mute = True
            camera.behaviour = "hang"
            cups.freeze()
            await w.until(lambda: w.observer.codes("document-printer") == ["scheduler-down"], "cupsd missed")
            beside = await _news(w)
            cups.thaw()
    late_ms = (statistics.median(beside) - statistics.median(healthy)) * 1000
    worst_ms = max(beside) * 1000
    return [
        ("paper out beside devices that hang", f"{late_ms:+.1f} ms median, {worst_ms:.0f} ms at worst", "at most 50 ms later")
    ]


async def _news(w: World) -> list[float]:
    """Seconds from the end of the paper to the event at a subscriber."""
    took = []
    for _ in range(REPEATS):
        seen = len(w.observer.messages)
        at_s = time.monotonic()
        w.printer.change(paper="out")
        took.append(await w.until(partial(_event_at_s, w, seen)) - at_s)
        w.printer.change(paper="plenty")
        await asyncio.sleep(0.3)
    return took


def _event_at_s(w: World, seen: int) -> float | None:
    return next((message.at_s for message in w.observer.messages[seen:] if "/event/health" in message.topic), None)


async def deadlines() -> list[tuple[str, str, str]]:
    """How long after its deadline a hung worker is gone."""
    job = Path(agent.devices.__path__[0]) / "job_of_the_bench.py"
    job.write_text(HANGING_JOB)
    late = []
    try:
        workers = Workers()
        for _ in range(10):
            started_s = time.monotonic()
            with contextlib.suppress(WorkerFailed):
                await workers.call("bench", "agent.devices.job_of_the_bench:hang", {}, 0.5)
            assert workers.alive == 0
            late.append(time.monotonic() - started_s - 0.5)
    finally:
        job.unlink()
    return [("a hung worker is gone after its deadline", f"{max(late) * 1000:.0f} ms, the worst of 10", "within 100 ms")]
