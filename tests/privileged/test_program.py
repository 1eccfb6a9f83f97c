"""`booth-act` as systemd starts it: one line in, one verdict out, and nothing else of the client goes anywhere."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent.privileged.acts import ACTS
from tests.privileged.booth import Booth

SLOT_OF = {"usb": "receipt-printer", "queues": "document-printer", "interfaces": "network", "units": "kiosk", "boards": "board"}
STRANGERS = (b"camera", b"forms", b"wlan0", b"1-1", b"--help", b"-h", b"-", b"receipt-printer-", b"a" * 64)
MALFORMED = (
    b"\n", b"receipt-printer", b"receipt-printer\r\n", b" receipt-printer\n", b"receipt-printer \n", b"Receipt-Printer\n",
    b"receipt-printer\nreceipt-printer\n", b"receipt-printer\nx", b"receipt-printer\x00\n", b"receipt\xffprinter\n",
    "reçu\n".encode(), b"a" * 65 + b"\n", b"a" * 100_000, b"\x00" * 64 + b"\n", b"\xe2\x80\xae\n", b"{}\n", b"usb-1.2\n",
    b"../../etc/passwd\n", b"/etc/passwd\n", b"receipt-printer/../x\n", b".\n", b"..\n", b"1-1.2\n", b"%n%s\n", b"*\n",
    b"receipt-printer;reboot\n", b"$(reboot)\n", b"`reboot`\n", b"receipt-printer --help\n",
)  # fmt: skip


def command(booth: Booth, act: str, *options: str) -> list[str]:
    return [sys.executable, "-I", "-m", "agent.privileged", act, "--root", str(booth.root), *options]


def run(booth: Booth, act: str, line: bytes, *options: str, wrapper: tuple[str, ...] = ()) -> dict[str, Any]:
    done = subprocess.run([*wrapper, *command(booth, act, *options)], input=line, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stdout.endswith(b"\n")
    assert done.stdout.count(b"\n") == 1
    verdict: dict[str, Any] = json.loads(done.stdout)
    assert list(verdict) == ["act", "slot", "done", "code", "detail"]
    assert verdict["done"] is (verdict["code"] == "done")
    return verdict | {"log": done.stderr.decode()}


def test_done(booth: Booth) -> None:
    booth.slots()
    booth.plug("1-1.2", {"07": "usblp"})
    assert run(booth, "usb-rebind", b"receipt-printer\n") == {
        "act": "usb-rebind",
        "slot": "receipt-printer",
        "done": True,
        "code": "done",
        "detail": None,
        "log": "<5>usb-rebind receipt-printer: done\n",
    }


@pytest.mark.parametrize("line", [*MALFORMED, b""])
def test_what_is_no_name_is_a_bad_request(booth: Booth, line: bytes) -> None:
    booth.slots()
    booth.program("systemctl")
    verdict = run(booth, "reboot", line)
    assert (verdict["code"], verdict["slot"], verdict["log"]) == ("bad-request", None, "")
    assert booth.said == []


@pytest.mark.parametrize("line", STRANGERS)
def test_a_name_that_is_no_key_is_an_unknown_slot(booth: Booth, line: bytes) -> None:
    booth.slots()
    booth.program("systemctl")
    verdict = run(booth, "reboot", line + b"\n")
    assert (verdict["code"], verdict["slot"], verdict["log"]) == ("unknown-slot", line.decode(), "")
    assert booth.said == []


@pytest.mark.parametrize("act", ACTS)
def test_a_slot_counts_only_in_the_acts_own_tables(booth: Booth, act: str) -> None:
    booth.slots()
    for table, slot in SLOT_OF.items():
        code = run(booth, act, f"{slot}\n".encode())["code"]
        assert (code == "unknown-slot") is (table not in ACTS[act].tables)
    verdict = run(booth, act, b"nowhere\n")
    assert (verdict["code"], verdict["slot"], verdict["log"]) == ("unknown-slot", "nowhere", "")


@pytest.mark.parametrize(
    ("act", "times"),
    [("usb-rebind", 10), ("purge-spool", 60), ("restart-cups", 6), ("restart-kiosk", 12), ("free-disk", 4), ("reboot", 1)],
)
def test_no_more_often_than_written_down(booth: Booth, act: str, times: int) -> None:
    booth.slots()
    for name in ("systemctl", "cancel", "lpstat", "journalctl"):
        booth.program(name)
    booth.plug("1-1.2", {"07": "usblp"})
    slot = SLOT_OF[ACTS[act].tables[0]]
    codes = [run(booth, act, f"{slot}\n".encode())["code"] for _ in range(times + 1)]
    assert codes == ["done"] * times + ["rate-limited"]


def test_the_board_has_one_count_of_reboots_and_it_is_on_the_disk(booth: Booth) -> None:
    booth.slots()
    booth.program("systemctl")
    assert run(booth, "reboot", b"kiosk\n")["code"] == "done"
    shutil.rmtree(booth.root / "run")  # as at a reboot
    assert run(booth, "reboot", b"board\n")["code"] == "rate-limited"
    assert booth.said == ["systemctl --no-ask-password --no-wall reboot"]


def test_a_reboot_that_cannot_be_counted_does_not_happen(booth: Booth) -> None:
    booth.slots()
    booth.program("systemctl")
    (booth.root / "var/lib/booth-acts").rmdir()
    (booth.root / "var/lib/booth-acts").touch()
    assert run(booth, "reboot", b"board\n")["code"] == "refused"
    assert booth.said == []


def test_a_list_that_others_can_write_is_not_read(booth: Booth) -> None:
    booth.slots().chmod(0o666)
    verdict = run(booth, "usb-reset", b"receipt-printer\n")
    assert verdict["code"] == "refused"
    assert "can be written by others" in verdict["log"]


def test_what_the_kernel_answers_is_a_detail(booth: Booth) -> None:
    booth.slots()
    booth.plug("1-1.2", {"07": "usblp"})
    verdict = run(booth, "usb-reset", b"receipt-printer\n")
    assert verdict["code"] == "failed"
    assert verdict["detail"].endswith("dev/bus/usb/001/001: Inappropriate ioctl for device")


def test_what_a_tool_says_is_made_harmless_and_short(booth: Booth) -> None:
    booth.slots()
    booth.program("systemctl", "printf '\\033[2J\\342\\200\\256%0500d' 7 >&2; [ $2 = is-failed ] && exit 1; exit 9")
    verdict = run(booth, "restart-kiosk", b"kiosk\n")
    assert verdict["code"] == "failed"
    assert verdict["detail"].startswith("systemctl: \\x1b[2J\\u202e0000")
    assert len(verdict["detail"]) == 128


def test_places_may_be_named_apart(booth: Booth, tmp_path: Path) -> None:
    elsewhere = booth.slots().rename(tmp_path / "other.toml")
    booth.plug("1-1.2", {"07": "usblp"})
    options = ("--slots", str(elsewhere), "--run", str(tmp_path / "counts"), "--state", str(tmp_path / "state"))
    assert run(booth, "usb-rebind", b"receipt-printer\n", *options)["code"] == "done"
    assert (tmp_path / "counts/usb-rebind/receipt-printer").exists()


def test_an_act_that_is_not_written_down_is_usage(booth: Booth) -> None:
    done = subprocess.run(command(booth, "fly"), input=b"", capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, b"")


def test_a_client_that_says_nothing_is_hung_up_on(booth: Booth) -> None:
    booth.slots()
    reader, writer = os.pipe()
    began_s = time.monotonic()
    process = subprocess.Popen(command(booth, "reboot"), stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    os.close(reader)
    os.write(writer, b"receipt-print")  # and never the end of the line
    output, _ = process.communicate(timeout=30)
    os.close(writer)
    assert json.loads(output)["code"] == "bad-request"
    assert 4.9 < time.monotonic() - began_s < 15


def test_a_client_that_has_gone_is_no_trouble(booth: Booth) -> None:
    booth.slots()
    booth.plug("1-1.2", {"07": "usblp"})
    reader, writer = os.pipe()
    process = subprocess.Popen(command(booth, "usb-rebind"), stdin=subprocess.PIPE, stdout=writer, stderr=subprocess.PIPE)
    os.close(reader)
    os.close(writer)
    _, errors = process.communicate(b"receipt-printer\n", timeout=30)
    assert (process.returncode, errors) == (0, b"<5>usb-rebind receipt-printer: done\n")


def test_told_to_end_it_gives_back_what_it_took(booth: Booth) -> None:
    booth.slots()
    file = booth.plug("1-1.2", {"07": "usblp"}) / "authorized"
    process = subprocess.Popen(
        command(booth, "usb-authorize"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    process.stdin.write(b"receipt-printer\n")
    process.stdin.flush()
    end_s = time.monotonic() + 20
    while not file.read_text().startswith("0"):
        assert time.monotonic() < end_s
        time.sleep(0.01)
    process.terminate()
    output, _ = process.communicate(timeout=10)
    assert (process.returncode, output) == (143, b"")
    assert file.read_text().startswith("1")


CANARY = "canary-0e7f"


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing: apt-get install strace")
@pytest.mark.parametrize("act", ["usb-power", "enable-queue", "bounce-link", "reboot"])
def test_the_clients_line_is_never_a_path_or_an_argument(booth: Booth, act: str) -> None:
    """Every system call with a path or a program's arguments, of the act and its children: a name that is no key is in none."""
    booth.slots()
    for name in ("systemctl", "cancel", "lpstat", "cupsenable", "cupsaccept", "nmcli", "ip"):
        booth.program(name)
    trace = booth.root / "trace"
    strace = ("strace", "-f", "-qq", "-s", "500", "-e", "trace=%file,%process,mkdir,open,openat", "-o", str(trace))
    for line in (f"{CANARY}\n", f"../{CANARY}\n", f"{CANARY}/../x\n", f"--{CANARY}\n", f"$({CANARY})\n"):
        assert run(booth, act, line.encode(), wrapper=strace)["code"] in ("unknown-slot", "bad-request")
        assert "execve" in trace.read_text()
        assert CANARY not in trace.read_text()
    assert not [file for file in booth.root.rglob("*") if CANARY in file.name]
    slot = SLOT_OF[ACTS[act].tables[0]]
    run(booth, act, f"{slot}\n".encode(), wrapper=strace)
    if not ACTS[act].lasting:
        assert f"/{act}/{slot}" in trace.read_text(), "a key of the list names its count: what the trace would show"


def test_it_starts_small() -> None:
    """No event loop, no MQTT, none of the agent's own doings: each connection pays for what is imported."""
    script = "import sys, agent.privileged.__main__; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"asyncio", "cryptography", "paho", "ssl", "socket", "sqlite3", "ctypes", "multiprocessing"} & set(modules)
    ours = {name for name in modules if re.match(r"agent\.(?!privileged|contract)", name)}
    assert ours <= {"agent.documents", "agent.documents.disk", "agent.lockdown", "agent.lockdown.rule"} | {
        f"agent.lockdown.{name}" for name in ("kiosk_files", "printing", "session")
    }
