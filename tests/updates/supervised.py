"""What systemd does for an agent and root's part of updates, on a root of a test's own."""

import asyncio
import contextlib
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from agent.simulator.booth import toml
from tests.updates.story import OPERATOR, Root
from tests.world import World

_RESTART_S: Final = 0.2
_SYSTEMCTL: Final = """#!/bin/sh
echo "$*" >> {root}/systemctl.log
case "$*" in
    *"restart booth-agent.service") touch {root}/restart; kill -TERM "$(cat {root}/agent.pid)" ;;
esac
"""


class Supervisor:
    """`starts`: how often the agent was started. `deadline_s`: of a trial."""

    def __init__(self, w: World, deadline_s: float, folder: Path) -> None:
        self.root = Root(folder)
        self.starts = 0
        self.ended_at_s: list[float] = []
        self._w = w
        self._deadline_s = deadline_s
        self._agent: asyncio.subprocess.Process | None = None

    def prepare(self) -> None:
        folder = self.root.folder
        self.root.prepare()
        config = self._w.config | {"updates": {"spread_s": 0}}
        text = "".join(f"{name} = {toml(table)}\n" for name, table in config.items())
        (folder / "etc/booth-agent/agent.toml").write_text(text)
        OPERATOR.install(folder / "etc/booth-agent")
        (folder / "run/booth-acts").mkdir(parents=True)
        (folder / "run/booth-agent").mkdir(parents=True)
        (folder / "usr/bin").mkdir(parents=True)
        systemctl = folder / "usr/bin/systemctl"
        systemctl.write_text(_SYSTEMCTL.format(root=folder))
        systemctl.chmod(0o755)

    @property
    def pid(self) -> int:
        """Of the agent that runs now."""
        assert self._agent is not None
        return self._agent.pid

    async def run(self) -> None:
        """Until cancelled."""
        listening = socket.socket(socket.AF_UNIX)
        listening.setblocking(False)
        listening.bind(str(self.root.folder / "run/booth-acts/update.sock"))
        listening.listen()
        others = [asyncio.ensure_future(self._accept(listening)), asyncio.ensure_future(self._deadline())]
        try:
            while True:
                if (self.root.folder / "var/lib/booth-update/trial").exists():
                    await self._program("start")
                self._agent = await self._start()
                await self._agent.wait()
                self.ended_at_s.append(time.monotonic())
                if not (self.root.folder / "restart").exists():
                    await asyncio.sleep(_RESTART_S)
                (self.root.folder / "restart").unlink(missing_ok=True)
        finally:
            for other in others:
                other.cancel()
            if self._agent is not None and self._agent.returncode is None:
                self._agent.kill()
                await self._agent.wait()
            await asyncio.gather(*others, return_exceptions=True)
            listening.close()

    def cut(self) -> None:
        """The agent is gone, without a word."""
        assert self._agent is not None
        self._agent.kill()

    async def _start(self) -> asyncio.subprocess.Process:
        slot = self.root.folder / "opt/booth-agent/current"
        version, behaviour = (slot / "version").read_text(), (slot / "body").read_text()
        self.starts += 1
        with open(self.root.folder / "agent.log", "ab") as log:
            agent = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.updates.agent_process", str(self.root.folder), version, behaviour,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        (self.root.folder / "agent.pid").write_text(str(agent.pid))
        return agent

    async def _accept(self, listening: socket.socket) -> None:
        """As Accept=yes and MaxConnections=1: the connection is the standard input and output of a process."""
        loop = asyncio.get_running_loop()
        serving: asyncio.Task[None] | None = None
        try:
            while True:
                connection, _ = await loop.sock_accept(listening)
                connection.setblocking(True)
                if serving is None or serving.done():
                    serving = asyncio.ensure_future(self._serve(connection))
                else:
                    connection.close()
        finally:
            if serving is not None:
                await asyncio.gather(serving, return_exceptions=True)

    async def _serve(self, connection: socket.socket) -> None:
        with connection:
            await self._program("serve", connection.fileno())

    async def _program(self, act: str, connection: int = asyncio.subprocess.DEVNULL) -> None:
        with open(self.root.folder / "root.log", "ab") as log:
            program = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.updates.root_process", str(self.root.folder), act,
                stdin=connection, stdout=connection, stderr=log,
            )  # fmt: skip
            await program.wait()

    async def _deadline(self) -> None:
        """booth-update-deadline.timer"""
        log = self.root.folder / "systemctl.log"
        while True:
            await asyncio.sleep(0.2)
            if log.exists() and "start booth-update-deadline.timer" in log.read_text():
                await asyncio.sleep(self._deadline_s)
                await self._program("deadline")


@contextlib.asynccontextmanager
async def supervised(w: World, deadline_s: float = 3600.0) -> AsyncIterator[Supervisor]:
    """A booth of version 1.0 that is online, and is started again whenever it ends."""
    folder = Path(tempfile.mkdtemp(prefix="booth-"))  # the path of a socket has 107 bytes at most
    (w.folder / "root").symlink_to(folder)
    supervisor = Supervisor(w, deadline_s, folder)
    supervisor.prepare()
    running = asyncio.ensure_future(supervisor.run())
    try:
        await w.until(lambda: w.observer.last("state") and w.observer.last("state")["state"] == "online", "online")
        await w.until(lambda: w.observer.last("update/reported"), "what is in use")
        yield supervisor
        assert not running.done(), running.exception()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        shutil.rmtree(folder)


def log_of(root: Path) -> str:
    return "".join((root / name).read_text(errors="replace") for name in ("agent.log", "root.log") if (root / name).exists())
