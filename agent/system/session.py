"""The session lock: an exclusive flock(2) on `session.lock`, held by whoever must not be disturbed. Contract §12.

The kiosk application holds it while a citizen uses the booth; the agent holds the same lock while it does
what a citizen would notice. The kernel frees it when its owner dies.
"""

import contextlib
import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

LOCK_NAME: Final = "session.lock"
_SHARED_S: Final = 15.0  # how long further checks may join a hold; with the longest check, well under the citizen's minute


def open_lock(runtime_dir: Path, *, create: bool = True) -> int:
    """A descriptor of the lock file; close-on-exec, or a child would keep the lock. Raises OSError.

    Only the agent may `create` it: an application that makes its own would lock what nobody looks at.
    """
    path = runtime_dir / LOCK_NAME
    # Read-only is enough for flock(2), and all that the application's group needs; a file of somebody else's in
    # a directory that others may write to is never created over (fs.protected_regular).
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO in its place must not hold us up
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags)
    if not create:
        raise FileNotFoundError(errno.ENOENT, "there is no session lock", str(path))
    return os.open(path, flags | os.O_CREAT, 0o660)


def try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class SessionLock:
    """The agent's side of it. Several checks of one agent share one hold."""

    def __init__(self, runtime_dir: Path) -> None:
        self._runtime_dir = runtime_dir
        self._descriptor: int | None = None
        self._holds = 0
        self._taken_at_s = 0.0
        self._inside: ContextVar[bool] = ContextVar("inside", default=False)  # whether this very task holds it already
        self.openable = True  # at the last attempt

    @property
    def ours(self) -> bool:
        return self._holds > 0

    def held(self) -> bool:
        """Whether a citizen uses the booth now."""
        with self.taken() as ours:
            return not ours

    @contextlib.contextmanager
    def taken(self) -> Iterator[bool]:
        """Hold it for the context; False if a citizen has it. A lock that cannot be opened counts as a citizen's:
        not knowing is no leave to film."""
        # Others may join a hold, but not for ever: a citizen who waits meanwhile has her turn.
        joins = self._inside.get() or time.monotonic() - self._taken_at_s < _SHARED_S
        if not (joins if self._holds > 0 else self._take()):
            yield False
            return
        self._holds += 1
        token = self._inside.set(True)
        try:
            yield True
        finally:
            self._inside.reset(token)
            self._holds -= 1
            if self._holds == 0:
                self._free()

    def _take(self) -> bool:
        try:
            # Opened anew each time: whoever replaces the file must not leave us with a lock that nobody sees.
            descriptor = open_lock(self._runtime_dir)
        except OSError as error:
            if self.openable:
                self.openable = False
                log.warning("the session lock cannot be opened (%s): the devices are left alone, and nothing is mended", error)
            return False
        self.openable = True
        if not try_lock(descriptor):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        self._taken_at_s = time.monotonic()
        return True

    def _free(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
