"""What has come of a file so far, on disk."""

import fcntl
import hashlib
import os
from pathlib import Path
from typing import Final, Self

from agent.fetching.failed import Failed

_TO_DISK_BYTES: Final = 8 * 1024 * 1024  # so much a power cut may take; and the card is never far behind


class Part:
    """`length` bytes of the file `name` in `folder`, which is named by its SHA-256. One process at a time has it, and it stays
    when that ends. Everything raises OSError; making one raises Failed (`busy`) too."""

    def __init__(self, folder: Path, name: str, size: int) -> None:
        self._folder = folder
        self._target = folder / name
        self._file = folder / f"{name}.part"
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        self._stream = open(descriptor, "r+b", buffering=0)  # noqa: SIM115 - closed by __exit__
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._stream.close()
            raise Failed("busy", "another process fetches it still") from error
        os.fchmod(descriptor, 0o640)  # the daemon reads it, and root
        self._hash = hashlib.sha256()
        self.length = self._on_disk = 0
        if os.fstat(descriptor).st_size > size:
            self.start_again()
        while data := self._stream.read(1024 * 1024):
            self._took(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def free_bytes(self) -> int:
        """What there is room for beside it."""
        room = os.fstatvfs(self._stream.fileno())
        return room.f_bavail * room.f_frsize

    def start_again(self) -> None:
        self._stream.seek(0)
        self._stream.truncate()
        self._hash = hashlib.sha256()
        self.length = self._on_disk = 0

    def append(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._stream.write(left) :]
        self._took(data)
        if self.length - self._on_disk >= _TO_DISK_BYTES:
            self._flush()

    def is_right(self) -> bool:
        return self._hash.hexdigest() == self._target.name

    def finish(self) -> None:
        """It gets its name when all of it is on disk."""
        self._flush()
        self._file.replace(self._target)
        directory = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def drop(self) -> None:
        self._file.unlink(missing_ok=True)
        self.length = 0

    def _took(self, data: bytes) -> None:
        self._hash.update(data)
        self.length += len(data)

    def _flush(self) -> None:
        os.fsync(self._stream.fileno())
        # Nobody reads it soon, and on a small board the memory is the citizen's browser's.
        os.posix_fadvise(self._stream.fileno(), 0, self.length, os.POSIX_FADV_DONTNEED)
        self._on_disk = self.length


def is_whole(folder: Path, name: str) -> bool:
    """Whether the whole file is there already, and right: fetched by a process whose answer nobody heard."""
    try:
        with open(os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == name
    except FileNotFoundError:
        return False
