"""The process that fetches one file of a known size and hash, and ends: `python -m agent.fetching`. A line of JSON goes in, a
line of JSON comes out."""

import contextlib
import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from agent.contract.decode import BadJson, decode_object, encode
from agent.contract.typed import build, plain
from agent.contract.update import Sha256
from agent.fetching.failed import Failed
from agent.fetching.pace import Pace
from agent.fetching.part import Part, is_whole
from agent.fetching.server import asked, is_rest, read

RESERVE_BYTES: Final = 64 * 1024 * 1024  # stays free on the card: events and documents come first

_QUESTION_BYTES: Final = 16 * 1024
_USELESS: Final = ("wrong-hash", "too-large", "disk-full")  # what came is deleted: the card is needed
_NICE: Final = 10  # a citizen's page goes first; in the unit's sandbox it stays at the unit's own 5
_PUT_IT_THERE: Final = "put the file there that was signed, or sign what is there"
_MAKE_ROOM: Final = "free some of the booth's storage"


@dataclass(frozen=True)
class Question:
    """`rate_bytes_s`: no more than that in a second; None: as fast as it comes. `patience_s`: so long a server may be silent."""

    url: str
    size_bytes: int
    sha256: Sha256
    folder: str
    rate_bytes_s: float | None = None
    patience_s: float = 30.0


@dataclass(frozen=True)
class Answer:
    """`reason`: a word of `Failed`. `got`: the bytes of it that are kept."""

    outcome: Literal["fetched", "failed"]
    reason: str | None = None
    message: str | None = None
    got: int = 0


def main() -> int:
    question = build(Question, decode_object(sys.stdin.buffer.read(_QUESTION_BYTES + 1), _QUESTION_BYTES))
    with contextlib.suppress(OSError):  # the unit's filter forbids it
        os.nice(_NICE)
    # The agent itself is protected from the kernel's memory killer; what fetches a file need not be.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("500")
    sys.stdout.buffer.write(encode(plain(answer(question))) + b"\n")
    return 0


def answer(question: Question) -> Answer:
    part = None
    try:
        if not is_whole(Path(question.folder), question.sha256):
            with Part(Path(question.folder), question.sha256, question.size_bytes) as part:
                _complete(question, part)
    except Failed as failed:
        return Answer("failed", failed.reason, str(failed), part.length if part else 0)
    except OSError as error:  # of the disk: the server's are `Failed` by now
        got = part.length if part else 0
        return Answer("failed", "disk-failed", f"{question.folder}: {error.strerror}: check the booth's storage", got)
    return Answer("fetched", got=question.size_bytes)


def _complete(question: Question, part: Part) -> None:
    try:
        _make_right(question, part)
        part.finish()
    except Failed as failed:
        if failed.reason in _USELESS:
            part.drop()
        raise
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        part.drop()
        raise Failed("disk-full", f"no room for {question.size_bytes} bytes: {_MAKE_ROOM}") from error


def _make_right(question: Question, part: Part) -> None:
    old = part.length
    _fill(question, part)
    if old and not part.is_right():
        # What was left from before may be what is wrong: a power cut, or another file at the server since.
        part.start_again()
        _fill(question, part)
    if not part.is_right():
        raise Failed("wrong-hash", f"the server has other bytes than those signed: {_PUT_IT_THERE}")


def _fill(question: Question, part: Part) -> None:
    """Fetch what is missing. Raises Failed, OSError of the disk."""
    size = question.size_bytes
    if part.length == size:
        return
    if (free := part.free_bytes()) < (missing := size - part.length) + RESERVE_BYTES:
        raise Failed("disk-full", f"{missing} bytes to come and {RESERVE_BYTES} to stay free, but {free} are: {_MAKE_ROOM}")
    with Pace(question.rate_bytes_s, question.patience_s) as pace, contextlib.ExitStack() as held:
        response = held.enter_context(asked(question.url, part.length, question.patience_s))
        if response.status in {206, 416} and not is_rest(response, part.length, size):
            held.close()  # whatever that was: once more, from the start
            response = held.enter_context(asked(question.url, 0, question.patience_s))
        if response.status == 200:
            if response.length not in {None, size}:
                raise Failed("wrong-size", f"the server has {response.length} bytes, {size} are signed: {_PUT_IT_THERE}")
            part.start_again()
        elif not is_rest(response, part.length, size):
            raise Failed(f"http-{response.status}", f"the server answers {response.status}: {_PUT_IT_THERE}")
        pace.begin()
        while data := read(response, pace.most(size + 1 - part.length)):
            if part.length + len(data) > size:
                raise Failed("too-large", f"the server sends more than the {size} bytes signed: {_PUT_IT_THERE}")
            part.append(data)
            pace.came(len(data))
    if part.length < size:
        raise Failed("truncated", f"it ended after {part.length} of {size} bytes; the next attempt goes on from there")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BadJson, ValueError) as error:
        sys.exit(f"booth-agent: nothing was fetched: {error}")
