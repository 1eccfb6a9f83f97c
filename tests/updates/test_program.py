"""`booth-update` as systemd starts it: one question in, one line out, one at a time; and what it asks of systemd itself."""

import fcntl
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest

from agent.contract.typed import build
from agent.privileged.update_orders import RUN
from agent.privileged.updating import STATE, TRIES
from agent.updates.words import Answer
from tests.privileged.booth import Booth
from tests.updates.story import OPERATOR, Root

PLAIN = "systemctl --no-ask-password"
STOPPED = f"{PLAIN} --no-block stop booth-update-deadline.timer"
STARTED = f"{PLAIN} --no-block start booth-update-deadline.timer"
RESTARTED = [f"{PLAIN} reset-failed booth-agent.service", f"{PLAIN} --no-block restart booth-agent.service"]
AS_IT_IS = ("-I", "-m", "agent.privileged.update", "--root")
WITH_TOYS = ("-m", "tests.updates.root_process")  # the same, with the kinds of a test's own


class Machine(Booth, Root):
    """A root with a `systemctl` that says what it was asked."""

    def __init__(self, folder: Path) -> None:
        Booth.__init__(self, folder)
        Root.__init__(self, folder)
        self.prepare()
        self.program("systemctl")

    def command(self, *words: str, toys: bool = True) -> list[str]:
        return [sys.executable, *(WITH_TOYS if toys else AS_IT_IS), str(self.folder), *words]

    def run(self, *words: str, given: bytes = b"", toys: bool = True) -> "subprocess.CompletedProcess[bytes]":
        done = subprocess.run(self.command(*words, toys=toys), input=given, capture_output=True, timeout=60, check=False)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return done

    def serve(self, message: bytes = b"", *, toys: bool = True, **question: Any) -> Answer:
        if message:
            question["bytes"] = len(message)
        done = self.run("serve", given=json.dumps(question).encode() + b"\n" + message, toys=toys)
        assert done.returncode == 0, done.stderr
        *before, last = [build(Answer, json.loads(line)) for line in done.stdout.splitlines()]
        assert last.last
        assert not any(answer.last for answer in before)
        return last


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@contextmanager
def asking(machine: Machine, stdout: IO[bytes] | int = subprocess.PIPE) -> Iterator["subprocess.Popen[bytes]"]:
    """A `serve` that goes on; ended when this ends."""
    pipe = subprocess.PIPE
    with subprocess.Popen(machine.command("serve"), stdin=pipe, stdout=stdout, stderr=pipe) as process:
        try:
            yield process
            process.wait(60)
        finally:
            process.kill()


def until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


# --- one story ---


def test_an_update_from_the_document_to_committed(machine: Machine) -> None:
    envelope = OPERATOR.sign("update", {"agent": machine.section("1.1")}, 1)
    answer = machine.serve(envelope, act="take", layer="booth")
    assert (answer.event, [task.todo for task in answer.tasks]) == ("accepted", ["fetch"])
    machine.fetch(answer.tasks[0])
    assert [task.todo for task in machine.serve(act="stage", kind="agent").tasks] == ["switch"]
    assert machine.said == [], "nothing has to be started yet"
    assert [task.todo for task in machine.serve(act="switch", kind="agent").tasks] == ["prove"]
    assert machine.said == [STARTED, *RESTARTED]
    assert machine.run("start").returncode == 0
    assert machine.said[3:] == [STARTED]
    answer = machine.serve(act="healthy", version="1.1", online=True)
    assert (answer.reported.phase, answer.tasks) == ("committed", [])
    assert machine.said[4:] == [
        STOPPED,
        f"{PLAIN} --no-block try-restart booth-light.service booth-button.service",
        f"{PLAIN} --no-block start booth-lockdown-check.service",
    ]
    assert machine.serve(act="status").reported.phase == "committed"
    assert machine.in_use("agent") == "1.1"


def test_a_deadline_goes_back_and_starts_what_was_there_before(machine: Machine) -> None:
    machine.until_switched()
    assert machine.run("deadline").returncode == 0
    assert (machine.in_use("agent"), machine.said) == ("1.0", [STOPPED, *RESTARTED])
    assert machine.run("deadline").returncode == 0
    assert machine.said == [STOPPED, *RESTARTED], "once"


