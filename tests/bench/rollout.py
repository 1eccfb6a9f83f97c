"""A rollout over many simulated booths: CPU and memory of `boothctl update rollout`. `python -m tests.bench.rollout [BOOTHS]`."""

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agent.documents.signatures import SigningKey
from agent.simulator.fleet_script import many
from agent.simulator.mosquitto import Mosquitto
from tests.boothctl.program import environment
from tests.world import BIN

BOOTHS = 10_000
AREAS = 100
SECTION: dict[str, Any] = {
    "version": "1.5.0",
    "artifacts": {
        name: {"url": f"https://updates.example/booth-agent-1.5.0-{name}.tar", "size_bytes": 41_000_000, "sha256": digit * 64}
        for name, digit in (("amd64", "a"), ("arm64", "b"))
    },
    "window": "idle",
}


async def rollouts(booths: int = BOOTHS) -> list[tuple[str, str, str]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Mosquitto(folder)
        await broker.start()
        fleet = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent.simulator.fleet", "--port", str(broker.port), "--booths", str(booths),
            "--areas", str(AREAS), "--rolled-back-pct", "1", stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert fleet.stdout is not None
            async with asyncio.timeout(300):
                assert await fleet.stdout.readline()
            return await _roll(folder, broker.port, booths)
        finally:
            fleet.terminate()
            await fleet.wait()
            await broker.stop()


async def _roll(folder: Path, port: int, booths: int) -> list[tuple[str, str, str]]:
    (folder / "ann.pem").touch(0o600)
    (folder / "ann.pem").write_bytes(SigningKey.generate().to_pem(None))
    (folder / "doc.json").write_text(json.dumps({"agent": SECTION}))
    laboratory = [part for name in list(many(booths, AREAS))[:5] for part in ("--laboratory", name)]
    started_s = time.monotonic()
    # Failures are one in a hundred: not one of the first ten has to halt it.
    status, used = await asyncio.to_thread(
        _measured, folder,
        [str(BIN / "boothctl"), "update", "rollout", "doc.json", "--key", "ann.pem", "--broker", f"mqtt://127.0.0.1:{port}",
         *laboratory, "--pause-s", "0", "--halt-on-tried", "50", "--every", "5"],
    )  # fmt: skip
    took_s = time.monotonic() - started_s
    assert status == 0, (folder / "said").read_text()[-2000:]
    cpu_s = used.ru_utime + used.ru_stime
    state = (folder / "rollout-agent-1.5.0.json").stat().st_size
    return [
        (
            f"rollout over {booths:,} simulated booths, planned and tracked: CPU of boothctl",
            f"{cpu_s:.1f} s",
            f"in {took_s:.0f} s, six waves; under 60 s",
        ),
        ("… its memory at most, its state file", f"{used.ru_maxrss / 1024:.0f} MiB, {state / 1e6:.1f} MB", "under 256 MiB"),
    ]


def _measured(folder: Path, command: list[str]) -> tuple[int, resource.struct_rusage]:
    with open(folder / "said", "wb") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, stdin=subprocess.DEVNULL, cwd=folder, env=environment(folder)
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, used


if __name__ == "__main__":
    print(json.dumps(asyncio.run(rollouts(int(sys.argv[1]) if len(sys.argv) > 1 else BOOTHS)), indent=1))
