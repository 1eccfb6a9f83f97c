"""Measure, compare, and write docs/performance.md. `--idle SECONDS` sets the length of the quiet phase."""

import argparse
import asyncio
import contextlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from agent import VERSION
from agent.simulator.mosquitto import free_port
from agent.system.outbox_rows import Draft, Stamp
from agent.system.store import Store
from tests.bench.bundle import bundles
from tests.bench.commands import commands
from tests.bench.cost import Cost, cost, start_baseline, start_penguin
from tests.bench.documents import documents
from tests.bench.meter import Meter
from tests.bench.rollout import rollouts
from tests.bench.ten import CHECKS_A_DAY, deadlines, hanging, settled, ten_peripherals
from tests.bench.updates import updates
from tests.engine import healable
from tests.faults.pki import Authority
from tests.world import ROOT, World, world

REPEATS = 20
PENGUIN = Path(".venv/peers/bin/penguin-metrics")
REPORT = Path("docs/performance.md")


async def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--idle", type=float, default=130.0, metavar="SECONDS", help="length of the quiet phase (default 130)")
    options = parser.parse_args()
    rows: list[tuple[str, str, str]] = []
    rows += await idle(options.idle)
    rows += await latency()
    rows += await replay()
    rows += await documents()
    rows += await bundles()
    rows += await commands()
    rows += await updates()
    rows += await rollouts()
    rows += await hanging()
    rows += await deadlines()
    healed = await asyncio.to_thread(lambda: list(healable.inject()))
    text = page(rows, options.idle) + healing(healed) + sandboxes()
    REPORT.write_text(text)
    print(text)
    return 0


@contextlib.asynccontextmanager
async def tls_world(folder: Path, **reporting: int) -> AsyncIterator[tuple[World, Meter, Path, int]]:
    """A world whose agent speaks TLS through a meter."""
    authority = Authority(folder, "bench")
    pair = authority.issue("broker", "DNS:localhost")
    async with world(folder) as w:
        tls_port = free_port()
        tls = f"listener {w.broker.port} 127.0.0.1\nlistener {tls_port} 127.0.0.1\ncafile {authority.file}\ncertfile {pair.certificate}\nkeyfile {pair.key}\n"
        await w.broker.stop()
        w.broker.extra = tls
        await w.broker.start()
        async with Meter(tls_port) as meter:
            w.config["broker"] = {"url": f"mqtts://localhost:{meter.port}", "ca": str(authority.file)}
            w.config["reporting"] = {"alarm_after_s": 1, **reporting}
            w.config["peripherals"]["network"] = {"kind": "network"}
            yield w, meter, authority.file, tls_port


async def idle(seconds: float) -> list[tuple[str, str, str]]:
    """Nothing happens: memory, wake-ups, CPU, writes and bytes, beside the floor and the peer."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with contextlib.AsyncExitStack() as stack:
            w, meter, ca, tls_port = await stack.enter_async_context(tls_world(folder))
            devices = await stack.enter_async_context(ten_peripherals(w, folder))
            assert devices
            agent = await w.start_agent()
            others = {"floor": start_baseline(tls_port, ca)}
            if PENGUIN.exists():
                others["penguin"] = start_penguin(PENGUIN, w.broker.port, folder)
            try:
                await settled(w)
                before = {key: cost(other.pid) for key, other in others.items()} | {"agent": cost(agent.pid)}
                bytes_before = meter.bytes_up + meter.bytes_down
                await asyncio.sleep(seconds)
                after = {key: cost(other.pid) for key, other in others.items()} | {"agent": cost(agent.pid)}
                idle_bytes = meter.bytes_up + meter.bytes_down - bytes_before
            finally:
                for other in others.values():
                    other.kill()
                    other.wait()
        heartbeat, telemetry = await bytes_of_rounds()
    return _idle_rows(before, after) + _byte_rows(idle_bytes * 86400 / seconds, heartbeat, telemetry)


def _idle_rows(before: dict[str, Cost], after: dict[str, Cost]) -> list[tuple[str, str, str]]:
    mib = {key: value.private_kib / 1024 for key, value in after.items()}
    rows = [
        (
            "private memory, idle over TLS",
            f"{mib['agent']:.1f} MiB",
            f"{mib['agent'] / mib['floor']:.2f} × the floor ({mib['floor']:.1f}); at most 1.4",
        ),
    ]
    if "penguin" in mib:
        rows.append(
            (
                "… penguin-metrics 0.0.2, no TLS",
                f"{mib['penguin']:.1f} MiB",
                f"agent is {mib['agent'] / mib['penguin']:.2f} × that; below 1",
            )
        )
    for key, end in after.items():
        took_s = end.at_s - before[key].at_s
        switches = (end.switches - before[key].switches) / took_s
        cpu_s = (end.cpu_s - before[key].cpu_s) / took_s * 86400
        limit = "at most 0.6/s" if key == "agent" else ""
        if key == "agent":
            rows.append(_cpu_row(cpu_s, before[key].children_cpu_s, end.children_cpu_s))
        rows.append((f"voluntary switches, CPU a day: {key}", f"{switches:.2f}/s, {cpu_s:.0f} s", limit))
    rows.append(("workers alive when idle", str(max(before["agent"].children, after["agent"].children)), "0"))
    written = after["agent"].written_bytes - before["agent"].written_bytes
    rows.append(("written to disk while idle", f"{written} bytes", "0, but the clock floor each hour"))
    return rows


def _cpu_row(own_s: float, first_checks_s: float, later_s: float) -> tuple[str, str, str]:
    """What the daemon uses when nothing happens, and its workers' active checks: one round was before the quiet phase."""
    idle_workers = later_s - first_checks_s
    day_s = own_s + CHECKS_A_DAY * first_checks_s
    return (
        f"CPU a day with {CHECKS_A_DAY} active checks of all",
        f"{day_s:.0f} s: {own_s:.0f} s, and {first_checks_s:.2f} s a check ({idle_workers:.2f} s of workers while idle)",
        "at most 40 s",
    )


