"""`booth-pages`: count what was printed, and let the queues take no more jobs once a session or a day has had its pages.

systemd starts it when CUPS has logged a document (systemd/booth-pages.path), at boot, at midnight and when the limits change.
CUPS logs a document at its end, printed or cancelled: the one that reaches the limit comes out whole, and the next is refused.
"""

import argparse
import fcntl
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

from agent.lockdown import kiosk_files
from agent.lockdown.printing import COUNTS, LIMITS, PAGE_LOG, SOCKET, accepts, reached
from agent.lockdown.rule import Ended
from agent.privileged import cups, slots
from agent.privileged.machine import Machine

REASON: Final = "Le nombre de pages permis est atteint."  # the citizen's print dialogue shows it
_TOTAL: Final = re.compile(rb"total ([0-9]{1,9})")  # a line of the format that the rule `printing` writes
_CHUNK: Final = 1 << 20  # bytes of the log
_ANSWER_S: Final = 5.0


@dataclass(frozen=True)
class Counts:
    """What is remembered: pages, how far the log was read, and which queues were made to refuse jobs. Nothing of a job."""

    of_session: int = 0
    of_day: int = 0
    day: str = ""
    boot: str = ""
    inode: int = 0
    offset: int = 0
    refusing: tuple[str, ...] = ()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="booth-pages", description="Count printed pages, and keep their limits.")
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="where everything lies (/)")
    options = parser.parse_args(arguments)
    machine = Machine(options.root)
    try:
        settle(machine, slots.load(machine.path("etc/booth-agent/slots.toml")).queues.values())
    except (Ended, OSError) as error:
        sys.stderr.write(f"<4>booth-pages: {error}\n")  # sd-daemon(3): warning
        return 1
    return 0


def settle(machine: Machine, queues: Iterable[str], *, session_over: bool = False) -> None:
    """Count anew, and make every queue take jobs or refuse them. Raises Ended, OSError."""
    with _alone(machine):
        counts = _counted(machine, _read(machine))
        if session_over:
            counts = replace(counts, of_session=0)
        _store(machine, counts)
        full = reached(kiosk_files.read(machine, LIMITS), asdict(counts))
        for queue in sorted(set(queues)):
            if full and (queue not in counts.refusing or accepts(machine, queue)):
                _set(machine, "cupsreject", "-r", REASON, queue)
                counts = replace(counts, refusing=tuple(sorted({*counts.refusing, queue})))
                _store(machine, counts)
                cups.empty(machine, queue)
                _set(machine, "cupsreject", "-r", REASON, queue)  # the job that was cancelled had the last word
            elif not full and queue in counts.refusing:
                cups.empty(machine, queue)
                _set(machine, "cupsaccept", queue)
                counts = replace(counts, refusing=tuple(other for other in counts.refusing if other != queue))
                _store(machine, counts)


def enable(machine: Machine, table: slots.Slots, slot: str) -> None:
    """The act `enable-queue`: it is no way to more pages."""
    queue = table.queues[slot]
    if queue in _read(machine).refusing:
        cups.empty(machine, queue)
        _set(machine, "cupsenable", queue)
    else:
        cups.enable(machine, table, slot)


def _counted(machine: Machine, counts: Counts) -> Counts:
    """With what was logged since, in the day and the boot that it is. A clock that goes back makes no new day."""
    today = date.today().isoformat()  # noqa: DTZ011 - the day of whoever stands there
    if today > counts.day:
        counts = replace(counts, day=today, of_day=0)
    boot = machine.text(machine.path("proc/sys/kernel/random/boot_id")) or counts.boot
    if boot != counts.boot:
        counts = replace(counts, boot=boot, of_session=0)  # whoever was there when the power failed has gone
    try:
        with open(machine.path(PAGE_LOG), "rb") as log:
            status = os.fstat(log.fileno())
            offset = counts.offset if status.st_ino == counts.inode and status.st_size >= counts.offset else 0
            log.seek(offset)
            lines, _, _ = log.read(_CHUNK).rpartition(b"\n")
    except FileNotFoundError:
        return counts
    pages = sum(int(total[1]) for line in lines.split(b"\n") if (total := _TOTAL.fullmatch(line.strip())))
    return replace(
        counts,
        of_session=counts.of_session + pages,
        of_day=counts.of_day + pages,
        inode=status.st_ino,
        offset=offset + len(lines) + 1 if lines else offset,
    )


def _set(machine: Machine, program: str, *arguments: str) -> None:
    machine.do(program, "-h", str(machine.path(SOCKET)), *arguments, within_s=_ANSWER_S)


def _read(machine: Machine) -> Counts:
    """What is damaged is no history."""
    stored = kiosk_files.read(machine, COUNTS)
    try:
        return replace(Counts(**stored), refusing=tuple(map(str, stored.get("refusing", ()))))
    except TypeError:
        return Counts()


def _store(machine: Machine, counts: Counts) -> None:
    if counts != _read(machine):
        machine.put(machine.path(COUNTS), json.dumps(asdict(counts)), 0o600)


@contextmanager
def _alone(machine: Machine) -> Iterator[None]:
    """One at a time counts: the end of a session comes when it wants."""
    file = machine.path(f"{COUNTS}.lock")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
