"""`/etc/booth-agent/slots.toml`: on what each peripheral's acts may be done. Only root writes it, and all of it is checked."""

import os
import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from agent.contract.typed import Check, Invalid, Length, Pattern, build
from agent.contract.words import Name
from agent.privileged.verdict import Ended

_SIZE_LIMIT: Final = 65536  # bytes

# None of them can begin with a dash, hold a slash or a space: no value is an option, a path or a second argument.
Port = Annotated[
    str,
    Pattern(r"usb-[1-9][0-9]?(\.[1-9][0-9]?){0,5}", 'a physical port, such as "usb-1.2": `booth-agent probe` shows it as "slot"'),
]
Queue = Annotated[str, Pattern("[A-Za-z0-9_][A-Za-z0-9_.-]{0,126}", "a CUPS queue, as `lpstat -e` lists it")]
Interface = Annotated[str, Pattern("[A-Za-z0-9][A-Za-z0-9_.-]{0,14}", "a network interface, such as wlan0")]
Unit = Annotated[str, Pattern(r"[A-Za-z0-9][A-Za-z0-9:_.@-]{0,200}\.service", "a unit, such as booth-kiosk.service")]

# Where a session may leave something, and how deep a folder has to lie to be nobody else's as well. Everywhere else is the
# system's, or (/tmp) another folder for each unit.
_LEVELS: Final = {"home": 2, "srv": 2, "var": 3, "run": 3}


def _folder_problem(path: str) -> str | None:
    first, *rest = path.removeprefix("/").split("/")
    if not path.startswith("/") or not path.isprintable() or any(part in ("", ".", "..") for part in (first, *rest)):
        return "write a folder from the root down, without '..' and without a slash at its end"
    if first not in _LEVELS or (first, rest[:1]) == ("var", ["tmp"]):
        return f"/{first} is the system's: write a folder below {', '.join(f'/{name}' for name in sorted(_LEVELS))}"
    if 1 + len(rest) < _LEVELS[first]:
        return f"write a folder that lies deeper: all of {path} would be wiped"
    return None


Folder = Annotated[str, Length(255), Check(_folder_problem, "a folder that is wiped when a session ends")]


@dataclass(frozen=True)
class Slots:
    """The list. Each key is a peripheral's name; of `wiped`, that of what a session leaves."""

    usb: dict[Name, Port] = field(default_factory=dict)
    queues: dict[Name, Queue] = field(default_factory=dict)
    interfaces: dict[Name, Interface] = field(default_factory=dict)
    units: dict[Name, Unit] = field(default_factory=dict)
    boards: dict[Name, Annotated[tuple[Unit, ...], Length(16)]] = field(default_factory=dict)
    wiped: dict[Name, Annotated[tuple[Folder, ...], Length(16)]] = field(default_factory=dict)

    @property
    def session(self) -> tuple[str, ...]:
        """A table that nobody writes: the booth has one session, whatever that leaves."""
        return ("session",)


def load(file: Path) -> Slots:
    """Read the list. Raises Ended where it is missing or wrong, or where anybody but root could have written it."""
    try:
        return build(Slots, _toml(file))
    except Invalid as error:
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        raise Ended("refused", f"{file.name}: {error.problems[0]}{more}") from error
    except OSError as error:
        raise Ended("refused", f"{file}: {error.strerror}") from error


def _toml(file: Path) -> dict[str, Any]:
    # Who may write the folder could put another of root's files in the list's place.
    _root_only(file.parent.stat(), file.parent)
    with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Ended("refused", f"{file} is no regular file")
        _root_only(status, file)
        text = stream.read(_SIZE_LIMIT + 1)
    if len(text) > _SIZE_LIMIT:
        raise Ended("refused", f"{file} is larger than {_SIZE_LIMIT} bytes")
    try:
        return tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise Ended("refused", f"{file} is not TOML: {error}") from error


def _root_only(status: os.stat_result, what: Path) -> None:
    if status.st_uid not in (0, os.geteuid()):  # on a booth both are root
        raise Ended("refused", f"{what} does not belong to root: chown root {what}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Ended("refused", f"{what} can be written by others than root: chmod go-w {what}")
