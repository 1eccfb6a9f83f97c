"""The forms cache: what its catalogue says, which files are whole, and that something in it has changed.

`look` runs in a worker: a memory card may hang, and the daemon needs none of the catalogue. What is on the loop opens no file.
"""

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from agent.contract.typed import Invalid

Stamp = tuple[tuple[str, int, int, int], ...]

_ENTRIES: Final = 250  # more of them need not be told apart: no good cache has so many

# As linux/inotify.h has them.
_CLOEXEC_NONBLOCK: Final = os.O_CLOEXEC | os.O_NONBLOCK
_IN_ATTRIB, _IN_CLOSE_WRITE, _IN_MOVED_FROM, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE = 0x4, 0x8, 0x40, 0x80, 0x100, 0x200
_IN_DELETE_SELF, _IN_MOVE_SELF, _IN_IGNORED, _IN_ONLYDIR = 0x400, 0x800, 0x8000, 0x1000000
_NAMES: Final = _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE
_CONTENT: Final = _NAMES | _IN_ATTRIB | _IN_CLOSE_WRITE | _IN_DELETE_SELF | _IN_MOVE_SELF
_EVENT: Final = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
_READ_BYTES: Final = 4096


def look(request: Mapping[str, Any]) -> dict[str, Any]:
    """In a worker: `version` and `forms` of the catalogue in the folder `folder`, each form with what is wrong with its file; or
    `trouble`, why there is no catalogue."""
    from agent.contract.forms import CATALOGUE, catalogue_in, flaw  # noqa: PLC0415 - 0.1 MiB that the daemon does without

    folder = Path(os.path.realpath(request["folder"]))  # once: a switch in the middle mixes no two catalogues
    try:
        # Keys that a newer catalogue has beside ours are not this agent's to refuse: root has judged it.
        catalogue = catalogue_in(folder, unknown="ignore")
    except Invalid as error:
        return {"trouble": f"{CATALOGUE}: {error}"}
    except OSError as error:
        return {"trouble": f"{CATALOGUE}: {error.strerror}"}
    forms = [
        {
            "cerfa": form.cerfa,
            "verified_on": form.verified_on,
            "not_after": form.not_after,
            "withdrawn": form.withdrawn,
            "flaw": flaw(folder, form),
        }
        for form in catalogue.forms
    ]
    return {"trouble": None, "version": catalogue.version, "forms": forms}


def stamp(folder: Path) -> Stamp | None:
    """Which folder this is now and what is in it: name, inode, size and time of each file. None where there is no folder."""
    found: dict[str, os.stat_result] = {}
    try:
        found["."] = folder.stat()
        with os.scandir(folder) as entries:
            found |= {entry.name: entry.stat(follow_symlinks=False) for entry in islice(entries, _ENTRIES)}
    except OSError:
        return None
    return tuple(sorted((name, status.st_ino, status.st_size, status.st_mtime_ns) for name, status in found.items()))


class Changes:
    """Calls `changed` when the link `folder` leads elsewhere, or when something in the folder behind it changes. `follow` it at
    each look; where the kernel gives no watch, nothing is told. Create it on the running loop."""

    def __init__(self, folder: Path, changed: Callable[[], None]) -> None:
        self._folder = folder
        self._changed = changed
        self._libc = ctypes.CDLL(None)
        self._inside: int | None = None
        self._beside: int | None = None
        self._descriptor: int | None = self._libc.inotify_init1(_CLOEXEC_NONBLOCK)
        if self._descriptor == -1:
            self._descriptor = None
        else:
            asyncio.get_running_loop().add_reader(self._descriptor, self._readable)

    def follow(self) -> None:
        """From now on the folder that the link leads to now is meant. What changes after this is told."""
        self._beside = self._watch(self._folder.parent, _NAMES)
        before, self._inside = self._inside, self._watch(self._folder, _CONTENT)
        if before not in (None, self._inside) and self._descriptor is not None:
            self._libc.inotify_rm_watch(self._descriptor, before)

    def close(self) -> None:
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _watch(self, folder: Path, mask: int) -> int | None:
        if self._descriptor is None:
            return None
        watch: int = self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), mask | _IN_ONLYDIR)
        return None if watch == -1 else watch

    def _readable(self) -> None:
        assert self._descriptor is not None
        told = False
        try:
            while data := os.read(self._descriptor, _READ_BYTES):
                told |= self._is_meant(data)
        except BlockingIOError:
            pass
        if told:
            self._changed()

    def _is_meant(self, data: bytes) -> bool:
        """Whether an event is about the folder, or about the link; beside it other things are laid out."""
        at, own = 0, os.fsencode(self._folder.name)
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
            if not mask & _IN_IGNORED and (watch != self._beside or name == own):
                return True
            at += _EVENT.size + length
        return False
