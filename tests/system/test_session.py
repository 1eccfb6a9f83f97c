"""The session lock: shared by the agent's own checks, exclusive against a citizen, freed by the kernel."""

import asyncio
import os
import subprocess
import sys
from contextvars import copy_context
from pathlib import Path

import pytest

from agent.system import session
from agent.system.session import LOCK_NAME, SessionLock, open_lock, try_lock

OWNER = """
import sys, time, pathlib
from agent.system.session import open_lock, try_lock
assert try_lock(open_lock(pathlib.Path(sys.argv[1])))
print("held", flush=True)
time.sleep(300)
"""


def holds(folder: Path) -> int:
    """A citizen's session, as an application would hold it."""
    descriptor = open_lock(folder)
    assert try_lock(descriptor)
    return descriptor


def test_an_idle_booth_can_be_taken_and_is_free_afterwards(tmp_path: Path) -> None:
    lock = SessionLock(tmp_path)
    assert not lock.held()
    with lock.taken() as ours:
        assert ours
        application = open_lock(tmp_path)
        assert not try_lock(application)
    assert try_lock(application)
    os.close(application)


def test_a_session_is_seen_and_nothing_is_taken_from_it(tmp_path: Path) -> None:
    lock = SessionLock(tmp_path)
    citizen = holds(tmp_path)
    assert lock.held()
    with lock.taken() as ours:
        assert not ours
    os.close(citizen)
    assert not lock.held()


def test_the_agents_own_checks_share_one_hold(tmp_path: Path) -> None:
    lock = SessionLock(tmp_path)
    application = open_lock(tmp_path)
    with lock.taken() as scanner:
        with lock.taken() as camera:
            assert scanner
            assert camera
            assert not lock.held()  # by a citizen
        assert not try_lock(application)  # the scanner still works
    assert try_lock(application)
    os.close(application)


def test_a_check_that_fails_gives_the_lock_back(tmp_path: Path) -> None:
    lock = SessionLock(tmp_path)
    with pytest.raises(RuntimeError), lock.taken():
        raise RuntimeError
    assert not lock.held()
    os.close(holds(tmp_path))


def test_f77_the_kernel_frees_it_when_its_owner_dies(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"held\n"
    lock = SessionLock(tmp_path)
    assert lock.held()
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert not lock.held()


async def test_no_child_keeps_the_lock(tmp_path: Path) -> None:
    lock = SessionLock(tmp_path)
    with lock.taken():
        child = await asyncio.create_subprocess_exec("sleep", "60", close_fds=False)
    try:
        assert not lock.held()
        os.close(holds(tmp_path))
    finally:
        child.kill()
        await child.wait()


def test_what_cannot_be_opened_counts_as_a_session(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lock = SessionLock(tmp_path / "missing")
    assert lock.held()
    assert lock.held()
    assert len(caplog.records) == 1  # said once
    (tmp_path / "missing").mkdir()
    assert not lock.held()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).symlink_to(tmp_path / "elsewhere")
    assert SessionLock(tmp_path).held()
    assert not (tmp_path / "elsewhere").exists()


async def test_further_checks_join_a_hold_for_a_while_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one check after the other would keep a citizen waiting for ever."""
    lock = SessionLock(tmp_path)
    with lock.taken() as first, lock.taken() as second:
        assert (first, second) == (True, True)
    monkeypatch.setattr(session, "_SHARED_S", 0.0)
    outside = copy_context()  # that of a task which is as old as the agent
    with lock.taken() as remedy, lock.taken() as its_probe:
        assert (remedy, its_probe) == (True, True)
        assert not await asyncio.create_task(another(lock), context=outside)
    assert await asyncio.create_task(another(lock), context=outside)


async def another(lock: SessionLock) -> bool:
    """A check of somebody else's."""
    with lock.taken() as ours:
        return ours
