"""A scanner through SANE, inside a worker: libsane and its backends may hang, crash, and keep the interpreter's lock.

Only processes started by `devices.workers` import this module. What is scanned stays in the worker's memory: its
number of bytes is all that leaves it; of a test, its size and mean brightness as well.
"""

import contextlib
import os
import re
import threading
import time
from pathlib import Path
from typing import Any, Final

import _sane
import sane

from agent.contract.words import printable
from agent.devices.sane_config import prepare, sources

# sane_strstatus(3) has texts only. Numbers 12 and 13 are SANE 1.1's, without a text in libsane 1.2.
_WORDS: Final = {
    "Operation not supported": "unsupported",
    "Operation was cancelled": "cancelled",
    "Device busy": "busy",
    "Invalid argument": "invalid",
    "End of file reached": "end-of-file",
    "Document feeder jammed": "jammed",
    "Document feeder out of documents": "no-docs",
    "Scanner cover is open": "cover-open",
    "Error during device I/O": "io-error",
    "Out of memory": "no-memory",
    "Access to resource has been denied": "access-denied",
    "Unknown SANE status code 12": "warming-up",
    "Unknown SANE status code 13": "locked",
}
# What a scanner answers that is just waking up: it is tried once more.
_ASLEEP: Final = ("invalid", "io-error", "warming-up")
_WAKES_IN_S: Final = 1.0
_TRY_AGAIN_WITHIN_S: Final = 6.0  # a second try after a slower first one would not end before the deadline
_SENSORS: Final = {
    "cover_open": ("cover-open",),  # epjitsu, fujitsu
    "document_loaded": ("page-loaded", "adf-loaded", "doc-in-adf"),  # epjitsu fujitsu genesys gt68xx p5, canon_dr, hp5590
}
_ENDS_WITHIN_S: Final = 4.0  # the head's way home
_SIDE_MM: Final = 10
_TEST_SIDE_MM: Final = 30
_LOWEST_DPI: Final = 50  # below that, some backends accept a resolution that their scanner has not


def check(request: dict[str, Any]) -> dict[str, Any]:
    """Use the scanner once.

    Request: `backend`, `device` (as the backend names it, or `auto`), `folder` (of ours, for the configuration),
    `config_dir` (or None), `scan`; `test`: somebody asked for it, and a sheet in the feeder is his. Answer: `listed`, `opened`,
    `status` (a word of SANE's), `text` (where there is no word), `vendor`, `product`, `cover_open`, `document_loaded`,
    `scanned_bytes`; None where it is not known. Of a test that scanned also `width` and `height` in pixels, and `luma_mean`, 0
    to 255, of all samples.
    """
    folder = Path(request["folder"])
    prepare(folder, request["backend"], sources(request["config_dir"], os.environ.get("SANE_CONFIG_DIR")))
    os.environ["SANE_CONFIG_DIR"] = str(folder)  # without a colon at its end, which would add the system's folder
    sane.init()
    listed = _listed()
    name = f"{request['backend']}:{request['device']}"
    if request["device"] == "auto":
        name = next(iter(listed), "")
    vendor, product = listed.get(name, (None, None))
    answer = {"listed": name in listed, "vendor": vendor, "product": product}
    if not name:
        return answer | _nothing("invalid")
    started_s = time.monotonic()
    test = request.get("test", False)
    used, ended = _use(name, scan=request["scan"], test=test)
    if ended and used["status"] in _ASLEEP and time.monotonic() - started_s < _TRY_AGAIN_WITHIN_S:
        time.sleep(_WAKES_IN_S)
        used, _ = _use(name, scan=request["scan"], test=test)
    return answer | used


def _listed() -> dict[str, tuple[str, str]]:
    """Vendor and model of what the backend finds on this machine; a backend that cannot list may still open."""
    with contextlib.suppress(_sane.error):
        return {name: (printable(vendor), printable(model)) for name, vendor, model, _ in sane.get_devices(True)}
    return {}


def _nothing(status: str) -> dict[str, Any]:
    return {"opened": False, "status": status, "text": None, **dict.fromkeys(_SENSORS), "scanned_bytes": None}


