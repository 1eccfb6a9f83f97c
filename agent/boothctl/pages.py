"""What `boothctl` prints for a person."""

from collections.abc import Iterable, Sequence
from typing import Any

from agent.rules.fleet import BoothPicture


def booth_list(booths: Iterable[BoothPicture]) -> str:
    """One line each: who, how, what is wrong."""
    rows = [("AREA", "BOOTH", "STATE", "LIGHT", "SERVICES", "ALARMS")]
    rows += [
        (booth.area, booth.booth, booth.word, booth.light or "–", _services(booth), _alarms(booth) or "–") for booth in booths
    ]
    return _columns(rows)


def booth_page(booth: BoothPicture) -> str:
    """Everything of one booth."""
    state = booth.state
    lines = [
        f"{booth.booth} ({booth.area})  {booth.word} since {state.get('since', '?')}",
        f"agent     {state.get('agent', '?')}, clock {state.get('clock', '?')}",
        f"light     {booth.light or '–'}",
        f"services  {_services(booth) or '–'}",
    ]
    for key in sorted(booth.alarms):
        lines += _alarm_lines(*key, booth.alarms[key])
    rows = [("PERIPHERAL", "STATUS", "SINCE", "FINDINGS")]
    for name in sorted(booth.health):
        health = booth.health[name]
        findings = ", ".join(str(finding.get("code")) for finding in health.get("findings", ()))
        rows.append((name, str(health.get("status")), str(health.get("since")), findings or "–"))
    return "\n".join([*lines, "", _columns(rows)])


def _services(booth: BoothPicture) -> str:
    return " ".join(f"{name}:{word}" for name, word in sorted(booth.services.items()))


def _alarms(booth: BoothPicture) -> str:
    return " ".join(f"{peripheral}/{code}" for peripheral, code in sorted(booth.alarms))


def _alarm_lines(peripheral: str, code: str, alarm: dict[str, Any]) -> list[str]:
    text = alarm.get("text", {})
    part = f"  part: {alarm['part']}" if alarm.get("part") else ""
    return [
        f"ALARM     {peripheral}/{code}  {alarm.get('severity')} since {alarm.get('since')}  fix by {alarm.get('fix_by')}{part}",
        f"          {text.get('fr', '')}",
        f"          {text.get('en', '')}  (runbook: {alarm.get('runbook')})",
    ]


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
