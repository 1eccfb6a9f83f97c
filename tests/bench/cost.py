"""What a process costs, read from /proc; and the two peers that it is compared with."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

# The floor: asyncio, ssl and paho in its own thread, connected over TLS, doing nothing.
BASELINE = """
import asyncio, sys
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
async def main():
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.tls_set(sys.argv[2])
    client.connect("localhost", int(sys.argv[1]), 30)
    client.loop_start()
    await asyncio.sleep(3600)
asyncio.run(main())
"""


@dataclass(frozen=True)
class Cost:
    """A process at one moment. `private_kib`: memory that would be free without it. `children_cpu_s`: of those that ended."""

    at_s: float
    private_kib: int
    switches: int
    cpu_s: float
    children_cpu_s: float
    children: int
    written_bytes: int


def cost(pid: int) -> Cost:
    private = sum(int(line.split()[1]) for line in _lines(pid, "smaps_rollup") if line.startswith("Private_"))
    switches = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        switches += sum(
            int(line.split()[1]) for line in (task / "status").read_text().splitlines() if line.startswith("voluntary")
        )
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own, ended = ((int(fields[at]) + int(fields[at + 1])) / os.sysconf("SC_CLK_TCK") for at in (11, 13))
    children = len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    written = next(int(line.split()[1]) for line in _lines(pid, "io") if line.startswith("write_bytes"))
    return Cost(time.monotonic(), private, switches, own, ended, children, written)


def start_baseline(port: int, ca: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", BASELINE, str(port), str(ca)])


def start_penguin(program: Path, port: int, folder: Path) -> "subprocess.Popen[bytes]":
    """penguin-metrics, the lightest Python peer, with two collectors at its default interval; plain TCP."""
    config = folder / "penguin.conf"
    config.write_text(f'mqtt {{ host "127.0.0.1"; port {port}; }}\nsystem "bench" {{ cpu on; memory on; }}\n')
    return subprocess.Popen([program, str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _lines(pid: int, name: str) -> list[str]:
    return Path(f"/proc/{pid}/{name}").read_text().splitlines()
