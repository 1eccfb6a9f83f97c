"""Have files fetched (`agent.fetching`), each by a process that ends; the daemon holds a number, not a byte of them."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from agent.system.one_shot import NotRun, in_memory, run_module

_LOOK_EVERY_S: Final = 2.0
_SLOWEST_BYTES_S: Final = 8_000.0  # a line of 64 kbit/s
_LEAST_DEADLINE_S: Final = 3600.0
_ANSWER_BYTES: Final = 4096
_PATIENCE_S: Final = 30.0  # so long a server may be silent


class NotFetched(OSError):
    """The file is not there. `reason`: a word in kebab-case (`agent.fetching.failed`); the message is for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Downloads:
    """Files in `folder`, named by their SHA-256; what has come of one so far is `SHA256.part`.

    `rate_bytes_s`: how fast they may come, asked at each start; None: as fast as the line is.
    """

    def __init__(self, folder: Path, rate_bytes_s: Callable[[], float | None], patience_s: float = _PATIENCE_S) -> None:
        self._folder = folder
        self._rate_bytes_s = rate_bytes_s
        self._patience_s = patience_s
        self._turn = asyncio.Lock()

    def got(self, sha256: str) -> bool:
        """Whether the whole file is there."""
        return (self._folder / sha256).is_file()

    def forget(self, keep: Collection[str]) -> None:
        """Delete all but these files, by their hash, and their parts. What cannot be deleted stays for the next time."""
        kept = {name for sha256 in keep for name in (sha256, f"{sha256}.part")}
        with contextlib.suppress(OSError):
            for file in self._folder.iterdir():
                if file.name not in kept:
                    with contextlib.suppress(OSError):
                        file.unlink()

    async def fetch(self, url: str, size_bytes: int, sha256: str, progress: Callable[[int], None]) -> None:
        """Returns when the whole file is there. One at a time: a second one waits. `progress` is told per cent, 0 to 100.

        Raises NotFetched. Cancelled, it ends the process; what has come stays for the next time.
        """
        async with self._turn:
            rate_bytes_s = self._rate_bytes_s()
            question = {
                "url": url, "size_bytes": size_bytes, "sha256": sha256, "folder": str(self._folder.absolute()),
                "rate_bytes_s": rate_bytes_s, "patience_s": self._patience_s,
            }  # fmt: skip
            with in_memory("question") as asked, in_memory("answer") as answered:
                asked.write(json.dumps(question).encode() + b"\n")
                asked.seek(0)
                run = run_module("agent.fetching", (), asked.fileno(), answered.fileno(), deadline_s(size_bytes, rate_bytes_s))
                running = asyncio.ensure_future(run)
                try:
                    await self._watch(running, sha256, size_bytes, progress)
                    status = await running
                except NotRun as error:
                    raise NotFetched("timeout", f"what fetches it: {error}") from error
                finally:
                    running.cancel()
                    await asyncio.gather(running, return_exceptions=True)
                answered.seek(0)
                _check(status, answered.read(_ANSWER_BYTES))
        progress(100)

    async def _watch(self, running: "asyncio.Future[int]", sha256: str, size_bytes: int, progress: Callable[[int], None]) -> None:
        said = None
        while not running.done():
            await asyncio.wait({running}, timeout=_LOOK_EVERY_S)
            length = self._length(sha256)
            if length is not None and (per_cent := min(99, 100 * length // size_bytes)) != said:
                said = per_cent
                progress(per_cent)

    def _length(self, sha256: str) -> int | None:
        """Of what has come. None: nothing yet; or it is whole, and has just got its name."""
        try:
            return (self._folder / f"{sha256}.part").stat().st_size
        except OSError:
            return None


def deadline_s(size_bytes: int, rate_bytes_s: float | None) -> float:
    """How long one attempt may last: an hour, and what it takes on a line of 64 kbit/s or at half the rate that is allowed, if
    that is slower. A server that is too slow is noticed by the process itself; this ends one that hangs. What came is kept."""
    return _LEAST_DEADLINE_S + size_bytes / min(_SLOWEST_BYTES_S, (rate_bytes_s or 2 * _SLOWEST_BYTES_S) / 2)


def _check(status: int, text: bytes) -> None:
    """Raises NotFetched unless the answer is that the file was fetched."""
    if status != 0:
        raise NotFetched("fetch-failed", f"what fetches it ended with status {status}: see the journal")
    try:
        answer: dict[str, Any] = json.loads(text)
        if answer["outcome"] == "fetched":
            return
        reason, message = str(answer["reason"]), str(answer["message"])
    except (ValueError, LookupError, TypeError) as error:
        raise NotFetched("fetch-failed", "what fetches it gave no answer") from error
    raise NotFetched(reason, message)
