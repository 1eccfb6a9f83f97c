"""A socket in the file system that others of the booth's processes send words to, one datagram each."""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

_LIMIT: Final = 16  # bytes; every word is shorter


class Datagrams:
    """`heard` is called with each one. Only our own user and group can send to it."""

    def __init__(self, path: Path, heard: Callable[[bytes], None]) -> None:
        """Raises OSError."""
        self._path = path
        path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        before = os.umask(0o117)
        try:
            self._listening.bind(str(path))
        except OSError:
            self._listening.close()
            raise
        finally:
            os.umask(before)

        def readable() -> None:
            with suppress(BlockingIOError):
                while True:
                    heard(self._listening.recv(_LIMIT))

        asyncio.get_running_loop().add_reader(self._listening.fileno(), readable)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listening.fileno())
        self._listening.close()
        with suppress(OSError):
            self._path.unlink()
