"""Reports of documents as `boothctl` prints them for a person."""

import json
from collections.abc import Sequence
from typing import Any, Final

from agent.boothctl.pages import columns
from agent.boothctl.reports import Difference, Part, Report, join, leaves
from agent.contract.words import printable
from agent.rules.layers import LAYERS

_VALUE: Final = 100


def report_page(report: Report) -> str:
    reported = report.reported
    lines = [f"{report.address.booth} ({report.address.area})  {report.kind} {reported['status']} at {reported['at']}"]
    lines += [f"{layer:<8}  {_revisions(reported['layers'].get(layer))}" for layer in LAYERS]
    for error in reported["errors"]:
        where = f" {error['path']}" if error["path"] else ""
        lines.append(printable(f"ERROR     {error['layer']}: {error['code']}{where}: {error['message']}", 400))
    if report.kind == "update":
        return "\n".join([*lines, "", columns(_updates(report))])
    parts = report.parts()
    if parts:
        lines += ["", columns(_rules(report, parts) if report.kind == "policy" else _sections(parts))]
    return "\n".join(lines)


def _revisions(revisions: dict[str, Any] | None) -> str:
    if revisions is None:
        return "–"
    seen, applied = revisions["seen_rev"], revisions["applied_rev"]
    if seen == applied:
        return f"revision {applied}"
    return f"revision {applied} in force, {seen} seen" if applied is not None else f"revision {seen} seen, none in force"


def _sections(parts: dict[str, Part]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("SECTION", "STATUS", "LAYER", "VALUE")]
    return rows + [_row(path, part, _whole(part)) for path, part in parts.items()]


def _rules(report: Report, parts: dict[str, Part]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("RULE", "STATUS", "LAYER", "MEASURED", "AT", "DETAIL", "VALUE")]
    measured: dict[str, dict[str, Any]] = report.reported.get("rules", {})
    for name in parts | measured:
        part = parts.get(name, Part("–", "–", None, None))
        rule = measured.get(name, {})
        seen = [printable(str(rule.get(key) or "–")) for key in ("measured", "at", "detail")]
        rows.append(_row(name, part, *seen, _whole(part)))
    return rows


def _updates(report: Report) -> list[Sequence[str]]:
    """What is under way, or was last; what only the whole report has stands with the one that it is about."""
    whole = report.reported
    rows: list[Sequence[str]] = [("SECTION", "STATUS", "LAYER", "PHASE", "IN USE", "FROM", "TO", "ATTEMPT", "PCT", "REASON")]
    parts = report.parts()
    for name in whole["sections"] | parts:
        section = whole["sections"].get(name, {})
        layer = parts[name].layer if name in parts else "–"
        more = whole if section.get("to") == whole.get("to") and section.get("phase") == whole.get("phase") else {}
        words = [section.get("status"), layer, *(section.get(key) for key in ("phase", "version", "from", "to"))]
        words += [more.get("attempt"), more.get("pct"), section.get("reason")]
        rows.append((printable(name), *("–" if word is None else printable(str(word)) for word in words)))
    return rows


def _row(path: str, part: Part, *more: str) -> Sequence[str]:
    return (printable(path), printable(part.status), printable(part.layer), *more)


def origin_page(report: Report, parts: dict[str, Part]) -> str:
    rows: list[Sequence[str]] = [("VALUE", "IS", "FROM")]
    for path, part in parts.items():
        for key, value in leaves(part.value).items():
            rows.append((printable(join(path, key)), _short(value), printable(part.origin(key, report.below))))
    return columns(rows)


def difference_page(found: Sequence[Difference], below: str) -> str:
    if not found:
        return "no difference"
    rows = []
    for one in found:
        mark = "~" if one.has_now and one.has_then else "+" if one.has_then else "-"
        now = _short(one.now) if one.has_now else "–"
        then = _short(one.then) if one.has_then else f"({one.falls_to or below})"
        rows.append((mark, printable(one.path), now, "→", then))
    return columns(rows)


def _whole(part: Part) -> str:
    return "–" if part.value is None else _short(part.value)


def _short(value: Any) -> str:
    return printable(json.dumps(value, ensure_ascii=False), _VALUE)
