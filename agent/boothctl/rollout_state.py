"""How far a rollout is, in a file that is replaced whole after each decision: killed at any moment, it goes on from there."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from agent.boothctl.terminal import Failed
from agent.contract.decode import BadJson, decode_object, encode
from agent.contract.typed import Invalid, build, plain
from agent.documents.disk import write
from agent.rules.waves import Wave

_MAX_BYTES: Final = 64 * 1024 * 1024


@dataclass
class RolloutState:
    """`section`: what is rolled out, of `kind`. `at`: the current wave, which has been told at `told_at_s`, or is about to be.
    `settled_at_s`: since when nothing more is awaited of it. `cleaning`: the rollout's own documents are being emptied again.

    `left_alone`: booths that a document of their own or their area's keeps out, and that document. `written`: the rollout's
    documents, by the topic before `/update/desired`, and their revisions. `shadows`: documents that would hide a wave's, and are
    written with it. `before`: each booth's services when it was told, available and offered. `absent`: booths that were not at
    work then, nor since. `accepted`: booths that do not count any more.
    """

    schema: Literal[1]
    kind: str
    version: str
    section: dict[str, Any]
    waves: tuple[Wave, ...]
    left_alone: dict[str, str] = field(default_factory=dict)
    shadows: list[str] = field(default_factory=list)
    at: int = 0
    told_at_s: float | None = None
    settled_at_s: float | None = None
    halted: str | None = None
    cleaning: bool = False
    finished: bool = False
    written: dict[str, int] = field(default_factory=dict)
    before: dict[str, tuple[int, ...]] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)

    @property
    def wave(self) -> Wave:
        return self.waves[self.at]


def load(file: Path) -> RolloutState | None:
    """None where there is no such file. Raises `Failed`."""
    try:
        return build(RolloutState, decode_object(file.read_bytes(), _MAX_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from error
    except (BadJson, Invalid) as error:
        raise Failed(f"{file}: no state of a rollout: {error}", "name another with --state, or mend this one") from error


def save(file: Path, state: RolloutState) -> None:
    """Whole or not at all. Raises `Failed`."""
    try:
        write(file.absolute().parent, file.name, encode(plain(state)))
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}; the rollout cannot go on without its state") from error


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Nobody else runs a rollout with this state. Raises `Failed`."""
    lock = file.with_name(f".{file.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failed(f"{lock}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Failed(f"another boothctl runs the rollout of {file}") from error
        yield
    finally:
        os.close(descriptor)