def test_the_last_of_its_starts_goes_back_and_starts_nothing_since_a_start_is_under_way(machine: Machine) -> None:
    machine.until_switched()
    for _ in range(TRIES):
        machine.run("start")
    already = len(machine.said)
    done = machine.run("start")
    assert (done.returncode, machine.in_use("agent"), machine.said[already:]) == (0, "1.0", [STARTED, STOPPED])
    assert b"1.0 is in use again" in done.stderr


def test_a_deadline_with_nothing_to_go_back_to_does_not_start_anything_over_and_over(machine: Machine) -> None:
    machine.until_switched()
    (machine.folder / "opt/booth-agent/slots/a/release.json").unlink()
    done = machine.run("deadline")
    assert (done.returncode, machine.said) == (0, [])
    assert b"nothing to go back to" in done.stderr


def test_a_start_without_a_trial_asks_nothing_of_anybody(machine: Machine) -> None:
    before = machine.untouched()
    assert machine.run("start").returncode == 0
    assert (machine.untouched(), machine.said) == (before, [])


def test_whoever_asks_has_the_answer_before_the_agent_is_started_anew(machine: Machine) -> None:
    """Who asks is the agent, and ends then."""
    machine.until_laid()
    log, answered = machine.folder / "order", machine.folder / "answered"
    wait = f"n=0; while [ ! -e {answered} ] && [ $n -lt 400 ]; do sleep 0.05; n=$((n+1)); done"
    machine.program("systemctl", f'{wait}; [ -e {answered} ] && echo "answered $*" >> {log}; exit 0')
    with asking(machine) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"act":"switch","kind":"agent"}\n')
        process.stdin.flush()
        readable, _, _ = select.select([process.stdout], [], [], 15)
        assert readable, "it asked systemd first"
        answers = [json.loads(process.stdout.readline()) for _ in range(3)]
        assert [answer["reported"]["phase"] for answer in answers] == ["installing", "switching", "verifying"]
        assert answers[-1]["tasks"][0]["todo"] == "prove"
        answered.touch()
    assert process.returncode == 0
    assert log.read_text().splitlines() == [words.replace(PLAIN, "answered --no-ask-password") for words in (STARTED, *RESTARTED)]


def test_what_was_begun_is_brought_to_its_end_where_whoever_asked_is_gone(machine: Machine) -> None:
    machine.until_laid()
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone, asking(machine, stdout=gone) as process:
        assert process.stdin is not None
        process.stdin.write(b'{"act":"switch","kind":"agent"}\n')
        process.stdin.close()
    assert (process.returncode, machine.in_use("agent"), machine.said) == (0, "1.1", [STARTED, *RESTARTED])


@pytest.mark.parametrize("body", ["exit 1", "echo odd >&2; exit 4"])
def test_a_systemd_that_complains_stops_nothing(machine: Machine, body: str) -> None:
    machine.program("systemctl", body)
    machine.until_switched()
    assert machine.run("start").returncode == 0
    assert machine.serve(act="healthy", version="1.1", online=True).reported.phase == "committed"


# --- questions ---

BAD = {
    "nothing": b"",
    "no JSON": b"status\n",
    "no line's end": b'{"act":"status"}',
    "a list": b"[]\n",
    "no act": b"{}\n",
    "another act": b'{"act":"install"}\n',
    "another layer": b'{"act":"take","layer":"world","bytes":0}\n',
    "an unknown key": b'{"act":"status","root":"/"}\n',
    "a key twice": b'{"act":"status","act":"switch"}\n',
    "fewer bytes than said": b'{"act":"take","layer":"booth","bytes":9}\n{}',
    "less than no bytes": b'{"act":"take","layer":"booth","bytes":-1}\n',
    "True for a version": b'{"act":"healthy","version":true}\n',
    "bad UTF-8": b'{"act":"stage","kind":"\xff"}\n',
    "a huge line": b'{"act":"stage","kind":"' + b"x" * 100_000 + b'"}\n',
    "deep": b'{"act":' + b"[" * 2000 + b"\n",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_question_has_no_answer_and_no_effect(machine: Machine, name: str) -> None:
    before = machine.untouched()
    done = machine.run("serve", given=BAD[name], toys=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"booth-update: ")
    assert done.stderr.count(b"\n") == 1
    assert (machine.untouched(), machine.said) == (before, [])


def test_an_envelope_that_is_too_large_is_refused_without_being_read_to_its_end(machine: Machine) -> None:
    header = json.dumps({"act": "take", "layer": "booth", "bytes": 2**31}).encode() + b"\n"
    with asking(machine) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(header)
        with suppress(BrokenPipeError):  # it has seen enough
            while True:
                process.stdin.write(b"x" * 65_536)
        answer = json.loads(process.stdout.read())
        with suppress(BrokenPipeError):
            process.stdin.close()
    assert (answer["event"], answer["reported"]["layers"]["booth"]) == ("too-large", None)


def test_a_booth_where_nothing_was_ever_installed_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *AS_IT_IS, str(tmp_path), "show"], capture_output=True, timeout=60, check=False
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    shown = json.loads(done.stdout)
    assert (shown["tasks"], shown["reported"]["phase"], shown["reported"]["sections"]) == ([], "idle", {})


