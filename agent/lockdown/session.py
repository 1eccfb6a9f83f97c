"""A citizen's session: how long it may last, and what is wiped when it has ended. The kiosk's application keeps the times; that
nothing is left is looked at here.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from agent.contract.typed import Length, Range, plain
from agent.lockdown import kiosk_files
from agent.lockdown.rule import COMPLIANT, Machine, Measured, Place, Rule

LIMITS: Final = "etc/booth-session/limits.json"
LOCK: Final = "run/booth-agent/session.lock"
_WARNED_S: Final = 15  # at least so long before the wipe
_WIPE_S: Final = 20.0

Left = Literal["browser-profile", "downloads", "scans", "spool"]


@dataclass(frozen=True)
class Session:
    """Seconds without a touch until the citizen is warned and until everything is wiped, and of a whole session. `keep`: what is
    not wiped at its end."""

    idle_warn_s: Annotated[int, Range(60, 1800)] = 60
    idle_wipe_s: Annotated[int, Range(90, 3600)] = 90
    longest_s: Annotated[int, Range(600, 14400)] = 600
    keep: Annotated[tuple[Left, ...], Length(8)] = ()

    @property
    def warned_s(self) -> int:
        """Nobody's documents are wiped without a word before."""
        return min(self.idle_warn_s, self.idle_wipe_s - _WARNED_S)


def looser(before: Session, after: Session) -> bool:
    longer = (
        after.warned_s > before.warned_s,
        after.idle_wipe_s > before.idle_wipe_s,
        after.longest_s > before.longest_s,
    )
    return any(longer) or not set(after.keep) <= set(before.keep)


def apply(machine: Machine, place: Place, part: Session) -> None:
    kiosk_files.put(machine, LIMITS, _limits(part))
    if place.in_session or not _left(machine, place, part):
        return
    with hold(machine) as held:
        for name in _left(machine, place, part) if held else ():
            for folder in place.wiped[name]:
                empty(machine, folder)


def measure(machine: Machine, place: Place, part: Session) -> Measured:
    if (problem := kiosk_files.problem(machine, LIMITS, _limits(part))) is not None:
        return Measured("violated", problem)
    if not place.in_session and (left := _left(machine, place, part)):
        return Measured("violated", f"left of a session: {', '.join(left)}")
    return COMPLIANT


def undo(machine: Machine, _place: Place) -> None:
    kiosk_files.remove(machine, LIMITS)


def _limits(part: Session) -> dict[str, Any]:
    return {**plain(part), "idle_warn_s": part.warned_s, "keep": sorted(set(part.keep))}


def _left(machine: Machine, place: Place, part: Session) -> list[str]:
    """Names in root's table, and nothing of what is found."""
    wiped = {name: folders for name, folders in sorted(place.wiped.items()) if name not in part.keep}
    return [name for name, folders in wiped.items() if any(is_left(machine, folder) for folder in folders)]


# --- folders that others may write to ---


def empty(machine: Machine, folder: str) -> None:
    """Delete what is in it, as far as it can be. No link is followed on the way, nor below; no other file system is entered.

    What is left is to be looked for afterwards; what `find` complains of is not repeated, since that names files."""
    with _opened(machine, folder) as descriptor:
        if descriptor is not None:
            place = f"/proc/{os.getpid()}/fd/{descriptor}/"  # that folder, whatever is put in its place meanwhile
            machine.ask("find", place, "-xdev", "-mindepth", "1", "-delete", within_s=_WIPE_S)


def is_left(machine: Machine, folder: str) -> bool:
    """Whether anything is in it, or it cannot be told because a link stands in the way."""
    try:
        with _opened(machine, folder) as descriptor:
            if descriptor is None:
                return False
            with os.scandir(descriptor) as entries:
                return any(True for _ in entries)
    except OSError:
        return True


@contextmanager
def _opened(machine: Machine, folder: str) -> Iterator[int | None]:
    """Step by step, so that who owns one of the folders on the way cannot lead root elsewhere; None where there is none."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(machine.path(""), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in Path(folder).parts[1:]:
            try:
                below = os.open(part, flags, dir_fd=descriptor)
            except FileNotFoundError:
                yield None
                return
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def hold(machine: Machine) -> Iterator[bool]:
    """The session lock (contract §12), for the context; False where somebody has it. One that is not there nobody has: the folder
    is the agent's, and taking the file away must not keep a citizen's traces. Raises OSError for what is no lock."""
    try:
        descriptor = os.open(machine.path(LOCK), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        yield True
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


RULE: Final = Rule(
    "session",
    schema=Session,
    looser=looser,
    apply=apply,
    measure=measure,
    undo=undo,
    watched=(LIMITS,),
)
