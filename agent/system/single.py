"""One agent on one state directory."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Self


class AlreadyRunning(Exception):
    """Another agent holds the directory; the message says which process."""


class SingleInstance:
    """Holds `agent.lock` in the state directory. The kernel frees it when this process ends, however it ends."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "agent.lock"
        self._fd = -1

    def __enter__(self) -> Self:
        """Raises AlreadyRunning, or OSError where the directory cannot be opened."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError:  # a full or read-only disk: the directory itself can be locked, only the number is not written
            descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _number_in(descriptor)
            os.close(descriptor)
            raise AlreadyRunning(
                f"another booth-agent (process {holder}) uses {self._path.parent}; "
                "stop it first, or give this one its own --state-dir"
            ) from error
        self._fd = descriptor
        with contextlib.suppress(OSError):  # for people; the lock is what counts
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _number_in(descriptor: int) -> str:
    try:
        return os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
    except OSError:
        return "unknown"
