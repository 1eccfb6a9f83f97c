"""Printing: how many pages a session and a day may print, how long a job may be held, and that CUPS remembers no job.

CUPS keeps the times and forgets; the pages are counted by `agent.privileged.pages`, by the limits that are written here.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final

from agent.contract.typed import Range
from agent.lockdown import kiosk_files
from agent.lockdown.rule import COMPLIANT, Ended, Later, Machine, Measured, Place, Rule

LIMITS: Final = "etc/booth-session/printing.json"
COUNTS: Final = "var/lib/booth-acts/pages.json"
PAGE_LOG: Final = "var/log/cups/page_log"
SOCKET: Final = "run/cups/cups.sock"
_CUPSD: Final = "etc/cups/cupsd.conf"
_FILES: Final = "etc/cups/cups-files.conf"
_EMPTIED: Final = "etc/systemd/system/cups.service.d/booth.conf"
_BEGIN: Final = "# --- Kept by the booth agent, by the operator's policy ---"
_END: Final = "# --- The booth agent's end ---"
_BLOCK: Final = re.compile(f"\n*{re.escape(_BEGIN)}\n.*?(?:{re.escape(_END)}|\\Z)\n*", re.DOTALL)
_ANSWER_S: Final = 5.0
_START_S: Final = 30.0


@dataclass(frozen=True)
class Printing:
    """Pages as CUPS counts them; 0: nothing is printed. `history`: whether CUPS remembers ended jobs, with owners and titles."""

    pages_per_session: Annotated[int, Range(0, 1000)] = 0
    pages_per_day: Annotated[int, Range(0, 1000)] = 0
    held_job_s: Annotated[int, Range(30, 3600)] = 30
    history: bool = False


def looser(before: Printing, after: Printing) -> bool:
    return (
        after.pages_per_session > before.pages_per_session
        or after.pages_per_day > before.pages_per_day
        or after.held_job_s > before.held_job_s
        or after.history > before.history
    )


def apply(machine: Machine, place: Place, part: Printing) -> None:
    limits = _limits(part)
    unsettled = kiosk_files.problem(machine, LIMITS, limits) is not None
    kiosk_files.put(machine, LIMITS, limits)
    if not machine.has("cupsd"):
        return
    if (unsettled and _prints(machine)) or _takes_too_much(machine, place, part):
        _count(machine)
    _configure(machine, place, _directives(machine, part))


def measure(machine: Machine, place: Place, part: Printing) -> Measured:
    if not machine.has("cupsd"):
        return Measured("not-applicable", "cups is not installed")
    if (problem := kiosk_files.problem(machine, LIMITS, _limits(part))) is not None:
        return Measured("violated", problem)
    for name, lines in _directives(machine, part).items():
        text = machine.text(machine.path(name))
        if text is None or text != _with_block(text, lines).strip():
            return Measured("violated", f"/{name} is not the policy's")
    for queue in _takes_too_much(machine, place, part):
        return Measured("violated", f"the queue {queue} takes more pages than are allowed")
    return COMPLIANT


def undo(machine: Machine, place: Place) -> None:
    if machine.has("cupsd"):
        _configure(machine, place, {_CUPSD: (), _FILES: ()})
    if machine.path(LIMITS).exists():
        kiosk_files.remove(machine, LIMITS)
        if machine.has("cupsd"):
            _count(machine)


# --- pages ---


def reached(limits: Mapping[str, Any], counts: Mapping[str, Any]) -> bool:
    """Whether nothing more may be printed. A limit that is not written limits nothing; a count that is not is none."""
    pairs = (("pages_per_session", "of_session"), ("pages_per_day", "of_day"))
    return any(limit in limits and counts.get(count, 0) >= limits[limit] for limit, count in pairs)


def accepts(machine: Machine, queue: str) -> bool | None:
    """Whether the queue takes jobs; None where cupsd does not say."""
    said = machine.ask("lpstat", "-h", str(machine.path(SOCKET)), "-a", queue, within_s=_ANSWER_S)
    return said.output.startswith(f"{queue} accepting") if said.status == 0 else None


def _takes_too_much(machine: Machine, place: Place, part: Printing) -> list[str]:
    if not machine.has("lpstat") or not reached(_limits(part), kiosk_files.read(machine, COUNTS)) or not _prints(machine):
        return []
    return [queue for queue in sorted(set(place.queues.values())) if accepts(machine, queue)]


def _limits(part: Printing) -> dict[str, Any]:
    return {"pages_per_session": part.pages_per_session, "pages_per_day": part.pages_per_day}


def _prints(machine: Machine) -> bool:
    """Whether cupsd runs. At boot it waits for the firewall, and so for whoever asks: it is not waited for in return, and the
    pages are counted once it may print (systemd/booth-pages.timer)."""
    said = machine.ask("systemctl", "is-active", "cups.service", within_s=_ANSWER_S)
    return said.status == 0 or said.output.strip() in ("activating", "reloading")


def _count(machine: Machine) -> None:
    """Refuse or take jobs by these limits, now (systemd/booth-pages.service)."""
    machine.do("systemctl", "--no-ask-password", "start", "booth-pages.service", within_s=_START_S)


# --- what cupsd is told ---


def _directives(machine: Machine, part: Printing) -> dict[str, tuple[str, ...]]:
    """cupsd.conf(5), cups-files.conf(5). What comes last counts. Of a job its pages are logged, and no owner, title or number."""
    return {
        _CUPSD: (
            f"PreserveJobHistory {'Yes' if part.history else 'No'}",
            "PreserveJobFiles No",
            f"MaxHoldTime {part.held_job_s}",
            "PageLogFormat %P %C",
        ),
        _FILES: (f"PageLog {machine.path(PAGE_LOG)}",),
    }


def _with_block(text: str, lines: tuple[str, ...]) -> str:
    """With our lines at the end, and nowhere else."""
    rest = _BLOCK.sub("\n", text).strip("\n")
    return "\n".join((rest, "", _BEGIN, *lines, _END, "")) if lines else f"{rest}\n"


def _configure(machine: Machine, place: Place, directives: Mapping[str, tuple[str, ...]]) -> None:
    """Change what is not so yet. cupsd begins anew with an empty spool: not in a session, and not where it would print it."""
    before = {name: machine.text(machine.path(name)) for name in directives}
    if missing := [name for name, text in before.items() if text is None]:
        raise Ended(f"/{missing[0]} is missing")
    after = {name: _with_block(text or "", directives[name]) for name, text in before.items()}
    changed = [name for name, text in after.items() if text.strip() != before[name]]
    if not changed:
        return
    if place.in_session:
        raise Later("cups is started anew when the session is over")
    if not machine.path(_EMPTIED).exists():
        raise Ended(f"/{_EMPTIED} is missing: cups would print what was left")
    for name in changed:
        _put(machine, name, after[name])
    if not _prints(machine):  # it reads them when it starts
        return
    try:
        machine.do("systemctl", "--no-ask-password", "try-restart", "cups.service", within_s=_START_S)
    except Ended:
        with suppress(OSError):  # or it would count as done
            for name in changed:
                _put(machine, name, f"{before[name]}\n")
        raise


def _put(machine: Machine, name: str, text: str) -> None:
    file = machine.path(name)
    machine.put(file, text, file.stat().st_mode & 0o777)


RULE: Final = Rule(
    "printing",
    schema=Printing,
    looser=looser,
    apply=apply,
    measure=measure,
    undo=undo,
    watched=(LIMITS, _CUPSD, _FILES),
)
