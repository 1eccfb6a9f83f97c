"""A virtual environment made of wheels, without a network, pip, or a trace of the folder in which it was made."""

import compileall
import errno
import os
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Final

from agent.updates.kind import NotGood

_COMPILED: Final = 2.0  # what is installed grows by its bytecode; and the rest of the booth needs some room
_LEFT: Final = 1 << 20  # less than that is a full disk
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def this_python() -> str:
    """The minor version of the Python that runs, which an environment made here uses as well."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def make(slot: Path, place: Path, wheels: Sequence[Path]) -> None:
    """Make one in the empty folder `slot`, which works once it is found at `place`. Raises NotGood, OSError."""
    _has_room(wheels, slot)
    with _readable_by_all():
        _make_empty(slot, place)
        _install(wheels, slot, place)


@contextmanager
def full_disk_is_told() -> Iterator[None]:
    """What fails within because the disk is full raises NotGood."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NotGood("disk-full", f"no room for what it unpacks: {error.strerror}") from error
        raise


def _has_room(wheels: Sequence[Path], slot: Path) -> None:
    needed = 0
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as archive:
                needed += sum(member.file_size for member in archive.infolist())
        except (zipfile.BadZipFile, ValueError) as error:
            raise NotGood("bad-archive", f"{wheel.name} is no wheel: {error}") from error
    if needed * _COMPILED > (free := _free_bytes(slot)):
        raise NotGood("disk-full", f"it takes {needed * _COMPILED / 2**20:.0f} MiB; {free / 2**20:.0f} MiB are free")


def _free_bytes(folder: Path) -> int:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize if room.f_favail or not room.f_files else 0  # without inodes nothing fits


@contextmanager
def _readable_by_all() -> Iterator[None]:
    before = os.umask(0o022)  # root's own may be narrower; the agent is somebody else
    try:
        yield
    finally:
        os.umask(before)


def _make_empty(slot: Path, place: Path) -> None:
    """What the module `venv` makes, without pip; and so that it does not remember the folder that it was made in."""
    system = Path(sys.base_prefix) / "bin" / f"python{this_python()}"
    (slot / "bin").mkdir()
    for name in (f"python{this_python()}", "python3", "python"):
        (slot / "bin" / name).symlink_to(system)
    _packages(slot).mkdir(parents=True)
    settings = {
        "home": system.parent,
        "include-system-site-packages": "false",
        "version": ".".join(map(str, sys.version_info[:3])),
        "executable": system,
        "prompt": place.name,
    }
    (slot / "pyvenv.cfg").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))


def _packages(slot: Path) -> Path:
    return slot / "lib" / f"python{this_python()}" / "site-packages"


def _install(wheels: Sequence[Path], slot: Path, place: Path) -> None:
    from installer import install  # noqa: PLC0415 - root's program has it; whoever only reads documents does not
    from installer.destinations import SchemeDictionaryDestination  # noqa: PLC0415
    from installer.exceptions import InstallerError  # noqa: PLC0415
    from installer.sources import WheelFile  # noqa: PLC0415

    packages = str(_packages(slot))
    schemes = {"purelib": packages, "platlib": packages, "scripts": str(slot / "bin"), "headers": str(slot / "include")}
    target = SchemeDictionaryDestination(
        schemes | {"data": str(slot)}, interpreter=str(place / "bin/python3"), script_kind="posix"
    )
    for wheel in wheels:
        try:
            with WheelFile.open(wheel) as source:
                install(source, target, {"INSTALLER": b"booth-update\n"})
        except (InstallerError, zipfile.BadZipFile, zlib.error, FileExistsError, LookupError, ValueError, RuntimeError) as error:
            raise NotGood("bad-archive", f"{wheel.name} cannot be installed: {error}") from error
    # A unit cannot write here. The files are named as they will be, for tracebacks; nobody compares their times.
    compiled = compileall.compile_dir(
        slot / "lib", quiet=2, stripdir=str(slot), prependdir=str(place), invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
    )
    if not compiled and _free_bytes(slot) < _LEFT:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # which compileall keeps to itself
