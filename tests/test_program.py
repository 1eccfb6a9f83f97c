"""`booth-agent` as an installer and systemd start it: exit statuses, and what is printed where."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent import VERSION
from agent.peripherals import declared
from agent.simulator.receipt_printer import ReceiptPrinter
from tests.world import BIN

GOOD = """
[booth]
id = "61-0007"
area = "61"
[broker]
url = "mqtt://127.0.0.1:9"
[peripherals.receipt-printer]
kind = "receipt-printer"
device = "tcp://127.0.0.1:{port}"
[peripherals.board]
kind = "board"
"""
BAD = """
[booth]
id = "Booth 7"
area = "61"
[broker]
url = "mqtt://broker.example"
[peripherals.toaster]
kind = "toaster"
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A good file, whose printer nobody plugged in."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = tmp_path / "agent.toml"
    file.write_text(GOOD.replace("{port}", str(port)))
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "agent.toml"
    file.write_text(BAD)
    return file


def run(*arguments: object, **env: object) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_DIRECTORY")}
    done = subprocess.run(
        [str(BIN / "booth-agent"), *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        env=clean | {name: str(value) for name, value in env.items()},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


# --- usage ---


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"booth-agent {VERSION}\n", "")


@pytest.mark.parametrize("arguments", [(), ("fly",), ("run", "--fast"), ("probe", "a", "b"), ("demo", "--for", "long")])
def test_what_it_does_not_understand_is_usage(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: booth-agent" in done.stderr


def test_help_names_every_act() -> None:
    help_ = run("--help").stdout
    for act in ("run", "check-config", "probe", "demo"):
        assert act in help_


def test_the_module_is_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "agent", "--version"], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"booth-agent {VERSION}\n")


# --- check-config ---


def test_a_good_file_is_said_to_be_good(good: Path) -> None:
    done = run("check-config", "--config", good)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{good}: good. Booth 61-0007 in 61: receipt-printer, board.\n"


def test_the_file_is_taken_from_the_configuration_directory_too(good: Path) -> None:
    assert run("check-config", CONFIGURATION_DIRECTORY=good.parent).returncode == 0


def test_every_problem_is_a_line_of_its_own_and_the_last_one_counts_them(bad: Path) -> None:
    done = run("check-config", "--config", bad)
    assert (done.returncode, done.stdout) == (1, "")
    *lines, count = done.stderr.splitlines()
    assert {line.split(": ")[1] for line in lines} == {"booth.id", "broker.url", "peripherals.toaster.kind"}
    assert all(line.startswith(f"{bad}: ") for line in lines)
    assert count == f"booth-agent: 3 problems in {bad}"


def test_one_problem_is_counted_in_english(good: Path) -> None:
    good.write_text(good.read_text() + "interval_s = 1\n")
    assert run("check-config", "--config", good).stderr.splitlines()[-1] == f"booth-agent: 1 problem in {good}"


@pytest.mark.parametrize("act", ["check-config", "run", "probe"])
def test_a_file_that_is_not_there_is_said_with_what_to_do(act: str, tmp_path: Path) -> None:
    file = tmp_path / "nowhere.toml"
    done = run(act, "--config", file)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"booth-agent: {file}: No such file or directory; name the file with --config FILE" in done.stderr


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "Is a directory" in run("check-config", "--config", tmp_path).stderr


def test_broken_toml_is_said_with_its_line(good: Path) -> None:
    good.write_text("[booth]\nid = '61-0007\narea = '61'\n")
    done = run("check-config", "--config", good)
    assert done.returncode == 1
    assert "this is not TOML" in done.stderr
    assert "line 2" in done.stderr


# --- probe ---


def test_probe_prints_each_peripheral_with_status_findings_and_facts(good: Path) -> None:
    done = run("probe", "--config", good)
    assert (done.returncode, done.stderr) == (0, "")
    printer, board = done.stdout.split("\nboard  ")
    assert printer.startswith("receipt-printer  absent  (")
    assert "\n    ! fault no-device reason=" in printer
    assert "\n    paper = –" in printer
    for fact in declared()["board"].facts:
        assert f"\n    {fact.name} = " in board


def test_probe_json_is_a_list_and_of_one_peripheral_an_object(good: Path) -> None:
    everything = json.loads(run("probe", "--json", "--config", good).stdout)
    assert [item["peripheral"] for item in everything] == ["receipt-printer", "board"]
    one = json.loads(run("probe", "board", "--json", "--config", good).stdout)
    assert one["peripheral"] == "board"
    assert one.keys() == everything[1].keys() >= {"status", "findings", "facts", "device", "since", "checked_at", "took_ms"}
    assert one["facts"].keys() == {fact.name for fact in declared()["board"].facts}


def test_probe_of_a_peripheral_that_is_not_configured_is_usage_and_names_those_that_are(good: Path) -> None:
    done = run("probe", "scanner", "--config", good)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "booth-agent: no peripheral 'scanner'; there are receipt-printer, board\n"


def test_probe_with_a_bad_file_says_what_is_wrong(bad: Path) -> None:
    done = run("probe", "--config", bad)
    assert (done.returncode, done.stdout) == (1, "")
    assert "3 problems" in done.stderr


async def test_probe_says_at_once_what_the_daemon_would_wait_for(good: Path) -> None:
    printer = ReceiptPrinter()
    port = await printer.listen()
    good.write_text(GOOD.replace("{port}", str(port)))

    async def probe() -> Any:
        process = await asyncio.create_subprocess_exec(
            str(BIN / "booth-agent"), "probe", "receipt-printer", "--json", "--config", str(good), stdout=subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        return json.loads(output)

    try:
        assert (await probe())["status"] == "ok"
        printer.change(switched_offline=True)  # the daemon believes it after 2 s
        offline = await probe()
        assert (offline["status"], [item["code"] for item in offline["findings"]]) == ("fault", ["offline"])
        assert offline["facts"]["online"] is False
    finally:
        await printer.close()


# --- run ---


def test_run_with_a_bad_file_says_every_problem_and_starts_nothing(bad: Path, tmp_path: Path) -> None:
    done = run("run", "--config", bad, "--state-dir", tmp_path / "state")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == f"booth-agent: 3 problems in {bad}"
    assert not (tmp_path / "state" / "store.db").exists()


def test_run_without_a_state_directory_says_how_to_name_one(good: Path, tmp_path: Path) -> None:
    missing = tmp_path / "state"
    done = run("run", "--config", good, STATE_DIRECTORY=missing)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"booth-agent: there is no directory {missing}; name one with --state-dir DIR\n"


def test_run_with_a_state_directory_that_cannot_be_made_says_so(good: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("run", "--config", good, "--state-dir", tmp_path / "file" / "state")
    assert done.returncode == 1
    assert done.stderr == f"booth-agent: cannot make {tmp_path}/file/state: Not a directory\n"


def test_a_second_agent_on_the_same_state_directory_ends_at_once_and_says_why(good: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    command = [str(BIN / "booth-agent"), "run", "--config", str(good), "--state-dir", str(state)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert first.stderr is not None
        # Nobody listens there; the agent runs all the same.
        assert any("no connection to the broker" in line for line in first.stderr)
        done = run("run", "--config", good, "--state-dir", state)
        assert done.returncode == 1
        assert done.stderr.startswith("booth-agent: ")
        assert first.poll() is None
    finally:
        first.terminate()
        _, rest = first.communicate(timeout=20)
    assert first.returncode == 0, rest
