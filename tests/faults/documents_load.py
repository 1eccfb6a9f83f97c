"""Many documents, one after another, on a running agent; and what its process holds."""

import contextlib
import re
from pathlib import Path
from typing import Any

from tests.documents.published import OPERATOR, answer, codes, flipped
from tests.world import AgentProcess, World


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def open_files(agent: AgentProcess) -> list[str]:
    """What its descriptors are, without what a transaction of the store opens for a moment."""
    found = []
    for descriptor in Path(f"/proc/{agent.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(re.sub("[0-9]+", "", str(descriptor.readlink())))
    return sorted(name for name in found if not name.endswith("-journal"))


def children(agent: AgentProcess) -> list[str]:
    return [pid for task in Path(f"/proc/{agent.pid}/task").iterdir() for pid in (task / "children").read_text().split()]


async def at_rest(w: World, agent: AgentProcess) -> list[str]:
    await w.until(lambda: not children(agent), "no process left behind")
    return open_files(agent)


async def documents(w: World, first_rev: int, count: int) -> None:
    """Half of them good, some of these with 5 KB of another booth's; the others forged, or no documents at all."""
    for number in range(count):
        rev = first_rev + number
        doc: dict[str, Any] = {"reporting": {"telemetry_s": 300 + rev}}
        if number % 8 == 0:
            doc["peripherals"] = {"x" * 5000: {}}
        good = OPERATOR.sign("config", doc, rev=rev)
        match number % 4:
            case 0 | 1:
                assert (await answer(w, good))["status"] == "applied"
            case 2:
                assert codes(await answer(w, flipped(good, "payload"))) == ["bad-signature"]
            case 3:
                assert codes(await answer(w, b"[" * 60_000)) == ["bad-envelope"]


async def growth_kib(w: World, agent: AgentProcess, count: int) -> int:
    """How much the agent has grown after so many. The first twenty are not counted: they load what is loaded once."""
    await documents(w, 100, 20)
    files, before = await at_rest(w, agent), resident_kib(agent.pid)
    await documents(w, 200, count - 20)
    assert await at_rest(w, agent) == files, "no file is left open"
    return resident_kib(agent.pid) - before
