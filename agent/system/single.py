"""One agent on one state directory."""

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
        """Raises AlreadyRunning, or OSError where the directory cannot be used."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise AlreadyRunning(
                f"another booth-agent (process {holder}) uses {self._path.parent}; "
                "stop it first, or give this one its own --state-dir"
            ) from error
        self._fd = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
