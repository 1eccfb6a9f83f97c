"""What this process costs, from /proc: the figures of `B/tele/agent`."""

import contextlib
import ctypes
import gc
import os
import resource
from typing import Final

_M_ARENA_MAX: Final = -8  # mallopt(3)


def use_one_malloc_arena() -> None:
    """Keep glibc from giving each short-lived thread a heap of its own that is never returned. Call before any thread."""
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def return_free_memory() -> None:
    """Give back what starting up needed and running does not (malloc_trim(3))."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def figures() -> dict[str, float | int]:
    """Resident memory in bytes, CPU time in seconds, and voluntary context switches (wake-ups) since the start. Without the
    memory where no file can be opened any more."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    memory = {}
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        memory["rss_bytes"] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return memory | {
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "wakeups": usage.ru_nvcsw,
    }
