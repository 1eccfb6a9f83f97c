"""Hear booth-button, the process that owns the button's line: one datagram is one word."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, get_args

from agent.contract.button import ButtonWord
from agent.system.datagrams import Datagrams

_WORDS: Final[Mapping[bytes, ButtonWord]] = {word.encode(): word for word in get_args(ButtonWord)}


class ButtonSocket:
    """At `path`, once it listens."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._datagrams: Datagrams | None = None

    def listen(self, heard: Callable[[ButtonWord], None]) -> None:
        """Call `heard` at each word. Raises OSError."""

        def take(datagram: bytes) -> None:
            if (word := _WORDS.get(datagram)) is not None:
                heard(word)

        self._datagrams = Datagrams(self._path, take)

    def close(self) -> None:
        if self._datagrams is not None:
            self._datagrams.close()
            self._datagrams = None
