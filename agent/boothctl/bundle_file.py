"""The bundle of a `diagnostics` command: gathered from its pieces, found whole, and written to a file that was not there."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.boothctl.progress import Progress
from agent.boothctl.terminal import EXIT_USAGE, Failed
from agent.rules.bundle import Assembly, NotWhole, unpacked

# The status may come before the last pieces; each of these is 11 kB, also over a line of 64 kbit/s.
QUIET_S: Final = 15.0


class BundleFile:
    """Hand `take` every piece; `write` once the command has succeeded."""

    def __init__(self, file: Path, progress: Progress) -> None:
        """Raises `Failed` where the file could not be written afterwards."""
        self._file = file
        self._progress = progress
        self._assembly = Assembly()
        self._came = asyncio.Event()
        if file.exists() or file.is_symlink():
            raise Failed(f"{file}: there is a file already, and none is replaced; -o names another one", status=EXIT_USAGE)
        if not file.absolute().parent.is_dir():
            raise Failed(f"{file}: there is no folder {file.parent}", status=EXIT_USAGE)

    def take(self, payload: bytes) -> None:
        if self._assembly.take(payload) and self._assembly.of:
            taken, of = self._assembly.taken, self._assembly.of
            self._progress.tick(f"diagnostics: piece {taken} of {of}", 100 * taken // of)
        self._came.set()

    async def write(self, result: Any, *, quiet_s: float = QUIET_S) -> Path:
        """Wait for what is under way, and write it. Raises `Failed` where pieces are missing or the hash is another."""
        while True:
            self._came.clear()
            try:
                bundle = self._assembly.bundle(result)
                unpacked(bundle)
                break
            except NotWhole as problem:
                if problem.fault != "missing" or not await self._another(quiet_s):
                    raise Failed(f"no file was written: {problem}") from problem
        try:
            with open(self._file, "xb") as stream:
                stream.write(bundle)
        except OSError as error:
            raise Failed(f"{self._file}: {error.strerror}") from error
        return self._file

    async def _another(self, quiet_s: float) -> bool:
        try:
            async with asyncio.timeout(quiet_s):
                return await self._came.wait()
        except TimeoutError:
            return False


def default_file(booth: str) -> Path:
    return Path(f"{booth}-diagnostics-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json.gz")
