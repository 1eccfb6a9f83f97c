"""What a few camera frames show: how bright, how even, how many different ones. Numbers only; the frames go no further.

A camera needs about fifteen frames to find its exposure; the ten after them are judged.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

SKIPPED: Final = 15
JUDGED: Final = 10
WANTED: Final = SKIPPED + JUDGED
_SAMPLES: Final = 20_000  # luma values of one frame that are counted: more say nothing new, and cost a Pi seconds


class Film:
    """The frames of one check. `came` is how many there were so far."""

    def __init__(self) -> None:
        self.came = 0
        self._levels: Counter[int] = Counter()
        self._digests: set[bytes] = set()

    @property
    def complete(self) -> bool:
        return self.came >= WANTED

    def add(self, frame: bytes, luma: Callable[[bytes], bytes] | None) -> None:
        """The next frame; `luma` finds its brightness values (0–255), None for a compressed one."""
        self.came += 1
        if self.came <= SKIPPED:
            return
        self._digests.add(hashlib.blake2b(frame, digest_size=16).digest())
        if luma is not None:
            values = luma(frame)
            # An odd step walks through all columns, so that a striped picture is not taken for an even one.
            self._levels.update(values[:: (len(values) // _SAMPLES) | 1])

    def figures(self) -> dict[str, Any]:
        """`frames`; and of a complete film `luma_mean`, `luma_deviation` (None if compressed) and `distinct_frames`."""
        if not self.complete:
            return {"frames": self.came, "luma_mean": None, "luma_deviation": None, "distinct_frames": None}
        mean, deviation = _spread(self._levels)
        return {
            "frames": self.came,
            "luma_mean": mean,
            "luma_deviation": deviation,
            "distinct_frames": len(self._digests),
        }


def _spread(levels: Counter[int]) -> tuple[float | None, float | None]:
    """Mean and standard deviation of counted values, to a tenth."""
    total = levels.total()
    if not total:
        return None, None
    mean = sum(level * count for level, count in levels.items()) / total
    variance = sum((level - mean) ** 2 * count for level, count in levels.items()) / total
    return round(mean, 1), round(math.sqrt(variance), 1)


def planar_luma(width: int, height: int, stride: int) -> Callable[[bytes], bytes]:
    """For GREY, NV12 and I420: a plane of `height` rows, `stride` bytes apart."""
    if stride <= width:
        return lambda frame: frame[: width * height]
    return lambda frame: b"".join(frame[start : start + width] for start in range(0, stride * height, stride))


def packed_luma(width: int, height: int, stride: int, first: int) -> Callable[[bytes], bytes]:
    """For YUYV (`first` 0) and UYVY (`first` 1): every second byte is brightness."""
    rows = planar_luma(2 * width, height, stride)
    return lambda frame: rows(frame)[first::2]
