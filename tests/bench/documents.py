"""From the operator's publication to the booth's `applied`: configuration, policy, and the largest document there is."""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from agent.simulator.booth import SimulatedBooth
from agent.simulator.operator import profile_document
from agent.simulator.switches import ProfileName
from tests.documents.operator import Operator
from tests.world import Observer, world

TIMES = 20
TOPIC = "booth/v1/61/61-0007"
LARGEST = 250_000  # bytes of a configuration; 256 KiB are read
MANY = 1_000
_LIBRARY = "import json, cryptography.hazmat.primitives.asymmetric.ed25519"


async def documents() -> list[tuple[str, str, str]]:
    return [*await _configuration(), *await _policy()]


async def _configuration() -> list[tuple[str, str, str]]:
    operator = Operator()
    with tempfile.TemporaryDirectory() as name:
        async with world(Path(name)) as w:
            operator.install(w.folder)
            agent = await w.start_agent()
            took = [
                await _answered(w.observer, operator.sign("config", _doc(rev), rev), "config", rev) for rev in range(1, TIMES + 1)
            ]
            bare = statistics.median([_library_s() for _ in range(TIMES)])
            large = operator.sign("config", {"peripherals": {"board": {"x" * LARGEST: 1}}}, TIMES + 1)
            refused_s = await _answered(w.observer, large, "config", TIMES + 1)
            before_kib = _rss_kib(agent.pid)
            for rev in range(TIMES + 2, TIMES + 2 + MANY):
                w.observer.publish(f"{TOPIC}/config/desired", operator.sign("config", _doc(rev), rev))
                if rev % 10 == 0:  # as many as wait for their turn at most
                    await w.until(partial(_at, w.observer, "config", rev), "the newest of ten", 120)
            await asyncio.sleep(2)
            grown_mib = (_rss_kib(agent.pid) - before_kib) / 1024
    median_s = statistics.median(took)
    return [
        (
            "configuration: published → applied",
            f"{median_s * 1000:.0f} ms",
            f"{median_s / bare:.1f} × starting Python with the library that verifies; under 500 ms",
        ),
        (
            "a document of 250 kB: published → refused",
            f"{refused_s * 1000:.0f} ms",
            f"{refused_s / median_s:.1f} × a small one; under 1 s",
        ),
        (f"the agent's memory after {MANY} documents", f"{grown_mib:+.2f} MiB", "judged in a process of its own; ± 1 MiB"),
    ]


async def _policy() -> list[tuple[str, str, str]]:
    profile: ProfileName = "visio-guichet"
    doc = profile_document(profile, "policy")
    with tempfile.TemporaryDirectory() as name:
        booth = SimulatedBooth(Path(name), profile=profile, governed=True)
        await booth.start()
        try:
            observer = Observer(booth.broker.port)
            try:
                assert booth.operator is not None
                await observer.until(lambda: _at(observer, "policy", 1), "the first policy", 30)
                took = []
                for rev in range(2, TIMES + 2):
                    doc["printing"]["pages_per_day"] = 100 + rev % 2
                    started_s = time.monotonic()
                    await booth.operator.publish(booth.broker.port, "policy", doc, rev)
                    await observer.until(partial(_at, observer, "policy", rev), "the policy", 30)
                    took.append(time.monotonic() - started_s)
            finally:
                observer.close()
        finally:
            await booth.stop()
    return [
        ("policy: published → applied and measured", f"{statistics.median(took) * 1000:.0f} ms",
         "eight rules on a file system of the simulation's; the kernel's firewall and systemd are not in it; under 2 s"),
    ]  # fmt: skip


def _doc(rev: int) -> dict[str, Any]:
    return {"reporting": {"telemetry_s": 1000 + rev % 2}, "hours": {"week": {"mon": ["08:00-12:00"]}}}


async def _answered(observer: Observer, envelope: bytes, kind: str, rev: int) -> float:
    started_s = time.monotonic()
    observer.publish(f"{TOPIC}/{kind}/desired", envelope)
    await observer.until(lambda: _at(observer, kind, rev), f"the answer to revision {rev}", 30)
    return time.monotonic() - started_s


def _at(observer: Observer, kind: str, rev: int) -> bool:
    """Whether the booth has said its last word to a revision."""
    said = observer.last(f"{kind}/reported")
    if said is None or said["status"] not in ("applied", "rejected") or said["layers"]["booth"] is None:
        return False
    return bool(said["layers"]["booth"]["seen_rev"] >= rev)


def _library_s() -> float:
    started_s = time.monotonic()
    subprocess.run([sys.executable, "-I", "-c", _LIBRARY], check=True)
    return time.monotonic() - started_s


def _rss_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


if __name__ == "__main__":
    print(json.dumps(asyncio.run(documents()), indent=1))
