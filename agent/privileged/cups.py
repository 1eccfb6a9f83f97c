"""CUPS queues: what citizens left is gone before anything prints. Over the local socket, on which cupsd knows root.

No name, owner or number of a job is printed or logged: `lpstat` is only looked at for whether it said anything.
"""

from typing import Final

from agent.privileged.machine import Machine
from agent.privileged.slots import Slots
from agent.privileged.verdict import Ended

_SOCKET: Final = "run/cups/cups.sock"
_ANSWER_S: Final = 5.0
_LOOKS: Final = 25
_LOOK_EVERY_S: Final = 0.3


def purge(machine: Machine, slots: Slots, slot: str) -> None:
    """Cancel and forget every job of the queue, waiting, held, stopped or ended."""
    empty(machine, slots.queues[slot])


def enable(machine: Machine, slots: Slots, slot: str) -> None:
    """Let the queue print and take jobs again, once there is no job from before."""
    queue = slots.queues[slot]
    empty(machine, queue)
    for program in ("cupsenable", "cupsaccept"):
        machine.do(program, "-h", str(machine.path(_SOCKET)), queue, within_s=_ANSWER_S)


def restart(machine: Machine, slots: Slots, slot: str) -> None:
    """Start cupsd anew, with an empty spool (systemd/cups.service.d/booth.conf), and ipp-usb where it runs."""
    machine.do("systemctl", "--no-ask-password", "restart", "cups.service", within_s=20.0)
    machine.ask("systemctl", "--no-ask-password", "try-restart", "ipp-usb.service", within_s=20.0)  # many booths have none


def empty(machine: Machine, queue: str) -> None:
    """Purge until cupsd knows of no job, not even an ended one. Raises Ended where some are left."""
    server = str(machine.path(_SOCKET))
    for _ in range(_LOOKS):
        # A job that is being printed only stops at first: the next purge forgets it.
        machine.do("cancel", "-h", server, "-a", "-x", queue, within_s=_ANSWER_S)
        left = machine.ask("lpstat", "-h", server, "-W", "all", "-o", queue, within_s=_ANSWER_S)
        if left.status != 0:
            raise Ended("failed", "cupsd does not say whether documents are left")
        if not left.output.strip():
            return
        machine.pause(_LOOK_EVERY_S)
    raise Ended("failed", "documents are left in the queue")
