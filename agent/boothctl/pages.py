"""What `boothctl` prints for a person."""

from collections.abc import Iterable, Sequence
from typing import Any

from agent.contract.words import printable
from agent.rules.fleet import BoothPicture


def booth_list(booths: Iterable[BoothPicture]) -> str:
    """One line each: who, how, what is wrong."""
    rows = [("AREA", "BOOTH", "STATE", "LIGHT", "SERVICES", "ALARMS")]
    rows += [(booth.area, booth.booth, booth.word, _light(booth), _services(booth), _alarms(booth) or "–") for booth in booths]
    return columns(rows)


def booth_page(booth: BoothPicture) -> str:
    """Everything of one booth."""
    state = booth.state
    lines = [
        f"{booth.booth} ({booth.area})  {booth.word} since {state.get('since', '?')}",
        f"agent     {printable(state.get('agent', '?'))}, clock {state.get('clock', '?')}",
        f"light     {_light(booth)}",
        f"services  {_services(booth) or '–'}",
    ]
    for key in sorted(booth.alarms):
        lines += _alarm_lines(*key, booth.alarms[key])
    rows = [("PERIPHERAL", "STATUS", "SINCE", "FINDINGS")]
    for name in sorted(booth.health):
        health = booth.health[name]
        findings = ", ".join(finding["code"] for finding in health["findings"])
        healing = health["healing"]
        now = f" (now: {printable(healing['remedy'])}, attempt {healing['attempt']})" if healing else ""
        rows.append((name, health["status"], health["since"], (findings or "–") + now))
    return "\n".join([*lines, "", columns(rows)])


def _light(booth: BoothPicture) -> str:
    """The light's word; of a booth that is not there, it would only be the last one."""
    return booth.light if booth.light and booth.word in ("starting", "online") else "–"


def _services(booth: BoothPicture) -> str:
    return " ".join(f"{name}:{word}" for name, word in sorted(booth.services.items()))


def _alarms(booth: BoothPicture) -> str:
    return " ".join(f"{peripheral}/{code}" for peripheral, code in sorted(booth.alarms))


def _alarm_lines(peripheral: str, code: str, alarm: dict[str, Any]) -> list[str]:
    part = f"  part: {printable(alarm['part'])}" if alarm["part"] else ""
    tried = ", ".join(printable(f"{item['remedy']} {item['outcome']} {item['at']}") for item in alarm["tried"])
    return [
        f"ALARM     {peripheral}/{code}  {alarm['severity']} since {alarm['since']}  fix by {alarm['fix_by']}{part}",
        f"          {printable(alarm['text']['fr'])}",
        f"          {printable(alarm['text']['en'])}  (runbook: {printable(alarm['runbook'])})",
        *([f"          tried: {tried}"] if tried else []),
    ]


def columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
