"""A process of ours that starts, does one thing and is gone: what it needed never enters the daemon. Decision 14."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import BinaryIO, Final, cast

_DIES_WITHIN_S: Final = 2.0  # after SIGKILL; one that is still there then is stuck in the kernel


class NotRun(OSError):
    """It could not be started, or did not end in time. The message says which."""


def in_memory(name: str) -> BinaryIO:
    """A file that no disk has. Between processes better than a pipe: neither side can block the other, and there is nothing to
    pump."""
    return cast("BinaryIO", open(os.memfd_create(name), "w+b"))


async def run_module(
    module: str, arguments: Sequence[str], stdin: int, stdout: int, deadline_s: float, descriptors: Sequence[int] = ()
) -> int:
    """Its exit status. At the deadline, and where nobody waits any more, its whole process group is killed. Raises NotRun."""
    try:
        # -I: neither the caller's folder nor PYTHON* variables choose what is imported.
        command = [sys.executable, "-I", "-m", module, *arguments]
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns once the process exists
            command, stdin=stdin, stdout=stdout, cwd="/", start_new_session=True, pass_fds=tuple(descriptors)
        )
        descriptor = os.pidfd_open(process.pid)
    except OSError as error:
        raise NotRun(f"it did not start: {error.strerror}") from error
    gone = _gone(process, descriptor)
    try:
        async with asyncio.timeout(deadline_s):
            return await asyncio.shield(gone)
    except TimeoutError:
        raise NotRun(f"no answer in {deadline_s:g} s") from None
    finally:
        if not gone.done():
            os.killpg(process.pid, signal.SIGKILL)  # not yet reaped: it is still ours to name
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DIES_WITHIN_S):
                    await asyncio.shield(gone)


def _gone(process: "subprocess.Popen[bytes]", descriptor: int) -> "asyncio.Future[int]":
    """Its status, once the kernel has ended it. The loop does not wait for that: one that is stuck in the kernel takes long."""
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[int] = loop.create_future()

    def ended() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        with contextlib.suppress(ProcessLookupError):  # whatever it started; it is ours to name until it is reaped
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
        if not gone.done():
            gone.set_result(status)

    loop.add_reader(descriptor, ended)
    return gone
