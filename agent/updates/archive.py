"""The file that carries an update: a plain tar (POSIX.1-1988 or pax) of regular files. It is not compressed, since what is in it
is: its size, which is signed, is what it takes on disk, and no small file becomes an endless one."""

import io
import re
import tarfile
from pathlib import Path
from typing import Final

from agent.updates.kind import NotGood

_NAME: Final = re.compile(r"(?:[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,150}/){0,3}[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,150}")
_MEMBERS: Final = 1000
_HEADER_BYTES: Final = 4096  # the longest name takes less than 1 KiB
_HEADERS_BYTES: Final = _MEMBERS * _HEADER_BYTES
_CHUNK_BYTES: Final = 1 << 20
_END: Final = 2 * tarfile.BLOCKSIZE  # of zeros, and as many more as fill the last record


class _Headers(io.FileIO):
    """An archive, read no further than headers need it. Python's module reads a header of the size that is written there into
    memory at once, and some releases of it search that for a time that grows with its square."""

    _left = _HEADERS_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= _HEADER_BYTES if size is None else size
        if size is None or not 0 <= size <= _HEADER_BYTES or self._left < 0:
            raise tarfile.ReadError("its headers are too large")
        return super().read(size)


def unpack(archive: Path, folder: Path) -> None:
    """Put the files of an archive into an empty folder. Raises `NotGood` for anything but regular files below it, OSError."""
    try:
        length = archive.stat().st_size
        with _Headers(archive) as headers, open(archive, "rb") as stream, tarfile.open(fileobj=headers, mode="r:") as tar:
            for number, member in enumerate(tar):
                if number >= _MEMBERS:
                    raise NotGood("bad-archive", f"more than {_MEMBERS} files")
                # What is mostly holes is larger on disk than here; a size below nothing leads back to where it was.
                if not member.isreg() or member.issparse() or member.size < 0 or not _NAME.fullmatch(member.name):
                    raise NotGood("bad-archive", f"{member.name[:100]!r} is no plain file with a plain name")
                if member.offset_data + member.size > length:
                    raise NotGood("bad-archive", f"it ends within {member.name}")
                target = folder / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                stream.seek(member.offset_data)
                left = member.size
                with open(target, "xb") as copy:
                    while left and (chunk := stream.read(min(left, _CHUNK_BYTES))):
                        left -= copy.write(chunk)
            end = tar.offset
            stream.seek(end)
            if len(zeros := stream.read(_END + tarfile.RECORDSIZE)) < _END or zeros.strip(b"\0") or stream.read(1):
                raise NotGood("bad-archive", f"after {end} bytes it is no tar archive")
    except (tarfile.TarError, ValueError, OverflowError, LookupError, RecursionError) as error:  # of damaged headers
        raise NotGood("bad-archive", f"it is no tar archive: {error}") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise NotGood("bad-archive", f"two files of one name: {error.filename}") from error


def pack(folder: Path, archive: Path, at_s: int) -> None:
    """Put all files below a folder into an archive: the same files give the same bytes, anywhere. `at_s`: the time they get."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    with tarfile.open(archive, "w:", format=tarfile.PAX_FORMAT) as tar:
        for file in files:
            name = file.relative_to(folder).as_posix()
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r}: no name that a booth takes")
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = file.stat().st_size, at_s, 0o644
            with open(file, "rb") as stream:
                tar.addfile(member, stream)