def _use(name: str, *, scan: bool, test: bool) -> tuple[dict[str, Any], bool]:
    """What came of it, and whether the scanner could be let go of again."""
    used = _nothing("ok")
    try:
        scanner = sane.open(name)
    except _sane.error as error:
        return used | _status(error), True
    used["opened"] = True
    try:
        used |= {fact: _sensor(scanner, names) for fact, names in _SENSORS.items()}
        if scan and not used["cover_open"] and (test or not _would_feed(scanner, used["document_loaded"])):
            used |= _scan(scanner, _TEST_SIDE_MM if test else _SIDE_MM, test=test)
            if not used["scanned_bytes"]:
                used["status"] = "end-of-file"
    except _sane.error as error:
        used |= _status(error)
    return used, _let_go(scanner)


def _let_go(scanner: Any) -> bool:
    """Cancel, which sends the head home, and close. What was learned must not be lost to a backend that hangs in this:
    one cuts its reading thread short, at times in the middle of malloc(3), and then waits for it for ever."""
    cancelling = threading.Thread(target=scanner.cancel, daemon=True)
    cancelling.start()
    cancelling.join(_ENDS_WITHIN_S)
    if cancelling.is_alive():
        return False
    scanner.close()
    return True


def _status(error: Exception) -> dict[str, Any]:
    text = str(error)
    word = _WORDS.get(text)
    return {"status": word or "other", "text": None if word else printable(text)}


def _sensor(scanner: Any, names: tuple[str, ...]) -> bool | None:
    for option in scanner.opt.values():
        if option.name in names and option.type == _sane.TYPE_BOOL and option.is_active():
            with contextlib.suppress(_sane.error):  # one sensor less
                return bool(scanner.dev.get_option(option.index))
    return None


def _would_feed(scanner: Any, loaded: bool | None) -> bool:
    """Whether a scan would pull somebody's document through."""
    choices = _choices(scanner, "source")
    return bool(loaded) and bool(choices) and _first(choices, "flatbed|platen") is None


def _scan(scanner: Any, side_mm: int, *, test: bool) -> dict[str, Any]:
    """Read a small square, grey and coarse, from the glass where there is one: what may be told of it."""
    for name, wanted in (("source", "flatbed|platen"), ("mode", "gr[ae]y")):
        value = _first(_choices(scanner, name), wanted)
        if value is not None:
            _ask_for(scanner, name, value)
    _ask_for(scanner, "resolution", _at_least(scanner, "resolution", _LOWEST_DPI))
    for low, high in (("tl_x", "br_x"), ("tl_y", "br_y")):
        start = _at_least(scanner, low, 0)
        if start is not None and high in scanner.opt:
            in_pixels = scanner.opt[high].unit == _sane.UNIT_PIXEL
            side = side_mm * _LOWEST_DPI / 25.4 if in_pixels else side_mm
            _ask_for(scanner, low, start)
            _ask_for(scanner, high, _at_least(scanner, high, start + side))
    scanner.start()
    # Not SaneDev.snap, which wants Pillow. True: it is not to cancel, see _let_go.
    image, *size = scanner.dev.snap(True, False)
    told = {"scanned_bytes": len(image)}
    if test and image:
        # Samples are bytes here, of whatever depth the scanner's were: snap(…, False) makes them so.
        told |= {"width": size[0], "height": size[1], "luma_mean": round(sum(image) / len(image), 1)}
    return told


def _choices(scanner: Any, name: str) -> list[Any]:
    constraint = scanner.opt[name].constraint if name in scanner.opt else None
    return constraint if isinstance(constraint, list) else []


def _first(choices: list[Any], wanted: str) -> str | None:
    return next((choice for choice in choices if isinstance(choice, str) and re.search(wanted, choice, re.IGNORECASE)), None)


def _at_least(scanner: Any, name: str, value: float) -> float | None:
    """The smallest permitted value from `value` on, or else the largest one; None where the scanner has no choice."""
    constraint = scanner.opt[name].constraint if name in scanner.opt else None
    if isinstance(constraint, tuple):
        low, high, _ = constraint
        return float(min(max(low, value), high))
    if isinstance(constraint, list) and constraint:
        return float(min((item for item in constraint if item >= value), default=max(constraint)))
    return None


def _ask_for(scanner: Any, name: str, value: float | str | None) -> None:
    """Set an option; a scanner that will not have it so scans as it likes."""
    if value is None:
        return
    if scanner.opt[name].type == _sane.TYPE_INT and not isinstance(value, str):
        value = round(value)
    with contextlib.suppress(_sane.error, AttributeError):  # AttributeError: python-sane's for an inactive option
        setattr(scanner, name, value)
