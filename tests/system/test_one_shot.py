"""A process of ours for one thing: its status, its deadline, and a kernel that does not let it go."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.system.one_shot import NotRun, run_module


async def test_its_status_is_told() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    try:
        assert await run_module("platform", ["--version"], null, null, 30) == 0
        assert await run_module("no_such_module", [], null, null, 30) == 1
    finally:
        os.close(null)


async def test_one_that_the_kernel_does_not_let_go_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stuck in the kernel, SIGKILL does nothing: here it is held back."""
    kept: list[int] = []
    kill: Callable[[int, int], None] = os.killpg

    def late(group: int, _signal: int) -> None:
        kept.append(group)

    monkeypatch.setattr("agent.system.one_shot.os.killpg", late)
    null = os.open(os.devnull, os.O_RDWR)
    never = os.open(_fifo(tmp_path), os.O_RDWR)
    try:
        began_s = time.monotonic()
        with pytest.raises(NotRun, match=r"no answer in 0\.2 s"):
            await run_module("fileinput", ["-"], never, null, 0.2)
        assert time.monotonic() - began_s < 5
    finally:
        monkeypatch.undo()
        for group in set(kept):
            kill(group, 9)
        await _reaped(kept[0])
        os.close(null)
        os.close(never)


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "silence")
    return folder / "silence"


async def _reaped(pid: int) -> None:
    """By the loop's own watch, as soon as the kernel has ended it."""
    async with asyncio.timeout(30):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.02)
