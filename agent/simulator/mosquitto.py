"""A real mosquitto as a child, on a free port of loopback, with a folder of its own."""

import asyncio
import shutil
import socket
from pathlib import Path
from typing import Final

_READY_S: Final = 10.0


class Mosquitto:
    """One broker. `start`, `kill`, `start` again on the same port; `extra` lines go into its configuration."""

    def __init__(self, folder: Path, extra: str = "", port: int | None = None) -> None:
        self.port = port or free_port()
        self._folder = folder
        self.extra = extra
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Raises RuntimeError, with what it logged, when it does not come up."""
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise RuntimeError("mosquitto is missing: apt-get install mosquitto mosquitto-clients")
        config = self._folder / f"mosquitto-{self.port}.conf"
        config.write_text(self._config())
        self._process = await asyncio.create_subprocess_exec(
            program, "-c", str(config),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(_READY_S):
            while not await answers(self.port):
                if self._process.returncode is not None:
                    raise RuntimeError(f"mosquitto ended at once; its configuration is {config}")
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        await self._end(kill=False)

    async def kill(self) -> None:
        """As the power cut would."""
        await self._end(kill=True)

    async def _end(self, *, kill: bool) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        await self._process.wait()

    def _config(self) -> str:
        lines = ["set_tcp_nodelay true", "persistence false", "max_queued_messages 0", "log_dest none"]
        if "listener" not in self.extra:
            lines += [f"listener {self.port} 127.0.0.1"]
        if "allow_anonymous" not in self.extra:
            lines += ["allow_anonymous true"]
        # Started by root, mosquitto becomes its own user, who may not read our folder.
        return "\n".join([*lines, "user root", self.extra, ""])


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def answers(port: int) -> bool:
    """Whether something accepts connections on a port of loopback."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.transport.abort()
    return True
