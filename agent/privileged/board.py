"""Units that run here, the disk, and the board as a whole. All of it is asked of systemd: an act needs no right of its own."""

from typing import Final

from agent.privileged import cups
from agent.privileged.machine import Machine
from agent.privileged.slots import Slots
from agent.privileged.verdict import Ended

_SCANS: Final = "var/spool/booth-scans"
_JOURNAL_MIB: Final = 50
_ANSWER_S: Final = 5.0
_RESTART_S: Final = 20.0


def restart_kiosk(machine: Machine, slots: Slots, slot: str) -> None:
    """Start the kiosk's application anew, one that failed too often as well."""
    _restart(machine, slots.units[slot])


def restart_units(machine: Machine, slots: Slots, slot: str) -> None:
    """Start those of the board's units that failed."""
    failed = [unit for unit in slots.boards[slot] if _systemctl_says(machine, "is-failed", unit)]
    if not failed:
        raise Ended("failed", "none of the units that may be restarted has failed")
    for unit in failed:
        _restart(machine, unit)


def free_disk(machine: Machine, slots: Slots, slot: str) -> None:
    """Delete what nobody will ask for: documents in the queues, scans that were left, old lines of the journal."""
    trouble: Ended | None = None
    for queue in sorted(set(slots.queues.values())):
        try:
            cups.empty(machine, queue)
        except Ended as ended:
            trouble = ended  # a print server that is down does not keep the rest
    scans = machine.path(_SCANS)
    if scans.is_dir():
        # It follows no link, and does not leave the file system: others may write there.
        machine.do("find", str(scans), "-xdev", "-mindepth", "1", "-delete", within_s=_RESTART_S)
    machine.do("journalctl", "--quiet", f"--vacuum-size={_JOURNAL_MIB}M", within_s=_RESTART_S)
    if trouble is not None:
        raise trouble


def reboot(machine: Machine, slots: Slots, slot: str) -> None:
    """Whoever asks: the board is one. It happens after the verdict."""
    machine.do("systemctl", "--no-ask-password", "--no-wall", "reboot", within_s=_ANSWER_S)


def _restart(machine: Machine, unit: str) -> None:
    if _systemctl_says(machine, "is-failed", unit):  # else its start limit would still hold
        machine.do("systemctl", "--no-ask-password", "reset-failed", unit, within_s=_ANSWER_S)
    machine.do("systemctl", "--no-ask-password", "restart", unit, within_s=_RESTART_S)


def _systemctl_says(machine: Machine, verb: str, unit: str) -> bool:
    return machine.ask("systemctl", "--quiet", verb, unit, within_s=_ANSWER_S).status == 0
