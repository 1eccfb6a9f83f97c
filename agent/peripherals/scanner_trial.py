"""`test-scan`: a small scan, of which size and mean brightness are told. The picture stays in the worker's memory."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from agent.peripherals.declaration import TestFailed
from agent.rules.declaration import Reading

_BUSY: Final = "busy"
_BLACK_BELOW: Final = 4.0  # mean brightness, 0 to 255; a lid, even a dark one, gives more where the lamp lights
_TO_DO: Final[Mapping[str, str]] = {
    "jammed": "a sheet is jammed in it: remove it, then ask again",
    "cover-open": "its cover is open: close it, then ask again",
    "no-docs": "it scans from its feeder, and that is empty: lay a sheet in, then ask again",
    _BUSY: "another program has it, which is no fault: it is left to it; ask again once that has ended",
    "access-denied": "the agent may not use it: check its user's groups and the rules of udev",
    "io-error": "the link to it fails: check plug and cable, then heal it",
    "warming-up": "its lamp is not warm yet: ask again in a minute",
    "black": "the picture is wholly black: see that its lamp lights and its transport lock is open, then switch it off and on again",
    "end-of-file": "it gave a picture without a single byte: switch it off and on again",
    "no-device": "it is not there: check plug and cable",
    "not-responding": "it did not answer: heal it, or switch it off and on again",
    "wedged": "it is stuck inside the kernel: only a restart of the board ends that",
}


class Scanner(Protocol):
    """What is tested."""

    def trial(self) -> AbstractContextManager[dict[str, Any]]:
        """Inside, using the scanner is the test scan; then what the worker told of it is in the dictionary, or nothing."""


async def try_scan(scanner: Scanner, look: Callable[[], Awaitable[Reading]]) -> dict[str, Any]:
    """Raises TestFailed. The result: `width`, `height`, `bytes`, `luma_mean`."""
    reading: Reading | None = None
    with scanner.trial() as told:
        try:
            reading = await look()
        except TestFailed:
            if not told:
                raise TestFailed("it is left alone now: ask again in a minute") from None
    if reading is not None and reading.unreadable is not None:
        _fail(reading.unreadable.code)
    elif told["cover_open"] and told["status"] == "ok":
        _fail("cover-open")
    elif told["status"] != "ok":
        _fail(told["text"] or told["status"])
    figures = {"bytes": told["scanned_bytes"]} | {name: told[name] for name in ("width", "height", "luma_mean")}
    if told["luma_mean"] < _BLACK_BELOW:
        _fail("black", **figures)
    return figures


def _fail(word: str, **figures: Any) -> None:
    """`word`: SANE's, or its whole text, or the code of what came instead of an answer."""
    to_do = _TO_DO.get(word, "it refuses to scan; the page of its finding in the runbook says more")
    raise TestFailed(f"{word}: {to_do}", reason="busy" if word == _BUSY else None, status=word, **figures)
