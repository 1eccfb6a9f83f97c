"""Hear booth-button, the process that owns the button's line: one datagram is one word."""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, get_args

from agent.contract.button import ButtonWord

_DATAGRAM_LIMIT: Final = 16  # bytes; the longest word has 7
_WORDS: Final[Mapping[bytes, ButtonWord]] = {word.encode(): word for word in get_args(ButtonWord)}


class ButtonSocket:
    """Only our own user and group can send to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listening: socket.socket | None = None

    def listen(self, heard: Callable[[ButtonWord], None]) -> None:
        """Call `heard` at each word. Raises OSError."""
        self._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        before = os.umask(0o117)
        try:
            listening.bind(str(self._path))
        except OSError:
            listening.close()
            raise
        finally:
            os.umask(before)
        self._listening = listening

        def readable() -> None:
            with suppress(BlockingIOError):
                while True:
                    if (word := _WORDS.get(listening.recv(_DATAGRAM_LIMIT))) is not None:
                        heard(word)

        asyncio.get_running_loop().add_reader(listening.fileno(), readable)

    def close(self) -> None:
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening.fileno())
            self._listening.close()
            self._listening = None
            with suppress(OSError):
                self._path.unlink()
