"""Terminals and sockets that play a device's end, for tests."""

import asyncio
import contextlib
import os
import pty
import shutil
import tempfile
import tty
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def dev_folder() -> Iterator[Path]:
    """A folder of our own below /dev, where links like those of udev may stand."""
    folder = Path(tempfile.mkdtemp(prefix="booth-test-", dir="/dev/shm"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Terminal:
    """A pseudo-terminal: `master` is the device's end, `path` the computer's."""

    def __init__(self) -> None:
        self.master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self.path = Path(os.ttyname(self._slave))

    def say(self, data: bytes) -> None:
        os.write(self.master, data)

    async def hear(self, count: int) -> bytes:
        """The next `count` bytes that the computer wrote."""
        heard = b""
        async with asyncio.timeout(10):
            while len(heard) < count:
                try:
                    heard += os.read(self.master, count - len(heard))
                except BlockingIOError:
                    await asyncio.sleep(0.005)
        return heard

    def unplug(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            os.close(self._slave)
            self.master = -1


def established(port: int) -> bool:
    """Whether a client has a connection to a port: state 01 in /proc/net/tcp."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)
