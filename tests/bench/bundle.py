"""A bundle of 2 MiB over a line of 64 kbit/s: how long it takes, what a paper end is late by meanwhile, what the daemon holds of it.

`python -m tests.bench.bundle` alone; seven minutes.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agent.rules.bundle import NotWhole
from tests.bench.cost import cost
from tests.commands.technician import ended, send
from tests.diagnostics.large import assembly_of, bytes_of
from tests.faults.proxy import ChaosProxy
from tests.world import World, world

SIZE = 2 * 1024 * 1024
BYTES_PER_S = 64_000 / 8
NEWS_EVERY_S = 20.0

# The daemon itself, with a bundle of this size in place of what its process makes.
_DAEMON = """
import sys
import agent.system.collecting
from tests.diagnostics.large import large
agent.system.collecting.collected = large(int(sys.argv[1]))
from agent.daemon import main
sys.exit(main(*sys.argv[2:]))
"""


async def bundles(size: int = SIZE) -> list[tuple[str, str, str]]:
    with tempfile.TemporaryDirectory() as name:
        async with world(Path(name)) as w, ChaosProxy(w.broker.port, bytes_per_s=BYTES_PER_S, latency_s=0.05) as proxy:
            w.observer.checks = False
            w.config["broker"] = {"url": proxy.url}
            daemon = _start(w, size)
            try:
                await w.until(lambda: w.observer.last("led") == "ok", "online")
                await asyncio.sleep(5)
                before_kib = cost(daemon.pid).private_kib
                began_s = time.monotonic()
                id_ = send(w, "diagnostics", args={"max_bytes": size})
                asked = asyncio.create_task(_ended(w, id_))
                late_s, highest_kib = await _news_meanwhile(w, asked, daemon.pid)
                status = await asked
                took_s = time.monotonic() - began_s
                whole = _is_whole(w, id_, status["result"], size)
            finally:
                daemon.kill()
                daemon.wait()
    wire_s = size * 4 / 3 / BYTES_PER_S
    return [
        (
            f"bundle of {size / 1024 / 1024:.2g} MiB over 64 kbit/s",
            f"{'whole' if whole else 'NOT WHOLE'} in {took_s:.0f} s",
            f"whole; {took_s / wire_s:.2f} × the time that its base64 takes on the line",
        ),
        (
            "… paper out → health, meanwhile",
            f"{sorted(late_s)[len(late_s) // 2]:.1f} s median, {max(late_s):.1f} s at worst ({len(late_s)} times)",
            "behind one piece at most: 2.8 s",
        ),
        ("… private memory of the daemon", f"{(highest_kib - before_kib) / 1024:+.1f} MiB at most", "less than half the bundle"),
    ]


def _start(w: World, size: int) -> "subprocess.Popen[bytes]":
    settings = w.folder / "settings.json"
    settings.write_text(json.dumps({"local": w.config, "merged": None}))
    with open(settings, "rb") as stream:
        places = [str(w.write_config()), str(w.state_dir), str(w.runtime_dir), "", str(stream.fileno())]
        return subprocess.Popen(
            [sys.executable, "-c", _DAEMON, str(size), *places], pass_fds=[stream.fileno()],
            stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        )  # fmt: skip


async def _ended(w: World, id_: str) -> dict[str, object]:
    while True:
        try:
            status: dict[str, object] = await ended(w, "diagnostics", id_)
        except AssertionError:  # it is patient for half a minute only
            continue
        return status


async def _news_meanwhile(w: World, asked: "asyncio.Task[dict[str, object]]", pid: int) -> tuple[list[float], int]:
    """Seconds from each end of the paper to the health that says so, and the most memory that was seen."""
    late_s: list[float] = []
    highest_kib = 0
    while not asked.done():
        await asyncio.wait([asked], timeout=NEWS_EVERY_S / 2)
        highest_kib = max(highest_kib, cost(pid).private_kib)
        if asked.done():
            break
        began_s = time.monotonic()
        out = len(late_s) % 2 == 0
        w.printer.change(paper="out" if out else "plenty")
        await w.until(lambda out=out: ("media-empty" in w.observer.codes("receipt-printer")) is out, "the news")  # type: ignore[misc]
        late_s.append(time.monotonic() - began_s)
    return late_s, highest_kib


def _is_whole(w: World, id_: str, result: object, size: int) -> bool:
    try:
        return assembly_of(w.observer, id_).bundle(result) == bytes_of(size)
    except NotWhole:
        return False


if __name__ == "__main__":
    for row in asyncio.run(bundles(int(sys.argv[1]) if len(sys.argv) > 1 else SIZE)):
        print(*row, sep=" | ")
