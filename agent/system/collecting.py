"""Have a diagnostics bundle made (`agent.diagnostics`), in a process that ends; the daemon holds a file, not its bytes."""

import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.system.one_shot import NotRun, in_memory, run_module

_DEADLINE_S: Final = 120.0  # a large journal on a slow board; beyond, a fault of ours
_ANSWER_BYTES: Final = 4096


class NotMade(OSError):
    """There is no bundle. The message says why."""


@dataclass(frozen=True)
class Made:
    """A bundle: `size` bytes behind `descriptor`, and their hash."""

    descriptor: int
    size: int
    sha256: str

    def piece(self, start: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, start)


@contextlib.asynccontextmanager
async def collected(question: Mapping[str, Any], deadline_s: float = _DEADLINE_S) -> AsyncIterator[Made]:
    """A bundle, for as long as it is needed. `question`: what `agent.diagnostics.known` reads. Raises NotMade."""
    with in_memory("question") as asked, in_memory("answer") as answered, in_memory("bundle") as bundle:
        asked.write(json.dumps(question).encode())
        asked.seek(0)
        numbers = [str(bundle.fileno())]
        try:
            status = await run_module(
                "agent.diagnostics", numbers, asked.fileno(), answered.fileno(), deadline_s, [bundle.fileno()]
            )
        except NotRun as error:
            raise NotMade(f"what collects it: {error}") from error
        answered.seek(0)
        yield _made(status, answered.read(_ANSWER_BYTES), bundle.fileno())


def _made(status: int, text: bytes, descriptor: int) -> Made:
    if status != 0:
        raise NotMade(f"what collects it ended with status {status}: see the journal")
    try:
        answer = json.loads(text)
        if isinstance(problem := answer.get("problem"), str):
            raise NotMade(problem)
        made = Made(descriptor, int(answer["bytes"]), str(answer["sha256"]))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise NotMade("what collects it gave no answer") from error
    if os.fstat(descriptor).st_size != made.size:
        raise NotMade("what collects it made another bundle than it says")
    return made
