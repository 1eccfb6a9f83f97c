"""A bundle of any size, in place of what the process makes: no test has a journal of megabytes."""

import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from agent.rules.bundle import Assembly
from agent.system.collecting import Made
from agent.system.one_shot import in_memory
from tests.world import ROOT, Observer

Collect = Callable[[Any], AbstractAsyncContextManager[Made]]
_PIECE: Final = 64 * 1024


def bytes_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def large(size: int) -> Collect:
    """In the form of `agent.system.collecting.collected`."""

    @contextlib.asynccontextmanager
    async def collected(_question: Any) -> AsyncIterator[Made]:
        dice, digest, left = random.Random(size), hashlib.sha256(), size
        with in_memory("bundle") as file:
            while left:  # never all of it in the daemon's memory
                piece = dice.randbytes(min(left, _PIECE))
                digest.update(piece)
                file.write(piece)
                left -= len(piece)
            file.flush()
            yield Made(file.fileno(), size, digest.hexdigest())

    return collected


def assembly_of(observer: Observer, id_: str) -> Assembly:
    """What came of a bundle so far."""
    assembly = Assembly()
    for message in observer.messages:
        if message.topic.startswith(f"{ROOT}/cmd/diagnostics/{id_}/chunk/"):
            assembly.take(message.payload)
    return assembly
