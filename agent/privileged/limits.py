"""How often an act may be done: its last times, in a small file of root's, stored before the act."""

import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path

from agent.privileged.verdict import Ended


@dataclass(frozen=True)
class Limit:
    """At most so many `times` within any `within_s` seconds."""

    times: int
    within_s: int


def take(file: Path, limit: Limit, now_s: float, *, lasting: bool) -> None:
    """Count one more; `now_s` is the wall clock, since it has to hold across reboots. Raises Ended: too often, or not counted.

    A time in the future counts as now: a clock that was wrong once neither frees an act nor forbids it for ever. A damaged
    file is no history, but for a `lasting` one, where it counts as one time, now.
    """
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # one at a time counts, also where somebody runs the program by hand
            wait_s = _count(file, folder, limit, int(now_s), lasting)
        finally:
            os.close(folder)
    except OSError as error:
        raise Ended("refused", f"cannot keep count in {file}: {error.strerror}") from error
    if wait_s:
        raise Ended("rate-limited", f"at most {limit.times} in {limit.within_s} s; again in {wait_s} s")


def _count(file: Path, folder: int, limit: Limit, now: int, lasting: bool) -> int:
    """Seconds until the act is allowed again; 0: it is, and was counted. Raises OSError where it cannot be stored."""
    stored: list[int] | None
    try:
        stored = _read(file)
    except FileNotFoundError:
        stored = []
    except (OSError, ValueError):
        stored = None
    history = stored if stored is not None else [now] if lasting else []
    recent = [min(then, now) for then in history if then > now - limit.within_s][-limit.times :]
    if len(recent) < limit.times:
        _store(file, folder, [*recent, now])
        return 0
    if recent != stored:
        _store(file, folder, recent)
    return recent[0] + limit.within_s - now


def _read(file: Path) -> list[int]:
    text = file.read_text(encoding="ascii")
    if not re.fullmatch(r"([0-9]{1,12}\n)+", text):
        raise ValueError(f"{file} is damaged")
    return sorted(map(int, text.split()))


def _store(file: Path, folder: int, history: list[int]) -> None:
    """Old or new after a power cut, never in between."""
    fresh = file.with_name(f"{file.name}.new")
    with open(fresh, "w", encoding="ascii") as stream:
        stream.writelines(f"{then}\n" for then in history)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(file)
    os.fsync(folder)
