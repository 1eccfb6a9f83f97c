"""Time: monotonic for timers, wall time with a floor for people, and whether the kernel trusts it.

A Raspberry Pi has no clock of its own: after a night without power it wakes in 1970. No time that
the agent says is below the floor: the latest of the release's date, the last time that was saved while the
clock was synchronised, and the newest time in a document that the operator signed.

A time source can be wrong by years, and the floor never sinks: so it jumps only to what a second witness says, a certificate
that was valid just then. Without one it moves on with the seconds that went by.
"""

import ctypes
import os
import struct
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final, Protocol

from agent import RELEASED_AT
from agent.contract.words import ClockWord

SAVE_EVERY_S: Final = 3600.0
_WITNESSED_WITHIN_S: Final = 86_400.0

# No floor is above this one: a digit that flipped on the card would else keep the clock wrong for centuries.
_LATEST_S: Final = RELEASED_AT + 30 * 365.25 * 86400

_STA_UNSYNC: Final = 0x0040  # adjtimex(2)
_STATUS_OFFSET: Final = 40  # of `status` in struct timex, on 64-bit Linux


class Times(Protocol):
    """The three clocks of the machine; tests pass others."""

    def wall_s(self) -> float: ...
    def mono_s(self) -> float: ...
    def kernel_synced(self) -> bool: ...


class MachineTimes:
    """The real ones."""

    def __init__(self, timesyncd_mark: Path = Path("/run/systemd/timesync/synchronized")) -> None:
        self._libc = ctypes.CDLL(None)
        self._timesyncd_mark = timesyncd_mark

    def wall_s(self) -> float:
        return time.time()

    def mono_s(self) -> float:
        return time.monotonic()

    def kernel_synced(self) -> bool:
        """STA_UNSYNC of adjtimex(2): cleared by whichever time daemon keeps this clock.

        Where a sandbox forbids the call (ProtectClock= does, even to read), systemd-timesyncd's own mark.
        """
        timex = ctypes.create_string_buffer(256)  # modes = 0: read only, no privilege
        if self._libc.adjtimex(timex) < 0:
            return self._timesyncd_mark.exists()
        status: int = struct.unpack_from("i", timex, _STATUS_OFFSET)[0]
        return not status & _STA_UNSYNC


class Clock:
    """`floor_file` holds seconds since 1970 as text; a missing or damaged one counts as none."""

    def __init__(self, floor_file: Path | None, times: Times | None = None) -> None:
        self._times = times or MachineTimes()
        self._floor_file = floor_file
        # The floor, and when it was set by the monotonic clock: one value, since another thread saves it.
        self._floor = (max(RELEASED_AT, _read_floor(floor_file)), self._times.mono_s())
        self._witnessed: tuple[float, float] | None = None  # wall and monotonic time of then

    def mono_s(self) -> float:
        """Seconds that only grow, unaffected when the wall clock jumps."""
        return self._times.mono_s()

    def wall_s(self) -> float:
        """Seconds since 1970, never below the floor; below it, the floor ticks on by itself."""
        wall_s = self._times.wall_s()
        floor_s, set_at_s = self._floor
        return wall_s if wall_s >= floor_s else floor_s + max(0.0, self.mono_s() - set_at_s)

    def wall(self) -> str:
        """The wall time in the contract's form."""
        return rfc3339(self.wall_s())

    def synced(self) -> bool:
        """Whether the wall clock can be trusted: kept by a time source, and not below the floor."""
        return not self.below_floor() and self._times.kernel_synced()

    def below_floor(self) -> bool:
        """Whether the wall clock is certainly wrong."""
        return self._times.wall_s() < self._floor[0]

    def today(self) -> date | None:
        """The day in UTC; None while the clock is certainly wrong."""
        return None if self.below_floor() else datetime.fromtimestamp(self.wall_s(), UTC).date()

    def witnessed(self) -> None:
        """Another machine's certificate was valid just now: the wall clock is not years ahead."""
        self._witnessed = (self._times.wall_s(), self.mono_s())

    def not_before(self, moment: str) -> None:
        """The operator signed something at `moment`: it is not earlier now."""
        floor_s = datetime.fromisoformat(moment).timestamp()
        if self.wall_s() < floor_s <= _LATEST_S:
            self._floor = (floor_s, self.mono_s())

    def word(self) -> ClockWord:
        return "synced" if self.synced() else "unsynced"

    def save_floor(self) -> None:
        """Move the floor up, on disk too, if the clock is trusted: to now where there is a witness. Raises OSError."""
        if self._floor_file is None or not self.synced():
            return
        floor_s, mono_s = self._times.wall_s(), self.mono_s()
        if not self._is_witnessed(floor_s, mono_s):
            before_s, set_at_s = self._floor
            floor_s = min(floor_s, before_s + max(0.0, mono_s - set_at_s))
        if floor_s > _LATEST_S:
            return
        self._floor = (floor_s, mono_s)
        replacement = self._floor_file.with_suffix(".new")
        with open(replacement, "w") as file:
            file.write(f"{floor_s:.0f}\n")
            file.flush()
            os.fsync(file.fileno())
        replacement.rename(self._floor_file)

    def floor_lags(self) -> bool:
        """Whether there is a witness to a floor that is so much higher that it is worth to be saved at once."""
        now_s = self._times.wall_s()
        return self.synced() and now_s - self._floor[0] > SAVE_EVERY_S and self._is_witnessed(now_s, self.mono_s())

    def _is_witnessed(self, wall_s: float, mono_s: float) -> bool:
        if self._witnessed is None:
            return False
        then_s, at_s = self._witnessed
        return abs(wall_s - (then_s + mono_s - at_s)) < _WITNESSED_WITHIN_S


def rfc3339(wall_s: float) -> str:
    """RFC 3339, UTC, milliseconds, `Z`."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read_floor(file: Path | None) -> float:
    if file is None:
        return 0.0
    try:
        floor_s = float(file.read_text())
    except (OSError, ValueError):
        return 0.0
    return floor_s if 0 <= floor_s <= _LATEST_S else 0.0
