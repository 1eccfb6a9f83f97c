"""What a lockdown rule declares, and what it may use of the machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol


class Said(Protocol):
    """What a program ended with. `complaint` is the first line of its standard error."""

    @property
    def status(self) -> int: ...
    @property
    def output(self) -> str: ...
    @property
    def complaint(self) -> str: ...


class Machine(Protocol):
    """The booth as root sees it, all of it below one folder, so that a test has its own (`agent.privileged.machine`)."""

    def path(self, name: str) -> Path:
        """The real path of `etc/…`, `sys/…` and so on."""

    def text(self, file: Path) -> str | None:
        """A small file's text without its last newline; None where it cannot be read."""

    def put(self, file: Path, text: str, mode: int = 0o644) -> None:
        """Make or replace a file of root's, whole or not at all, with its folders. Raises OSError."""

    def remove(self, file: Path) -> None:
        """Take a file or link away, if it is there. Raises OSError."""

    def has(self, program: str) -> bool: ...

    def ask(self, program: str, *arguments: str, within_s: float) -> Said:
        """Run a program to its end, whatever that is. Raises `Ended` where it is missing or takes too long."""

    def do(self, program: str, *arguments: str, within_s: float) -> None:
        """The same for one that must succeed. Raises `Ended` otherwise."""


class Ended(Exception):
    """Something that root does ends here, and was not done; `detail` says why, in a few words."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Later(Ended):
    """It cannot be done while a citizen is there. Nothing is wrong: it is done when the session is over."""


@dataclass(frozen=True)
class Place:
    """What root knows of this booth from its own files, and no document may say: where the broker is, what the kiosk runs, what a
    session leaves behind. `now` is local, in the booth's zone; None while the clock is certainly wrong."""

    broker_host: str = ""
    broker_port: int = 8883
    now: datetime | None = None
    now_utc: datetime | None = None  # the same moment, aware
    usb: Mapping[str, str] = field(default_factory=dict)  # peripheral -> physical port, such as usb-1.2
    queues: Mapping[str, str] = field(default_factory=dict)  # peripheral -> CUPS queue
    units: Mapping[str, str] = field(default_factory=dict)  # peripheral -> unit of the kiosk
    wiped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # what a session leaves -> folders, from the root down
    in_session: bool = False  # a citizen uses the booth


@dataclass(frozen=True)
class Measured:
    """What was seen on the machine, not what was meant to be. `detail` says what is wrong, or why it does not apply."""

    state: Literal["compliant", "violated", "not-applicable"]
    detail: str | None = None


COMPLIANT = Measured("compliant")


@dataclass(frozen=True)
class Rule:
    """A section of the policy.

    `schema`: a frozen dataclass for `contract.typed`; each default is the most locked value, so that what a document leaves out
    is locked. `looser(before, after)`: a pure partial order: whether `after` allows anything that `before` did not; True where
    the two cannot be compared; False for equal ones. `apply` brings the machine there from any state, again and again, and does
    not touch what is right already. `measure` looks at the machine itself. `undo` leaves it as if the rule had never been
    applied. `watched`: files (from the root down, without the first slash) whose change may be drift. `next_change`: the next
    local time at which applying it anew does something else, where there is one. `beyond(bound, part)`: whether a part is
    more than the image's floor ever allows; `looser`, where that is not another question.
    """

    name: str
    schema: type[Any]
    looser: Callable[[Any, Any], bool]
    apply: Callable[[Machine, Place, Any], None]
    measure: Callable[[Machine, Place, Any], Measured]
    undo: Callable[[Machine, Place], None]
    watched: tuple[str, ...] = ()
    next_change: Callable[[Place, Any], datetime | None] = lambda _place, _part: None
    beyond: Callable[[Any, Any], bool] | None = None
