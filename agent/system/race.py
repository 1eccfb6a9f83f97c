"""Connecting to one of several addresses: each gets a short head start, and the first that answers wins (RFC 8305).

Where IPv6 alone is broken, IPv4 costs a quarter of a second more, not a time-out.
"""

import errno
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Final

Candidate = tuple[int, tuple[object, ...]]  # the address family, and what connect(2) takes

HEAD_START_S: Final = 0.25
ADDRESS_TIMEOUT_S: Final = 3.0  # for one address
_MOST_ADDRESSES: Final = 4
_RECEIVE_BYTES: Final = 64 * 1024  # the kernel doubles it (socket(7)); at 200 ms there and back, some 300 kB/s


def interleaved(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The resolver's order, but the families take turns: four dead IPv6 addresses must not hide the one of IPv4."""
    families = list(dict.fromkeys(family for family, _ in candidates))
    turns = zip_longest(*([item for item in candidates if item[0] == family] for family in families))
    return [item for item in chain.from_iterable(turns) if item is not None]


def first_connected(candidates: Sequence[Candidate]) -> tuple[socket.socket, Candidate]:
    """The first connection that stands, and to whom; all others are closed. Blocks for 4 s at most.

    Raises OSError: of all attempts the failure that says most (refused, then a time-out, then any other).
    """
    race = _Race()
    try:
        return race.run(deque(interleaved(candidates)[:_MOST_ADDRESSES]))
    finally:
        race.close()


class _Race:
    """`running` holds the attempts that are under way, with the time at which each is given up."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._running: dict[socket.socket, tuple[Candidate, float]] = {}
        self._failures: list[OSError] = []

    def run(self, waiting: deque[Candidate]) -> tuple[socket.socket, Candidate]:
        next_s = time.monotonic()
        while waiting or self._running:
            now_s = time.monotonic()
            if waiting and (now_s >= next_s or not self._running):
                self._start(waiting.popleft(), now_s)
                next_s = now_s + HEAD_START_S
                continue
            ends = [give_up_s for _, give_up_s in self._running.values()] + ([next_s] if waiting else [])
            ready = self._selector.select(max(0.0, min(ends) - now_s))
            failed_before = len(self._failures)
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                if (number := key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) == 0:
                    return self._won(key.fileobj)
                self._lost(key.fileobj, OSError(number, os.strerror(number)))
            self._give_up(time.monotonic())
            if len(self._failures) > failed_before:
                next_s = now_s  # a failure ends the head start
        raise min(self._failures, key=_says_less, default=OSError(errno.EADDRNOTAVAIL, "no address"))

    def close(self) -> None:
        for connection in self._running:
            connection.close()
        self._running.clear()
        self._selector.close()

    def _start(self, candidate: Candidate, now_s: float) -> None:
        family, sockaddr = candidate
        try:
            connection = socket.socket(family, socket.SOCK_STREAM)  # fails too: a kernel without IPv6
        except OSError as error:
            self._failures.append(error)
            return
        connection.setblocking(False)
        # Before it connects: what the kernel queues for us is what an answer has to wait behind when somebody floods us.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        self._running[connection] = (candidate, now_s + ADDRESS_TIMEOUT_S)
        number = connection.connect_ex(sockaddr)
        self._selector.register(connection, selectors.EVENT_WRITE)
        if number not in (0, errno.EINPROGRESS):
            self._lost(connection, OSError(number, os.strerror(number)))

    def _give_up(self, now_s: float) -> None:
        for connection, (_, give_up_s) in list(self._running.items()):
            if now_s >= give_up_s:
                self._lost(connection, TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))

    def _lost(self, connection: socket.socket, error: OSError) -> None:
        self._failures.append(error)
        self._selector.unregister(connection)
        del self._running[connection]
        connection.close()

    def _won(self, connection: socket.socket) -> tuple[socket.socket, Candidate]:
        candidate, _ = self._running.pop(connection)
        connection.setblocking(True)
        return connection, candidate


def _says_less(error: OSError) -> int:
    """Somebody was there; somebody may be there; nobody can be."""
    return 0 if isinstance(error, ConnectionRefusedError) else 1 if isinstance(error, TimeoutError) else 2
