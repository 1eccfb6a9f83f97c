"""Control groups: whether any process of a systemd unit lives. Kernel documentation: admin-guide/cgroup-v2.rst."""

import re
from typing import Final

from agent.devices.sysfs import KernelFiles

# The second: version 2 mounted beside version 1, as systemd did by default until Debian 11.
_ROOTS: Final = ("sys/fs/cgroup", "sys/fs/cgroup/unified")


def root(files: KernelFiles) -> str | None:
    """Where version 2 is mounted; None where the kernel was told to do without it."""
    return next((place for place in _ROOTS if files.text(f"{place}/cgroup.controllers") is not None), None)


def of_unit(unit: str) -> str:
    """The group below the root in which systemd runs a system unit that has no `Slice=` of its own.

    Instances of a template share a slice: `cage@tty1.service` is in `system.slice/system-cage.slice/`.
    """
    prefix, at, _ = unit.partition("@")
    if not at:
        return f"system.slice/{unit}"
    escaped = re.sub(r"[-\\]", lambda found: f"\\x{ord(found[0]):02x}", prefix)
    return f"system.slice/system-{escaped}.slice/{unit}"


def events(group: str) -> str:
    """The pollable file that says whether a group is populated; it goes when the unit stops.

    The kernel announces a change once in 10 ms, and what it owes of that is lost with the group.
    """
    return f"{group}/cgroup.events"


def populated(files: KernelFiles, group: str) -> bool:
    """Whether a process lives in the group or below it. A group that is gone has none."""
    return "populated 1" in (files.text(events(group)) or "").splitlines()


def identity(files: KernelFiles, group: str) -> int | None:
    """What tells a group from a later one of the same name: its inode, which the kernel does not use again."""
    try:
        return files.path(group).stat().st_ino
    except OSError:
        return None
