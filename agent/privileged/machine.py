"""The booth as an act sees it: the kernel's files, programs, time. All of it lies below `root`, so that a test has its own."""

import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.documents import disk
from agent.privileged.verdict import Ended

_PROGRAMS: Final = ("usr/bin", "usr/sbin")
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin", "LANG": "C.UTF-8"}  # nothing else is inherited
_USBDEVFS_RESET: Final = 0x5514  # linux/usbdevice_fs.h: _IO('U', 20)


@dataclass(frozen=True)
class Said:
    """What a program ended with. `complaint` is the first line of its standard error."""

    status: int
    output: str
    complaint: str


class Machine:
    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def path(self, name: str) -> Path:
        """The real path of `sys/…`, `dev/…` and so on."""
        return self._root / name

    def text(self, file: Path) -> str | None:
        """A small file's text without its last newline; None where it cannot be read."""
        try:
            return file.read_text(errors="replace").strip()
        except OSError:
            return None

    def write(self, file: Path, data: str | bytes) -> None:
        """In one write, into a file that is there: none is ever made. Raises OSError, with the kernel's answer too."""
        descriptor = os.open(file, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.write(descriptor, data.encode() if isinstance(data, str) else data)
        except OSError as error:
            error.filename = str(file)  # it has none of its own
            raise
        finally:
            os.close(descriptor)

    def put(self, file: Path, text: str, mode: int = 0o644) -> None:
        """Make or replace a file of root's, whole or not at all, with its folders. Raises OSError."""
        disk.write(file.parent, file.name, text.encode(), mode)

    def remove(self, file: Path) -> None:
        """Take a file or link away, if it is there. Raises OSError."""
        with suppress(FileNotFoundError):
            file.unlink()

    @contextmanager
    def opened(self, file: Path) -> Iterator[Callable[[str], None]]:
        """A kernel file to write to more than once. It stays that of the same device: once this one is gone, so is its file,
        whatever was plugged into its place (ENODEV)."""
        descriptor = os.open(file, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

        def write(text: str) -> None:
            try:
                os.pwrite(descriptor, text.encode(), 0)
            except OSError as error:
                error.filename = str(file)
                raise

        try:
            yield write
        finally:
            os.close(descriptor)

    def reset_usb(self, node: Path) -> None:
        """USBDEVFS_RESET on `dev/bus/usb/BBB/DDD`: the port is reset, and the drivers probe again. Raises OSError."""
        descriptor = os.open(node, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, _USBDEVFS_RESET, 0)
        except OSError as error:
            error.filename = str(node)
            raise
        finally:
            os.close(descriptor)

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def has(self, program: str) -> bool:
        return self._find(program) is not None

    def ask(self, program: str, *arguments: str, within_s: float) -> Said:
        """Run a program to its end, whatever that is. Raises Ended where it is missing or takes too long: then it is killed."""
        file = self._find(program)
        if file is None:
            raise Ended("not-supported", f"{program} is not installed")
        try:
            done = subprocess.run(
                [program, *arguments],
                executable=file,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=within_s,
                check=False,
                env=_ENVIRONMENT,
                cwd="/",
            )
        except subprocess.TimeoutExpired:
            raise Ended("failed", f"{program} took longer than {within_s:g} s") from None
        complaints = done.stderr.decode(errors="replace").strip().splitlines()
        return Said(done.returncode, done.stdout.decode(errors="replace"), complaints[0] if complaints else "")

    def do(self, program: str, *arguments: str, within_s: float) -> None:
        """The same for one that must succeed. Raises Ended otherwise."""
        said = self.ask(program, *arguments, within_s=within_s)
        if said.status != 0:
            why = said.complaint.removeprefix(f"{program}: ") or f"status {said.status}"
            raise Ended("failed", f"{program}: {why}")

    def _find(self, program: str) -> Path | None:
        places = (self.path(place) / program for place in _PROGRAMS)
        return next((file for file in places if os.access(file, os.X_OK)), None)
