"""How fast a file comes: no faster than allowed, and never so slowly that it has no end."""

import signal
import time
from types import FrameType
from typing import Final, Self

from agent.fetching.failed import Failed

LEAST_BYTES_S: Final = 256
_CHUNK_BYTES: Final = 64 * 1024
_CHUNKS_A_SECOND: Final = 8


class Pace:
    """Inside `with`, an alarm raises Failed (`too-slow`) wherever the process waits: for a name, a handshake, a header that comes
    letter by letter. In twice `patience_s` there have to come `LEAST_BYTES_S` on average, or half of a lower `rate_bytes_s`."""

    def __init__(self, rate_bytes_s: float | None, patience_s: float) -> None:
        self._rate_bytes_s = rate_bytes_s
        self._period_s = 2 * patience_s
        self._least = self._period_s * min(LEAST_BYTES_S, (rate_bytes_s or 2 * LEAST_BYTES_S) / 2)
        self._came = 0
        self._next_s = 0.0  # when the next bytes may be read

    def __enter__(self) -> Self:
        signal.signal(signal.SIGALRM, self._look)
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def begin(self) -> None:
        """The file itself begins to come: what was asked before has had its time."""
        self._came = 0
        signal.setitimer(signal.ITIMER_REAL, self._period_s, self._period_s)

    def most(self, wanted: int) -> int:
        """How many bytes to read at once, of those that are wanted: few where it has to be slow."""
        few = _CHUNK_BYTES if self._rate_bytes_s is None else max(1, int(self._rate_bytes_s / _CHUNKS_A_SECOND))
        return min(wanted, few, _CHUNK_BYTES)

    def came(self, count: int) -> None:
        """Returns when more may come. What was not used is not saved up: it would be a burst."""
        self._came += count
        if self._rate_bytes_s is not None:
            now_s = time.monotonic()
            self._next_s = max(self._next_s, now_s) + count / self._rate_bytes_s
            time.sleep(self._next_s - now_s)

    def _look(self, _number: int, _frame: FrameType | None) -> None:
        if self._came < self._least:
            raise Failed("too-slow", f"less than {self._least:.0f} bytes in {self._period_s:g} s: check the line and the server")
        self._came = 0
