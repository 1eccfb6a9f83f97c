"""Sends a diagnostics bundle: piece by piece behind everything else that is said, each once the broker has the one before."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from agent.contract.topics import Address
from agent.contract.typed import plain
from agent.engine.publish import NotTaken, Publisher
from agent.rules.bundle import CHUNK_BYTES, Result, chunk, chunks_of
from agent.verbs.declaration import Heard, NotDone
from agent.verbs.declaration import Result as CommandResult


class Made(Protocol):
    """A bundle, wherever it lies."""

    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    def piece(self, start: int, length: int) -> bytes: ...


class Bundles:
    """`made(max_bytes)` has one made, and keeps it for as long as it is needed; it raises OSError where there is none. `broker`
    names the one that we talk to: half a bundle on each of two is none."""

    def __init__(
        self,
        address: Address,
        publisher: Publisher,
        made: Callable[[int], AbstractAsyncContextManager[Made]],
        broker: Callable[[], str],
    ) -> None:
        self._address = address
        self._publisher = publisher
        self._made = made
        self._broker = broker
        self._turn = asyncio.Lock()

    async def send(self, id_: str, max_bytes: int, heard: Heard) -> CommandResult:
        """The whole bundle, to the topics of command `id_`. What cannot be done raises `NotDone`."""
        if self._turn.locked():
            raise NotDone("another bundle is under way, and there is one at a time: ask again when it has ended", "busy")
        async with self._turn:
            heard("collecting", None)
            try:
                async with self._made(max_bytes) as made:
                    return await self._send(id_, made, heard)
            except OSError as error:
                raise NotDone(f"there is no bundle: {error}") from error

    async def _send(self, id_: str, made: Made, heard: Heard) -> CommandResult:
        of, broker = chunks_of(made.size), self._broker()
        for number in range(of):
            heard("sending", 100 * number // of)
            piece = made.piece(number * CHUNK_BYTES, CHUNK_BYTES)
            try:
                await self._publisher.send_last("chunk", self._address.chunk(id_, number), chunk(piece, number, of))
            except NotTaken as refusal:
                rule = "cmd/diagnostics/+/chunk/+"
                raise NotDone(
                    f"the broker refuses the pieces ({refusal}): its access rules must let the booth write {rule}"
                ) from refusal
            if self._broker() != broker:
                raise NotDone(f"the booth went to another broker after piece {number} of {of}: ask again", "interrupted")
        return dict(plain(Result(of, made.size, made.sha256)))
