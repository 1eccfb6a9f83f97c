"""/sys, /proc and /dev as trees of small files, with their own ways of saying that something changed."""

import asyncio
import select
from collections.abc import Callable
from pathlib import Path


class KernelFiles:
    """The kernel's files below a root: `/` on a booth."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """The real path of `sys/…`, `proc/…` or `dev/…`."""
        return self.root / name

    def text(self, name: str) -> str | None:
        """A file's text without its last newline; None where there is no such file, or it cannot be read."""
        try:
            return (self.root / name).read_text(errors="replace").strip()
        except OSError:
            return None

    def number(self, name: str, base: int = 10) -> int | None:
        """A file that holds one whole number; None where it does not."""
        try:
            return int(self.text(name) or "", base)
        except ValueError:
            return None

    def names(self, directory: str) -> list[str]:
        """The sorted names in a directory; empty where there is none."""
        try:
            return sorted(entry.name for entry in (self.root / directory).iterdir())
        except OSError:
            return []

    def watch(self, name: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` when the kernel announces a new content of a pollable file (sysfs_notify, /proc/*/mounts).

        Returns what ends the watch. Raises OSError for a file that is missing or not pollable.
        """
        file = open(self.root / name, "rb", buffering=0)  # noqa: SIM115 - open as long as the watch
        poll = select.epoll()
        try:
            poll.register(file.fileno(), select.EPOLLPRI | select.EPOLLERR | select.EPOLLET)
        except OSError:
            poll.close()
            file.close()
            raise
        loop = asyncio.get_running_loop()

        def announced() -> None:
            # An epoll descriptor is readable when it has events: so a priority event reaches asyncio.
            poll.poll(0)
            try:
                file.seek(0)
                file.read()  # sysfs announces the next change only after a read
            except OSError:
                loop.remove_reader(poll.fileno())  # the file is gone, with its cgroup or device: that is news too
            changed()

        def stop() -> None:
            loop.remove_reader(poll.fileno())
            poll.close()
            file.close()

        file.read()
        loop.add_reader(poll.fileno(), announced)
        return stop
