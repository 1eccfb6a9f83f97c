"""Root's part of a simulated booth: the real program, on a file system of its own below a folder, started for each document."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from agent.contract.envelope import MAX_ENVELOPE_BYTES
from agent.simulator.operator import PROVISIONING
from agent.system.lockdown_socket import LockdownSocket

_ENDED_WITHIN_S: Final = 5.0


class SimulatedLockdown(LockdownSocket):
    """The rules write, and are measured, below `root`; what needs the kernel or a program says not-applicable."""

    def __init__(self, root: Path) -> None:
        super().__init__(report=root / "run/booth-lockdown/reported.json")
        self._root = root
        self._installed = False
        self._programs: list[asyncio.subprocess.Process] = []

    @property
    def installed(self) -> bool:
        return self._installed

    def install(self, config: str, trust: str) -> None:
        """What `make install` and the operator put there."""
        etc = self._root / "etc/booth-agent"
        etc.mkdir(parents=True, mode=0o755)
        (self._root / "run/booth-agent").mkdir(parents=True)
        for name, text in (("agent.toml", config), ("slots.toml", ""), ("trust.json", trust)):
            (etc / name).write_text(text)
            (etc / name).chmod(0o644)
        floor = self._root / "usr/lib/booth-agent/floor.json"
        floor.parent.mkdir(parents=True)
        shutil.copyfile(PROVISIONING / "floor.json", floor)
        self._installed = True

    def listen(self, _news: Path, changed: Callable[[], None]) -> None:
        super().listen(self._root / "run/booth-agent/lockdown-news.sock", changed)

    async def apply(self) -> None:
        """As at boot."""
        program = await self._start("apply")
        await program.communicate()

    async def deliver(self, kind: str, layer: str, message: bytes) -> AsyncIterator[dict[str, Any]]:
        program = await self._start("serve")
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(
            json.dumps({"kind": kind, "layer": layer, "bytes": len(message)}).encode() + b"\n" + message[: MAX_ENVELOPE_BYTES + 1]
        )
        program.stdin.close()
        while line := await program.stdout.readline():
            yield json.loads(line)
        if await program.wait() != 0:
            raise ConnectionResetError(f"booth-lockdown ended with {program.returncode}")

    async def stop(self) -> None:
        """One that is still at work would write into a folder that is being removed."""
        for program in self._programs:
            if program.returncode is None:
                program.kill()
                async with asyncio.timeout(_ENDED_WITHIN_S):
                    await program.wait()
        self._programs.clear()

    async def _start(self, act: str) -> asyncio.subprocess.Process:
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent.privileged.lockdown", act, "--root", str(self._root),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1024 * 1024,
        )  # fmt: skip
        self._programs = [*(other for other in self._programs if other.returncode is None), program]
        return program
