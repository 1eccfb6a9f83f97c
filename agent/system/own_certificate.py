"""Until when the booth's own certificate is good: read when the file is another one, by a process that is gone afterwards."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from agent.system.one_shot import NotRun, in_memory, run_module

_LOOK_EVERY_S: Final = 3600.0
_AFTER_THE_START_S: Final = 5.0  # which has enough to do
_DEADLINE_S: Final = 20.0


class OwnCertificate:
    """`not_after_s`: seconds since 1970; None where there is no certificate, or none that can be read. `run` it."""

    def __init__(
        self, file: Callable[[], Path | None], changed: Callable[[], None], save: Callable[[dict[str, Any]], None]
    ) -> None:
        """`save`: keep what was read, across restarts."""
        self._file = file
        self._changed = changed
        self._save = save
        self._seen: list[Any] | None = None  # the file, as it was when it was read
        self._again = asyncio.Event()
        self.not_after_s: float | None = None

    def remember(self, state: Mapping[str, Any]) -> None:
        """What was read before the last restart: good for as long as the file is the same."""
        kept = state.get("certificate")
        if isinstance(kept, dict) and kept.get("file") == self._found() and isinstance(kept.get("not_after_s"), int | float):
            self._seen, self.not_after_s = kept["file"], float(kept["not_after_s"])

    def look(self) -> None:
        """It may have been renewed."""
        self._again.set()

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.sleep(_AFTER_THE_START_S)
        while True:
            self._again.clear()
            await self._read_if_new()
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._again.wait()
            except TimeoutError:
                pass

    async def _read_if_new(self) -> None:
        found = self._found()
        if found == self._seen:
            return
        try:
            not_after_s = None if found is None else await _not_after_s(Path(found[0]))
        except NotRun:
            return  # asked again at the next look
        # No certificate, or not readable yet: it is looked at again.
        self._seen = None if not_after_s is None else found
        if not_after_s != self.not_after_s:
            self.not_after_s = not_after_s
            self._save({"file": self._seen, "not_after_s": not_after_s})
            self._changed()

    def _found(self) -> list[Any] | None:
        file = self._file()
        try:
            found = None if file is None else file.stat()
        except OSError:
            found = None
        return None if found is None else [str(file), found.st_ino, found.st_ctime_ns, found.st_size]


async def _not_after_s(file: Path) -> float | None:
    """Raises NotRun."""
    try:
        with open(file, "rb") as certificate, in_memory("answer") as answered:
            status = await run_module("agent.documents.certificate", (), certificate.fileno(), answered.fileno(), _DEADLINE_S)
            answered.seek(0)
            return float(json.loads(answered.read(4096))["not_after_s"]) if status == 0 else None
    except NotRun:
        raise
    except (OSError, ValueError, LookupError, TypeError):
        return None
