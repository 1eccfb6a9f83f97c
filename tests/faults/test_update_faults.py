"""Rows 51 to 53 and 56 of the fault catalogue, and 36, 41 and 48 again, as root's part of updates meets them: real processes, a
version that is a program, and a systemd that is played by the test.

Row 51 at every single step: `tests/updates/test_interruptions.py`; 54 and 55: `tests/faults/test_download_faults.py`; the whole
story with a real agent: `tests/updates/test_whole_story.py`.
"""

import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from agent.privileged.updating import STATE, TRIES
from agent.updates.words import Answer
from tests.documents.published import PLACES
from tests.faults.test_store_faults import fill, tmpfs
from tests.updates.story import OPERATOR
from tests.updates.test_program import RESTARTED, Machine

GOOD = b"#!/bin/sh\nexec sleep 600\n"


class Booth(Machine):
    """`started`: which versions systemd has started, one after the other. A version is a program, its slot's `body`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "opt/booth-agent/slots/a/body").write_bytes(GOOD)
        self.started: list[str] = []

    def start_agent(self) -> "subprocess.Popen[bytes]":
        """As `booth-agent.service` does: first what counts the tries, then what counts."""
        assert self.run("start").returncode == 0
        self.started.append(self.in_use("agent"))
        return subprocess.Popen(["/bin/sh", self.folder / "opt/booth-agent/current/body"], start_new_session=True)

    def switch_to(self, body: bytes) -> None:
        """Everything up to the moment at which systemd starts the new version."""
        self.until_laid(body=body)
        assert [task.todo for task in self.serve(act="switch", kind="agent").tasks] == ["prove"]
        assert self.said[-2:] == RESTARTED

    def status(self) -> Answer:
        return self.serve(act="status")


@pytest.fixture
def booth(tmp_path: Path) -> Booth:
    return Booth(tmp_path)


def end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def shown(answer: Answer) -> tuple[Any, ...]:
    reported = answer.reported
    return reported.status, reported.phase, reported.reason, reported.from_, reported.to, answer.tasks


@pytest.mark.parametrize("crash", [b"exit 1\n", b"kill -SEGV $$\n", b"exec /nowhere\n", b"if\n", b"exit 0\n"])
def test_f52_a_version_that_crashes_is_left_after_three_tries(booth: Booth, crash: bytes) -> None:
    booth.switch_to(crash)
    for _ in range(10):
        process = booth.start_agent()
        if booth.in_use("agent") == "1.0":
            break
        process.wait(10)
    try:
        assert booth.started == ["1.1"] * TRIES + ["1.0"]
        assert process.poll() is None, "what was there before runs again"
        assert shown(booth.status()) == ("reverted", "rolled-back", "does-not-start", "1.0", "1.1", [])
    finally:
        end(process)
    process = booth.start_agent()
    end(process)
    assert booth.started[-1] == "1.0", "and at every start from now on"


def test_f52_a_power_cut_at_each_of_its_starts_is_a_try_as_well(booth: Booth) -> None:
    """What takes the machine down with it must not be started for ever."""
    booth.switch_to(GOOD)
    for number in range(TRIES + 1):
        booth.boot(f"after the cut {number}")
        shutil.rmtree(booth.folder / "run")
        end(booth.start_agent())
    assert booth.started == ["1.1"] * TRIES + ["1.0"]


def test_f53_a_version_that_lives_and_does_not_prove_itself_is_left_at_the_deadline(booth: Booth) -> None:
    booth.switch_to(GOOD)
    process = booth.start_agent()
    try:
        assert booth.run("deadline").returncode == 0
        assert process.poll() is None, "whoever is alive is ended by systemd, not asked"
        assert booth.said[-2:] == RESTARTED
    finally:
        end(process)
    end(booth.start_agent())
    assert booth.started == ["1.1", "1.0"]
    assert shown(booth.status()) == ("reverted", "rolled-back", "unhealthy", "1.0", "1.1", [])


def test_f53_a_version_that_says_it_is_well_after_it_was_left_is_not_believed(booth: Booth) -> None:
    booth.switch_to(GOOD)
    booth.run("deadline")
    answer = booth.serve(act="healthy", version="1.1", online=True)
    assert (answer.reported.phase, booth.in_use("agent")) == ("rolled-back", "1.0")


# The calls to the kernel that change something on a disk; and the one that says the answer.
CHANGES = (
    r"/^(p?write|sendfile|copy_file_range|rename|link|symlink|unlink|rmdir|mkdir|f?chmod|f?truncate|fsync|syncfs)(64|at|at2)?$"
)


def traced(booth: Booth, act: str, *options: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        ["strace", "-qq", "-e", "signal=none", "-e", f"trace={CHANGES}", *options, *booth.command("serve")],
        input=b'{"act":"%s","kind":"agent"}\n' % act.encode(), capture_output=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.skipif(
    shutil.which("strace") is None or subprocess.run(["strace", "true"], capture_output=True, check=False).returncode != 0,
    reason="strace is missing, or may not trace: apt-get install strace",
)
@pytest.mark.parametrize("act", ["stage", "switch"])
def test_f51_a_process_of_roots_that_is_killed_at_any_change_leaves_a_version_that_runs(tmp_path: Path, act: str) -> None:
    """Not at steps that the program names, but at each of its calls to the kernel that changes something."""
    booth, aside = Booth(tmp_path / "booth"), tmp_path / "aside"
    if act == "stage":
        [task] = booth.publish({"agent": "1.1"}, body=GOOD).tasks
        booth.fetch(task, GOOD)
    else:
        booth.until_laid(body=GOOD)
    shutil.copytree(booth.folder, aside, symlinks=True)
    traced(booth, act, "-o", str(tmp_path / "calls"))
    lines = (tmp_path / "calls").read_text().splitlines()
    calls = [line.partition("(")[0] for line in lines]
    assert {"rename", "fsync"} <= set(calls), calls
    for number, call in enumerate(calls):
        if " = -1 " in lines[number]:  # it changed nothing
            continue
        shutil.rmtree(booth.folder)
        shutil.copytree(aside, booth.folder, symlinks=True)
        done = traced(booth, act, "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={calls[: number + 1].count(call)}")
        assert done.returncode == -signal.SIGKILL, (number, call, done.stderr)
        assert booth.in_use("agent") in ("1.0", "1.1")
        booth.updating().start()
        assert booth.in_use("agent") in ("1.0", "1.1")
        answer = booth.updating().stage("agent")
        if act == "stage":
            assert ([task.todo for task in answer.tasks], booth.in_use("agent")) == (["switch"], "1.0"), (number, call)
        else:
            booth.updating().switch("agent")
            assert booth.updating().healthy("1.1", online=True).reported.phase == "committed", (number, call)
            assert booth.in_use("agent") == "1.1"


def test_f56_an_old_update_served_for_ever_shows(booth: Booth) -> None:
    """A broker, or who took it over, that withholds what is new: the booth's `seen_rev` stays behind that of its fleet."""
    old = OPERATOR.sign("update", {"agent": booth.section("1.0")}, 5, audience=PLACES["fleet"])
    for number in range(3):
        answer = booth.serve(old, act="take", layer="fleet")
        assert answer.event == ("accepted" if number == 0 else None)
        assert booth.status().reported.layers["fleet"] == answer.reported.layers["fleet"]
        fleet = answer.reported.layers["fleet"]
        assert (fleet and (fleet.seen_rev, fleet.applied_rev), answer.reported.layers["booth"]) == ((5, 5), None)
    # What was once seen is not forgotten, even where it was refused; and the old one does not come back.
    refused = OPERATOR.sign("update", {"firmware": {}}, 8, audience=PLACES["fleet"])
    assert booth.serve(refused, act="take", layer="fleet").event == "invalid"
    for _ in range(2):
        fleet = booth.serve(old, act="take", layer="fleet").reported.layers["fleet"]
        assert fleet is not None
        assert (fleet.seen_rev, fleet.applied_rev) == (8, 5)
    newer = OPERATOR.sign("update", {"agent": booth.section("1.1")}, 9, audience=PLACES["fleet"])
    assert booth.serve(newer, act="take", layer="fleet").event == "accepted"
    answer = booth.serve(old, act="take", layer="fleet")
    assert (answer.event, [task.version for task in answer.tasks]) == ("rollback", ["1.1"])
    fleet = answer.reported.layers["fleet"]
    assert fleet is not None
    assert (fleet.seen_rev, fleet.applied_rev) == (9, 9)


