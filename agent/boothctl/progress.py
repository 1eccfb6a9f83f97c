"""How far something is, beside the output: a bar where somebody looks on, plain lines elsewhere."""

import shutil
import sys
from typing import Final, TextIO

from agent.boothctl.terminal import note
from agent.contract.words import printable

_BAR: Final = 24
_FULL: Final = 100


class Progress:
    """`say` a state in words, with per cent where that is known; `close` leaves a clean line."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._last = ""
        self._drawn = False

    def say(self, words: str, pct: int | None = None) -> None:
        """The same again says nothing."""
        pct = None if pct is None else max(0, min(_FULL, pct))
        if self._live:
            self._draw(words, pct)
            return
        line = words if pct is None else f"{words}, {pct} %"
        if line != self._last:
            self._last = line
            note(line)

    def tick(self, words: str, pct: int) -> None:
        """What moves often: drawn where somebody looks on; elsewhere a line for each tenth of the way."""
        self.say(words, pct if self._live else pct // 10 * 10)

    def close(self) -> None:
        """What comes next begins on a line of its own."""
        if self._drawn:
            self._stream.write("\n")
            self._stream.flush()
            self._drawn = False

    def _draw(self, words: str, pct: int | None) -> None:
        text = printable(words, 200)
        if pct is not None:
            filled = _BAR * pct // _FULL
            text = f"[{'█' * filled}{'·' * (_BAR - filled)}] {pct:3d} %  {text}"
        width = shutil.get_terminal_size().columns - 1
        self._stream.write("\r\x1b[K" + text[:width])
        self._stream.flush()
        self._drawn = True
