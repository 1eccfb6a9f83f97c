"""What this process costs, from /proc: the figures of `B/tele/agent`."""

import os
import resource


def figures() -> dict[str, float | int]:
    """Resident memory in bytes, CPU time in seconds, and voluntary context switches (wake-ups) since the start."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm") as file:
        resident_pages = int(file.read().split()[1])
    return {
        "rss_bytes": resident_pages * os.sysconf("SC_PAGE_SIZE"),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "wakeups": usage.ru_nvcsw,
    }
