"""`boothctl` as a process, and what a test says for a booth."""

import asyncio
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from tests.world import BIN, World

WHEN = "2026-10-06T12:32:00.000Z"


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def booths(self) -> list[str]:
        """The second column of `ls`."""
        return [line.split()[1] for line in self.out.splitlines()[1:]]


def environment(home: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BOOTHCTL_")}
    return clean | {"HOME": str(home), "PYTHONUNBUFFERED": "1"}


async def boothctl(home: Path, *arguments: object, **env: str) -> Done:
    """Run it in the folder `home`, which is the operator's home too."""
    process = await asyncio.create_subprocess_exec(
        str(BIN / "boothctl"), *map(str, arguments),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(home) | env, cwd=home,
    )  # fmt: skip
    out, err = await process.communicate()
    assert b"Traceback" not in err, err.decode()
    return Done(process.returncode or 0, out.decode(), err.decode())


def state(word: str = "online", **changes: Any) -> dict[str, Any]:
    return {
        "state": word, "session": "s", "boot_id": "b", "agent": "0.1.0", "since": WHEN, "clock": "synced",
        "services": {"print": "ok"},
    } | changes  # fmt: skip


def say(w: World, booth: str, topic: str, payload: Any, *, retain: bool = True) -> paho.MQTTMessageInfo:
    """Speak for a booth; the broker has it a moment later, and what is said next after it."""
    area = booth.partition("-")[0]
    data = payload if isinstance(payload, bytes | str) else json.dumps(payload)
    return w.observer._client.publish(f"booth/v1/{area}/{booth}/{topic}", data, 1, retain)


async def until(condition: Any, patience_s: float = 30.0) -> None:
    async with asyncio.timeout(patience_s):
        while not condition():
            await asyncio.sleep(0.02)
