"""The process around one hazardous call: `python -I -m agent.devices.worker MODULE:FUNCTION`.

Reads a JSON object, calls the function with it, writes the JSON object that it returns. See `devices.workers`.
"""

import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import sys
from typing import Any, Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_PR_SET_DUMPABLE: Final = 4
_HOME: Final = "agent.devices."


def main(job: str) -> int:
    """Exit status 0 with an answer on standard output; anything else is a crash."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # the agent's end is ours, however it ends
    libc.prctl(_PR_SET_DUMPABLE, 0)  # what a camera or a scanner saw must not be in a core file
    with contextlib.suppress(ValueError, OSError):  # the unit's filter forbids it, and has LimitCORE=0 instead
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The agent itself is protected from the kernel's memory killer; what may leak is not.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("500")
    module, _, function = job.partition(":")
    if not module.startswith(_HOME):
        raise ValueError(f"{job} is no job of a device")
    request = json.load(sys.stdin)
    # Libraries print what they like; only the answer goes where the answer is read.
    answers = os.dup(1)
    os.dup2(2, 1)
    answer: dict[str, Any] = getattr(importlib.import_module(module), function)(request)
    with open(answers, "wb") as stream:
        stream.write(json.dumps(answer).encode())
    # Not through the libraries' exit handlers: they had their say, and some hang or crash there.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
