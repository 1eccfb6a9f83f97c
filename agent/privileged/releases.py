"""The two slots of one kind of update, and the link to the one that counts."""

import ctypes
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from agent.contract.decode import BadJson, decode_object, encode
from agent.contract.typed import Invalid, build, plain
from agent.contract.update import Sha256
from agent.documents import disk
from agent.privileged.machine import Machine
from agent.updates.archive import unpack
from agent.updates.kind import Kind

SlotName = Literal["a", "b"]

_RELEASE: Final = "release.json"  # written last: a slot without it is not whole
_FILES: Final = "files"
_RESERVE_BYTES: Final = 64 << 20  # for what the rest of the booth writes meanwhile: the agent's store, the journal, a print


@dataclass(frozen=True)
class Release:
    """What a slot holds. `sha256`: of the file that it was made of; None where `make install` laid it from a folder."""

    version: str
    sha256: Sha256 | None = None


class Releases:
    """Raises OSError where the disk does not do what is asked. No method touches the slot that counts, but for `switch`, which
    renames the link to it."""

    def __init__(self, machine: Machine, kind: Kind) -> None:
        self._machine = machine
        self._kind = kind
        self._place = machine.path(kind.place)

    @property
    def current(self) -> SlotName | None:
        """The slot that counts."""
        with suppress(OSError):
            target = (self._place / "current").readlink()
            return next((slot for slot in _SLOTS if target == Path("slots") / slot), None)
        return None

    @property
    def other(self) -> SlotName:
        return "b" if self.current == "a" else "a"

    @property
    def in_use(self) -> Release | None:
        return None if self.current is None else self.of(self.current)

    def of(self, slot: SlotName) -> Release | None:
        """What a slot holds; None where it is not whole."""
        with suppress(OSError, BadJson, Invalid):
            return build(Release, decode_object((self._folder(slot) / _RELEASE).read_bytes(), 4096))
        return None

    def clear(self, slot: SlotName) -> None:
        """Not whole from its first missing byte on."""
        assert slot != self.current
        with suppress(FileNotFoundError):
            (self._folder(slot) / _RELEASE).unlink()
        if self._folder(slot).exists():
            shutil.rmtree(self._folder(slot))
        self.tidy()

    def tidy(self) -> None:
        """Nothing is being unpacked now."""
        if self._incoming.exists():
            shutil.rmtree(self._incoming)

    def lay(self, slot: SlotName, archive: Path, version: str) -> None:
        """Unpack an archive, and make of it what the kind wants. Raises NotGood."""
        files = self._incoming / _FILES
        self._make(files)
        unpack(archive, files)
        self.lay_files(slot, files, version)
        self.tidy()

    def lay_files(self, slot: SlotName, files: Path, version: str) -> None:
        folder = self._folder(slot)
        self._make(folder)
        self._kind.lay(files, folder, Path("/") / self._kind.place / "slots" / slot, version)

    def check(self, slot: SlotName, config: Path) -> None:
        """Raises NotGood."""
        self._kind.check(self._folder(slot), config)

    def finish(self, slot: SlotName, release: Release) -> None:
        """It is whole: everything in it is on disk before that is said. Raises OSError where the disk did not take it: then
        the slot is not whole."""
        _written(self._folder(slot))
        disk.write(self._folder(slot), _RELEASE, encode(plain(release)), mode=0o644)

    def switch(self, slot: SlotName) -> None:
        """From now on this slot counts: old or new, at any instant."""
        fresh = self._place / "current.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(f"slots/{slot}")
        fresh.rename(self._place / "current")
        descriptor = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @property
    def _incoming(self) -> Path:
        return self._place / "slots" / "incoming"

    def _folder(self, slot: SlotName) -> Path:
        return self._place / "slots" / slot

    def _make(self, folder: Path) -> None:
        for one in (self._place, self._place / "slots"):
            one.mkdir(parents=True, exist_ok=True)
            one.chmod(self._kind.mode)
        folder.mkdir(parents=True)
        folder.chmod(self._kind.mode)


def has_room(folder: Path, needed_bytes: int) -> bool:
    """Whether so much can be written below a folder, and the rest of the booth still writes. Raises OSError."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize >= needed_bytes + _RESERVE_BYTES


def _written(folder: Path) -> None:
    """What its file system has in memory is on disk. Raises OSError where that failed, now or since somebody last asked: sync(2)
    tells nobody."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(descriptor)


_SLOTS: Final[tuple[SlotName, ...]] = ("a", "b")
