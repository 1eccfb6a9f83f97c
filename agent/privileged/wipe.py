"""The end of a session: what it left is deleted, and that nothing is left is looked at. Meanwhile no other session begins."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from agent.lockdown import kiosk_files, session
from agent.privileged import cups, pages
from agent.privileged.machine import Machine
from agent.privileged.slots import Slots
from agent.privileged.verdict import Ended

_FILTERS: Final = "/var/spool/cups/tmp"
_JOBS: Final = "var/cache/cups/job.cache"
_ANSWER_S: Final = 5.0
_STOP_S: Final = 10.0


def run(machine: Machine, slots: Slots, slot: str) -> None:
    """Wipe everything in root's table but what the policy keeps; without one that can be read, everything."""
    with session.hold(machine) as held:
        if not held:
            raise Ended("refused", "somebody uses the booth")
        kept = kiosk_files.read(machine, session.LIMITS).get("keep")
        kept = kept if isinstance(kept, list) else []
        wiped = {name: folders for name, folders in sorted(slots.wiped.items()) if name not in kept}
        trouble: Ended | None = None
        with _stopped(machine, slots.units.values()):  # a browser that runs would write its profile anew
            for folders in wiped.values():
                for folder in folders:
                    with suppress(OSError, Ended):  # what this one leaves is found below
                        session.empty(machine, folder)
            try:
                if "spool" not in kept:
                    _empty_spool(machine, slots)
                pages.settle(machine, slots.queues.values(), session_over=True)
            except Ended as ended:
                trouble = ended  # a print server that is down does not keep the rest
            left = [name for name, folders in wiped.items() if any(session.is_left(machine, folder) for folder in folders)]
        if left:
            raise Ended("failed", f"something is left: {', '.join(left)}")
        if trouble is not None:
            raise trouble


def _empty_spool(machine: Machine, slots: Slots) -> None:
    """With what cupsd and its filters leave beside the documents."""
    for queue in sorted(set(slots.queues.values())):
        cups.empty(machine, queue)
    if slots.queues:
        session.empty(machine, _FILTERS)
        for suffix in ("", ".N", ".O"):  # titles and owners; written anew, it would be kept as .O
            machine.remove(machine.path(f"{_JOBS}{suffix}"))


@contextmanager
def _stopped(machine: Machine, units: Iterable[str]) -> Iterator[None]:
    """The kiosk's units, as far as they run; they are started again whatever comes."""
    running = [unit for unit in sorted(set(units)) if _systemctl(machine, "--quiet", "is-active", unit)]
    try:
        for unit in running:
            try:
                machine.do("systemctl", "--no-ask-password", "stop", unit, within_s=_STOP_S)
            except Ended:  # nothing that it would still write is wanted
                machine.do("systemctl", "--no-ask-password", "kill", "--signal=SIGKILL", unit, within_s=_ANSWER_S)
                machine.do("systemctl", "--no-ask-password", "stop", unit, within_s=_STOP_S)
        yield
    finally:
        for unit in running:  # not waited for: it may wait for the session lock, which is held here
            machine.do("systemctl", "--no-ask-password", "--no-block", "start", unit, within_s=_ANSWER_S)


def _systemctl(machine: Machine, *arguments: str) -> bool:
    return machine.ask("systemctl", *arguments, within_s=_ANSWER_S).status == 0