def test_f36_a_flood_of_forged_documents_and_of_questions_writes_nothing(booth: Booth) -> None:
    """Whoever has the agent's user must not wear the card out, nor get a version in."""
    [task] = booth.publish({"agent": "1.1"}).tasks
    booth.fetch(task)
    state = booth.folder / STATE / "documents/state.json"
    before, inode = booth.untouched(), state.stat().st_ino
    forged = OPERATOR.sign("update", {"agent": booth.section("6.6")}, 9)[:-9] + b'x"}]}    '
    for _ in range(30):
        assert booth.updating().take("booth", forged).event in ("bad-envelope", "bad-signature", "untrusted-key")
        booth.updating().switch("agent")
        booth.updating().healthy("1.1", online=True)
        booth.updating().status()
    assert booth.untouched() == before
    assert state.stat().st_ino == inode, "it was not written anew"


@pytest.mark.parametrize("kind", ["agent", "forms"])
def test_f41_a_full_disk_in_the_middle_of_an_update_leaves_what_is_in_use(tmp_path: Path, kind: str) -> None:
    """At each amount of room that is left, from none to enough."""
    with tmpfs(tmp_path / "disk", "size=80m") as disk:
        booth = Booth(disk)
        body = GOOD + bytes(600_000)
        [task] = booth.publish({kind: "1.1"}, body=body).tasks
        booth.fetch(task, body)
        filler = fill(disk)
        for left in (*range(0, 2_000_001, 250_000), 16 << 20, 70 << 20):
            filler.unlink()
            fill(disk)
            with filler.open("rb+") as file:
                file.truncate(max(0, filler.stat().st_size - left))
            done = booth.run("serve", given=b'{"act":"stage","kind":"%s"}\n' % kind.encode())
            assert booth.in_use(kind) == "1.0"
            if done.returncode == 0 and b'"todo":"switch"' in done.stdout:
                break
            assert b"disk-full" in done.stdout or b"No space left" in done.stderr, (left, done)
        else:
            pytest.fail("it never found room")
        assert left > 0
        filler.unlink()
        booth.serve(act="switch", kind=kind)
        assert booth.in_use(kind) == "1.1"


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff" * 100, b'{"accepted": 3}'])
def test_f48_a_state_that_is_damaged_in_the_middle_of_a_trial_is_the_one_before_it(booth: Booth, damage: bytes) -> None:
    booth.switch_to(b"exit 1\n")
    (booth.folder / STATE / "documents/state.json").write_bytes(damage)
    for _ in range(TRIES + 1):
        end(booth.start_agent())
    assert booth.started[-1] == "1.0"


def test_the_program_ends_by_itself_in_a_moment_and_leaves_nothing_running(booth: Booth) -> None:
    began_s = time.monotonic()
    booth.status()
    assert time.monotonic() - began_s < 20
    assert {file.name for file in (booth.folder / "run/booth-update").iterdir()} == {"lock"}
