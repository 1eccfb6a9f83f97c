"""A bundle within its size: the oldest lines of the journal go first, then whole sections; what went is counted in it."""

import gzip
from collections.abc import Mapping
from typing import Any, Final

from agent.contract.decode import encode

_TRIES: Final = 12
_MARGIN: Final = 0.97
# What goes where the journal's lines were not enough, in this order.
_SECTIONS: Final = ("counts", "packages", "units", "commands", "settings", "healing", "facts")


class TooSmall(ValueError):
    """Not even the least bundle fits."""


def packed(bundle: Mapping[str, Any], max_bytes: int) -> bytes:
    """The bundle as gzip of JSON, at most so long. Raises TooSmall."""
    entries = bundle["journal"]["entries"]
    whole = _gzip(_with(bundle, entries, ()))
    if len(whole) <= max_bytes:
        return whole
    least = _gzip(_with(bundle, [], ()))
    if len(least) <= max_bytes:
        return _with_what_fits(bundle, entries, least, len(whole), max_bytes)
    for count in range(1, len(_SECTIONS) + 1):
        least = _gzip(_with(bundle, [], _SECTIONS[:count]))
        if len(least) <= max_bytes:
            return least
    raise TooSmall(f"the least that is worth sending is {len(least)} bytes: ask with a larger max_bytes")


def _with_what_fits(bundle: Mapping[str, Any], entries: list[Any], least: bytes, whole: int, max_bytes: int) -> bytes:
    """Every try costs as much as the whole: lines are alike, so that their share of the size is a good guess."""
    kept = int(len(entries) * (max_bytes - len(least)) / (whole - len(least)) * _MARGIN)
    for _ in range(_TRIES):
        if kept <= 0:
            break
        found = _gzip(_with(bundle, entries[len(entries) - kept :], ()))
        if len(found) <= max_bytes:
            return found
        kept = int(kept * max_bytes / len(found) * _MARGIN)
    return least


def _with(bundle: Mapping[str, Any], entries: list[Any], without: tuple[str, ...]) -> dict[str, Any]:
    out = dict(bundle)
    journal = dict(out["journal"]) | {"entries": entries}
    if "counts" in without:
        journal["counts"] = {}
    if "packages" in without:
        out["versions"] = {key: value for key, value in out["versions"].items() if key != "packages"}
    if "facts" in without:
        out["peripherals"] = {name: dict(item) | {"facts": {}} for name, item in out["peripherals"].items()}
    for section in without:
        out.pop(section, None)
    left_out = {"journal_entries": len(bundle["journal"]["entries"]) - len(entries), "sections": list(without)}
    return out | {"journal": journal, "left_out": left_out}


def _gzip(value: Mapping[str, Any]) -> bytes:
    return gzip.compress(encode(value), 6, mtime=0)
