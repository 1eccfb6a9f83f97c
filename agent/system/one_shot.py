"""A process of ours that starts, does one thing and is gone: what it needed never enters the daemon. Decision 14."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import BinaryIO, cast


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
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(descriptor, gone.set)
    try:
        async with asyncio.timeout(deadline_s):
            await gone.wait()
    except TimeoutError:
        raise NotRun(f"no answer in {deadline_s:g} s") from None
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
    return status
