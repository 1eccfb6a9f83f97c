"""The kiosk's application: its unit's control group in a tree of files, and a heartbeat that a real task touches."""

import asyncio
import contextlib
from pathlib import Path
from typing import Final

from agent.devices import cgroup
from agent.simulator.machine import SimulatedFiles

UNIT: Final = "booth-kiosk.service"


class KioskApplication:
    """`start` it on the running loop; then `crash`, `freeze`, `start` again. `heartbeat` is for the option of that name."""

    def __init__(self, files: SimulatedFiles, folder: Path, beat_s: float = 1.0) -> None:
        self._files = files
        self._group = f"sys/fs/cgroup/{cgroup.of_unit(UNIT)}"
        self._beat_s = beat_s
        self._beating: asyncio.Task[None] | None = None
        self.heartbeat = folder / "kiosk-heartbeat"
        files.write("sys/fs/cgroup/cgroup.controllers", "cpu memory pids")

    def start(self) -> None:
        """Also what makes a frozen one move again."""
        self._files.write(cgroup.events(self._group), "populated 1\nfrozen 0")
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat())

    def crash(self) -> None:
        """As systemd leaves it: the group empties, then it is gone."""
        self.freeze()
        self._files.write(cgroup.events(self._group), "populated 0\nfrozen 0")
        self._files.path(cgroup.events(self._group)).unlink()
        self._files.path(self._group).rmdir()

    def freeze(self) -> None:
        """It runs on, and moves no more."""
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None

    async def stop(self) -> None:
        """The end of the simulation."""
        beating = self._beating
        self.freeze()
        if beating is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await beating

    async def _beat(self) -> None:
        while True:
            self.heartbeat.touch()
            await asyncio.sleep(self._beat_s)
