"""What a slot's agent says of itself, in a process that can neither hang nor leave anything behind."""

import contextlib
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Final

from agent.updates.kind import NotGood

WITHIN_S: Final = 25.0  # on a slow card; twice this is less than a citizen waits, before whom it is asked again
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin", "LANG": "C.UTF-8"}  # nothing else is inherited
_READ: Final = 64 * 1024


def said_by(slot: Path, *arguments: str) -> str:
    """The last line that the slot's `booth-agent ARGUMENTS` writes. Raises NotGood where it fails, with the last line of its
    complaint, or does not end in time: then all that it started is killed."""
    what = f"booth-agent {arguments[0]}"
    output, complaints = (os.memfd_create(name) for name in ("output", "complaints"))  # no pipe, which somebody could hold open
    try:
        # -I: nobody's folder and variables choose what is imported. -B: asking changes nothing in the slot.
        process = subprocess.Popen(
            [slot / "bin/python3", "-I", "-B", "-m", "agent", *arguments],
            stdin=subprocess.DEVNULL, stdout=output, stderr=complaints, env=_ENVIRONMENT, cwd="/", start_new_session=True,
        )  # fmt: skip
        status = _ended(process)
        if status is None:
            raise NotGood("selftest-failed", f"{what} did not end within {WITHIN_S:g} s")
        if status != 0:
            raise NotGood("selftest-failed", f"{what} ended with status {status}: {_last_line(complaints)}")
        return _last_line(output)
    except OSError as error:
        raise NotGood("selftest-failed", f"{what} does not start: {error.strerror}") from error
    finally:
        os.close(output)
        os.close(complaints)


def _ended(process: "subprocess.Popen[bytes]") -> int | None:
    """Its exit status, None where it had to be killed. Whatever it started is killed with it."""
    descriptor = os.pidfd_open(process.pid)
    try:
        in_time, _, _ = select.select([descriptor], [], [], WITHIN_S)
    finally:
        os.close(descriptor)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # not yet reaped: the group is still ours to name
        status = process.wait()
    return status if in_time else None


def _last_line(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, _READ, max(0, size - _READ)).decode(errors="replace")
    return (text.strip().splitlines() or ["no word"])[-1]
