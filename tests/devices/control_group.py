"""The kernel's own control groups, for tests: one of our own, and a process in it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.devices import cgroup
from agent.devices.sysfs import KernelFiles


@contextmanager
def control_group(name: str) -> Iterator[Path]:
    """An empty one, named for its tests; removed afterwards. Skips where none can be made."""
    root = cgroup.root(KernelFiles())
    if root is None:
        pytest.skip("no control groups of version 2 are mounted here")
    folder = Path("/", root, f"booth-{name}-{os.getpid()}")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        yield folder
    finally:
        if folder.exists():
            folder.rmdir()


def process_in(group: Path) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(["sleep", "100"])
    (group / "cgroup.procs").write_text(str(process.pid))
    return process


def end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
