"""How those of root's programs are asked that take envelopes: a line of JSON on standard input and as many bytes as it says; one
question at a time."""

import fcntl
import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol, TypeVar

from agent.contract.decode import BadJson, decode_object
from agent.contract.envelope import MAX_ENVELOPE_BYTES
from agent.contract.typed import Invalid, build
from agent.privileged.verdict import Ended

_READ_S: Final = 10.0
_TURN_S: Final = 30.0
_HEADER_BYTES: Final = 4096


class _Request(Protocol):
    @property
    def bytes(self) -> int: ...


R = TypeVar("R", bound=_Request)


def read(kind: type[R]) -> tuple[R, bytes]:
    """The daemon's question, and the envelope, of which one byte more than it may have is read. Raises Ended for anything else,
    and for none in time."""
    data = b""
    request: R | None = None
    until_s = time.monotonic() + _READ_S
    while request is None or len(data) < min(request.bytes, MAX_ENVELOPE_BYTES + 1):
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], max(0.0, until_s - time.monotonic()))
        chunk = os.read(sys.stdin.fileno(), 65536) if readable else b""
        if not chunk:
            raise Ended("bad-request", "write a line of JSON, and as many bytes as it says")
        data += chunk
        if request is None and b"\n" in data[:_HEADER_BYTES]:
            line, _, data = data.partition(b"\n")
            try:
                request = build(kind, decode_object(line, _HEADER_BYTES))
            except (BadJson, Invalid) as error:
                raise Ended("bad-request", str(error)) from error
        elif request is None and len(data) > _HEADER_BYTES:
            raise Ended("bad-request", "the first line is too long")
    return request, data[: request.bytes][: MAX_ENVELOPE_BYTES + 1]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One at a time, by a lock in `folder`. Raises BlockingIOError where another one goes on for longer."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "rb") as lock:
        until_s = time.monotonic() + _TURN_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until_s:
                    raise
                time.sleep(0.2)
        yield
