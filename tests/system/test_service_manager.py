"""systemd's protocols, against sockets of the test's own: notification, and the journal's fields."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent.system import service_manager
from tests.machine.namespace import missing_mounts

_LOGS_ONE_RECORD = """
import logging, os, socket
os.makedirs("/run/systemd/journal")
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind("/run/systemd/journal/socket")
os.environ["JOURNAL_STREAM"] = "1:2"
from agent.system import service_manager
service_manager.log_to_journal_or_stderr()
logging.getLogger("agent.test").warning("paper %s", "out", extra={"peripheral": "receipt-printer", "code": "media-empty"})
print(journal.recv(65536).decode(errors="replace"))
"""


def test_notify_says_the_state_to_the_service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        service_manager.notify("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_notify_is_silent_without_a_service_manager_and_survives_one_that_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    service_manager.notify("READY=1")
    assert not caplog.records
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    service_manager.notify("READY=1")
    assert "service manager not reached" in caplog.text


@pytest.mark.parametrize(
    ("environment", "wanted_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_at_half_its_deadline_by_the_process_it_is_meant_for(
    environment: dict[str, str], wanted_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert service_manager.watchdog_interval_s() == wanted_s


def test_a_log_record_reaches_the_journal_with_its_fields() -> None:
    if reason := missing_mounts():
        pytest.skip(reason)
    # A journal socket of the test's own, in a mount namespace: the machine's is not touched.
    script = 'mkdir -p /run/systemd && mount -t tmpfs none /run/systemd && exec "$0" -c "$1"'
    result = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, sys.executable, _LOGS_ONE_RECORD],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    fields = result.stdout.splitlines()
    assert "MESSAGE=paper out" in fields, result.stderr
    assert "BOOTH_PERIPHERAL=receipt-printer" in fields
    assert "BOOTH_CODE=media-empty" in fields
    assert "PRIORITY=4" in fields
    assert "BOOTH_TEMPLATE=paper %s" in fields, "what a diagnostics bundle takes, in place of the message"


def test_the_library_is_systemd_python_and_not_the_folder_of_that_name() -> None:
    from systemd import daemon  # noqa: PLC0415

    assert "site-packages" in str(daemon.__file__)
