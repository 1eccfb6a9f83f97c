"""`test-camera`: some frames, neither black nor all the same. No picture leaves the worker's memory."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from agent.peripherals.declaration import TestFailed
from agent.rules.declaration import Reading

_FIGURES: Final = ("frames", "luma_mean", "luma_deviation", "distinct_frames")
_TO_DO: Final[Mapping[str, str]] = {
    "black": "the picture is black: uncover the lens, and see that there is light",
    "frozen": "the frames are all the same: heal it, or unplug it and plug it in again",
    "no-frames": "it gives too few pictures: heal it, or unplug it and plug it in again",
    "no-device": "it is not there: check plug and cable",
    "not-responding": "it did not answer: heal it, or unplug it and plug it in again",
    "wedged": "it is stuck inside the kernel: only a restart of the board ends that",
}


class Camera(Protocol):
    """What is tested. `busy`: somebody else had it when it was to be filmed last."""

    busy: bool

    def closed(self) -> bool:
        """Whether the booth is, and so in the dark."""

    def shows(self, reading: Reading) -> list[str]:
        """The codes of what one reading shows, believed yet or not."""


async def try_camera(camera: Camera, look: Callable[[], Awaitable[Reading]]) -> dict[str, Any]:
    """Raises TestFailed. The result: `frames`, `luma_mean`, `luma_deviation`, `distinct_frames`."""
    camera.busy = False
    try:
        reading = await look()
    except TestFailed:
        if not camera.busy:
            when = "in its opening hours, when there is light" if camera.closed() else "in a minute"
            raise TestFailed(f"it is left alone now: ask again {when}") from None
        reading = None
    if reading is None or camera.busy:
        raise TestFailed(
            "busy: another program has it, which is no fault: it is left to it; ask again once that has ended", reason="busy"
        )
    figures: dict[str, Any] = {name: reading.facts.get(name) for name in _FIGURES}
    shown = camera.shows(reading)
    if shown:
        to_do = _TO_DO.get(shown[0], "the page of this finding in the runbook says more")
        raise TestFailed(f"{shown[0]}: {to_do}", **figures)
    return figures