async def bytes_of_rounds() -> tuple[float, float]:
    """Bytes on the wire of one heartbeat and of one telemetry round, TLS and MQTT included."""
    sizes = []
    for quick in ("heartbeat_s", "telemetry_s"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            async with tls_world(folder, **{quick: 5}) as (w, meter, _, _), ten_peripherals(w, folder):
                w.observer.heartbeat_s = w.config["reporting"].get("heartbeat_s", 3600)
                await w.start_agent()
                await settled(w)
                before = meter.bytes_up + meter.bytes_down
                await asyncio.sleep(20)
                sizes.append((meter.bytes_up + meter.bytes_down - before) / 4)
    return sizes[0], sizes[1]


def _byte_rows(quiet: float, heartbeat: float, telemetry: float) -> list[tuple[str, str, str]]:
    reports = heartbeat * 24 + telemetry * 96
    return [
        ("reports a day (24 heartbeats, 96 telemetry rounds)", f"{reports / 1000:.0f} kB", "at most 400 kB"),
        (
            "… one heartbeat, one telemetry round",
            f"{heartbeat:.0f} B, {telemetry:.0f} B",
            "TLS, MQTT and acknowledgements included",
        ),
        ("keepalive a day, beside that", f"{quiet / 1000:.0f} kB", "one ping each 30 s"),
    ]


async def latency() -> list[tuple[str, str, str]]:
    """From the cause to the message at a subscriber, and from the start to online."""
    with tempfile.TemporaryDirectory() as name:
        async with world(Path(name)) as w:
            started_s = time.monotonic()
            await w.start_agent()
            start_s = time.monotonic() - started_s
            paper, unplugged = [], []
            for _ in range(REPEATS):
                paper.append(await _until_status(w, lambda: w.printer.change(paper="out"), "fault"))
                await _until_status(w, lambda: w.printer.change(paper="plenty"), "ok")
            for _ in range(5):
                unplugged.append(await _until_status(w, w.printer.hang_up, "absent"))
                await w.printer.listen(w.printer.port)
                await w.until(lambda: w.observer.last("health/receipt-printer")["status"] == "ok")
    return [
        ("start → online with all health", f"{start_s * 1000:.0f} ms", "under 1500 ms, interpreter start included"),
        ("paper out, pushed by the printer → subscriber", f"{_ms(paper)} median of {len(paper)}", "under 50 ms"),
        ("device unplugged → subscriber", f"{_ms(unplugged)} median of {len(unplugged)}", "under 20 ms"),
    ]


async def _until_status(w: World, cause: Any, status: str) -> float:
    await asyncio.sleep(1.05)  # past the limit of one health message a second
    seen = len(w.observer.of("health/receipt-printer"))
    at_s = time.monotonic()
    cause()
    await w.until(lambda: any(m.json["status"] == status for m in w.observer.of("health/receipt-printer")[seen:]))
    message = next(m for m in w.observer.of("health/receipt-printer")[seen:] if m.json["status"] == status)
    return message.at_s - at_s


async def replay() -> list[tuple[str, str, str]]:
    """10,000 events queued while there was no broker, drained in order."""
    with tempfile.TemporaryDirectory() as name:
        async with world(Path(name)) as w:
            stamp = Stamp("2026-01-01T00:00:00.000Z", 0, "synced", "bench")
            store = Store(w.state_dir / "store.db", lambda: stamp)
            await store.open()
            for number in range(10_000):
                store.append(Draft("health", "media-empty", "receipt-printer", {"change": "raised", "number": number}, stamp))
            await store.close(30)
            w.observer.checks = False
            agent = await w.start_agent()
            at_s = time.monotonic()
            begin = cost(agent.pid)
            events = f"{ROOT}/event/health"
            seen = w.observer.messages
            await w.until(lambda: len(seen) >= 10_000 and sum(m.topic == events for m in seen) >= 10_000, patience_s=60)
            took_s = time.monotonic() - at_s
            grown = cost(agent.pid).private_kib - begin.private_kib
            numbers = [m.json["data"]["number"] for m in w.observer.messages if m.topic == events]
            assert numbers == sorted(numbers), "out of order"
    return [
        (
            "10,000 queued events → subscriber, in order",
            f"{took_s:.1f} s, memory {grown / 1024:+.1f} MiB",
            "under 5 s, memory flat",
        )
    ]


def _ms(values: list[float]) -> str:
    return f"{statistics.median(values) * 1000:.1f} ms"


def page(rows: list[tuple[str, str, str]], idle_s: float) -> str:
    table = "\n".join(f"| {what} | {value} | {limit} |" for what, value, limit in rows)
    return f"""# Performance

Measured by `make bench` (agent {VERSION}, Python {platform.python_version()}, {platform.machine()}, quiet phase {idle_s:.0f} s), everything
in one run on one machine: ratios travel, absolutes do not. Ten peripherals: two receipt printers by TCP with pushed status,
checked every 120 s; a document printer whose cupsd is asked every 15 s; a scanner and two cameras at USB events and by the active
checks; a kiosk looked at every 15 s; sound every 300 s (this machine has none, and none is asked for); the network chain and the
board every 60 s; telemetry every 900 s, heartbeat every 3600 s. A day of active checks: two openings and every 4 h between.

The floor is `asyncio`, `ssl` and paho in its own thread, connected over TLS and idle. Private memory is the sum of
`Private_*` in `smaps_rollup`; voluntary switches are those of all threads.

| figure | measured | wanted |
|---|---|---|
{table}
"""


def healing(results: list[healable.Result]) -> str:
    return f"""
## Healing

Faults fixed in advance, each injected {healable.TIMES} times at random moments (seed {healable.SEED}; `python -m tests.engine.healable` alone);
in one case of three a citizen is there for up to 40 minutes. Declarations, rules and engine are the real ones, on a virtual clock; the
devices are modelled, so these figures are the booth's patience and not a printer's.

Healed: {healable.share_pct(results):.0f} % (wanted: 80). Remedies during a session: {sum(result.disturbed for result in results)}. Remedies in 200 healthy but
noisy runs: 0 (`tests/engine/test_heal.py` asserts it). Not healed: what nothing cures, after which a technician is named.

{healable.table(results)}

What the running agent healed in the virtual booth, with the kernel's own devices: [virtual-booth.md](virtual-booth.md).
"""


def sandboxes() -> str:
    """The scores of `systemd-analyze security`, as `make check` holds them."""
    said = subprocess.run(["sh", "systemd/check"], capture_output=True, text=True, check=True).stdout
    scores = re.findall(r"systemd/(\S+)\.service: exposure ([0-9.]+), at most ([0-9.]+)", said)
    rows = "\n".join(f"| {unit} | {score} | {limit} |" for unit, score, limit in scores)
    return f"""
## Sandboxes

`systemd-analyze security --offline=true` (0 is best), held by `make check`.

| unit | exposure | at most |
|---|---|---|
{rows}
"""


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
