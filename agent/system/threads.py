"""A blocking call in a thread of its own, awaited with a deadline.

For calls that the kernel or libc may hold for long (name resolution, a connection, a disk), never
for device libraries: a thread cannot be killed, only left behind. Threads are daemons, so that one
left behind does not hold up the end of the process, as those of `concurrent.futures` do.
"""

import asyncio
import errno
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_thread(call: Callable[[], T], name: str) -> "asyncio.Future[T]":
    """Start `call` in a new thread; the future has its result or its exception. Raises OSError where no thread is to be had."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def body() -> None:
        try:
            outcome: tuple[T | None, BaseException | None] = (call(), None)
        except BaseException as error:  # noqa: BLE001 - handed to whoever awaits, not swallowed
            outcome = (None, error)
        try:
            loop.call_soon_threadsafe(deliver, *outcome)
        except RuntimeError:  # the loop ended first; nobody waits any more
            return

    try:
        threading.Thread(target=body, name=name, daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, "no thread is to be had") from error
    return future