def test_what_is_in_use_is_shown(machine: Machine) -> None:
    shown = json.loads(machine.run("show", toys=False).stdout)
    assert {name: section["version"] for name, section in shown["reported"]["sections"].items()} == {
        "agent": "1.0",
        "forms": "1.0",
    }


def test_only_a_known_kind_is_installed(machine: Machine, tmp_path: Path) -> None:
    assert machine.run("install", "firmware", str(tmp_path), "1.0", toys=False).returncode == 2
    before = machine.untouched()
    (tmp_path / "empty").mkdir()
    for kind in ("agent", "forms"):
        done = machine.run("install", kind, str(tmp_path / "empty"), "1.1", toys=False)
        assert done.returncode == 1
        assert done.stderr.startswith(b"booth-update: ")
    assert machine.untouched() == before


def test_a_state_that_cannot_be_read_at_all_stops_no_start(machine: Machine) -> None:
    machine.until_switched()
    for file in (machine.folder / STATE / "documents").glob("state*.json"):
        file.write_bytes(b"\xff")
    done = machine.run("start")
    assert (done.returncode, machine.in_use("agent")) == (0, "1.1")


# --- one at a time ---


def waits_for(process: "subprocess.Popen[bytes]", file: Path) -> bool:
    """Whether a process has a file open."""
    try:
        return any(link.readlink() == file for link in Path(f"/proc/{process.pid}/fd").iterdir())
    except OSError:  # of one that was just closed
        return False


def test_a_question_waits_until_the_one_before_is_answered(machine: Machine) -> None:
    lock = machine.folder / RUN / "lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held, asking(machine) as process:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"act":"status"}\n')
        process.stdin.close()
        until(lambda: waits_for(process, lock))
        assert not select.select([process.stdout], [], [], 0)[0]
        fcntl.flock(held, fcntl.LOCK_UN)
        assert json.loads(process.stdout.readline())["tasks"] == []
    assert process.returncode == 0


def test_whoever_asks_slowly_keeps_nobody_else(machine: Machine) -> None:
    with asking(machine) as slow:
        assert slow.stdin is not None
        slow.stdin.write(b'{"act":')
        slow.stdin.flush()
        assert machine.serve(act="status").tasks == []
        assert slow.poll() is None
        slow.stdin.close()
    assert slow.returncode == 1


def test_many_at_once_leave_one_whole_state(machine: Machine) -> None:
    envelopes = [OPERATOR.sign("update", {"agent": machine.section(f"1.{rev}")}, rev) for rev in range(1, 7)]
    processes = [subprocess.Popen(machine.command("serve"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in envelopes]
    try:
        for process, envelope in zip(processes, envelopes, strict=True):
            assert process.stdin is not None
            process.stdin.write(json.dumps({"act": "take", "layer": "booth", "bytes": len(envelope)}).encode() + b"\n" + envelope)
            process.stdin.close()
        events = []
        for process in processes:
            assert process.stdout is not None
            events.append(json.loads(process.stdout.read())["event"])
            process.stdout.close()
            assert process.wait(60) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert events[-1] == "accepted"
    assert set(events) <= {"accepted", "rollback"}
    [task] = machine.serve(act="status").tasks
    assert task.version == "1.6"
