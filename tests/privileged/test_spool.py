"""On a real cupsd: what citizens left in a queue is never printed afterwards, whatever the error policy, and whoever died."""

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.privileged import cups
from agent.privileged.machine import Machine
from agent.privileged.slots import Slots
from agent.privileged.verdict import Ended
from tests.privileged.booth import Booth, Recorded
from tests.privileged.print_server import MISSING, QUEUE, PrintServer
from tests.privileged.test_program import run

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} missing: apt-get install cups-daemon cups-client")

HOUSE = Path(__file__).parents[2]
Act = Callable[[Machine, Slots, str], None]
POLICIES = ("abort-job", "retry-job", "retry-current-job", "stop-printer")
SLOTS = Slots(queues={"document-printer": QUEUE})
CANARY = "canary-0e7f"


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="booth-") as folder:
        yield Path(folder)


@pytest.fixture
def server(root: Path, request: pytest.FixtureRequest) -> Iterator[PrintServer]:
    running = PrintServer(root, getattr(request, "param", "stop-printer"))
    running.start()
    yield running
    running.end()


def leave_documents(server: PrintServer) -> None:
    """A citizen prints on a printer that fails, and goes: documents that wait, are held, came when the queue stood still."""
    server.mode("fail")
    server.submit("OLD-1", user="alice", title=CANARY)
    server.until(server.tried, "the printer fails")
    server.submit("OLD-2", user=CANARY)
    server.submit("OLD-3", held=True)
    server.tool("cupsdisable", QUEUE)
    server.submit("OLD-4")
    server.until(lambda: "disabled" in server.queue(), "the queue is stopped")
    assert len(server.jobs()) >= 2
    server.mode("print")


def next_citizen(server: PrintServer) -> list[str]:
    """Prints a page of hers. Returns all that came out by then."""
    number = server.submit("NEW")
    server.until(lambda: number in server.tried() and not server.jobs(), "the new page is printed")
    return server.printed()


@pytest.mark.parametrize("server", POLICIES, indirect=True)
def test_enabling_prints_nothing_from_before(root: Path, server: PrintServer) -> None:
    leave_documents(server)
    Booth(root).slots()
    verdict = run(Booth(root), "enable-queue", b"document-printer\n")
    assert verdict["code"] == "done", verdict
    assert CANARY not in str(verdict)
    assert "enabled" in server.queue()
    assert server.jobs("all") == []
    assert next_citizen(server) == ["NEW"]


@pytest.mark.parametrize("server", POLICIES, indirect=True)
def test_enabling_alone_would_have(server: PrintServer) -> None:
    """So that the test above means something."""
    leave_documents(server)
    server.tool("cupsenable", QUEUE)
    server.until(lambda: "OLD-4" in server.printed(), "the document is printed")


@pytest.mark.parametrize("server", POLICIES, indirect=True)
def test_purging_leaves_the_queue_as_it_is_and_no_document(root: Path, server: PrintServer) -> None:
    leave_documents(server)
    cups.purge(Machine(root), SLOTS, "document-printer")
    assert "disabled" in server.queue()
    assert server.jobs("all") == []
    assert not [file for file in (server.folder / "spool").rglob("*") if file.is_file()]


def test_a_document_that_is_being_printed_goes_too(root: Path, server: PrintServer) -> None:
    server.mode("hold")
    server.submit("OLD")
    server.until(server.tried, "the printer has it")
    cups.purge(Machine(root), SLOTS, "document-printer")
    server.mode("print")
    assert server.jobs("all") == []
    assert next_citizen(server) == ["NEW"]


def test_an_ended_job_is_forgotten(root: Path, server: PrintServer) -> None:
    assert next_citizen(server) == ["NEW"]
    assert len(server.jobs("completed")) == 1
    cups.purge(Machine(root), SLOTS, "document-printer")
    assert server.jobs("completed") == []


def test_a_queue_that_refuses_jobs_takes_them_again(root: Path, server: PrintServer) -> None:
    server.tool("cupsreject", QUEUE)
    cups.enable(Machine(root), SLOTS, "document-printer")
    assert next_citizen(server) == ["NEW"]


@pytest.mark.parametrize("act", [cups.purge, cups.enable])
def test_a_queue_that_is_not_there(root: Path, server: PrintServer, act: Act) -> None:
    with pytest.raises(Ended) as end:
        act(Machine(root), Slots(queues={"document-printer": "labels"}), "document-printer")
    assert (end.value.code, end.value.detail) == ("failed", 'cancel: Error - unknown destination "labels".')


@pytest.mark.parametrize(
    ("program", "body"),
    [
        ("lpstat", f"echo {QUEUE}-7 {CANARY} 1024"),
        ("lpstat", f"echo {CANARY} >&2; exit 1"),
        ("cancel", "echo 'cancel: Unable to connect to server' >&2; exit 1"),
    ],
)
def test_where_a_document_may_be_left_nothing_is_enabled(tmp_path: Path, program: str, body: str) -> None:
    booth = Booth(tmp_path)
    for name in ("cancel", "lpstat", "cupsenable", "cupsaccept"):
        booth.program(name, body if name == program else "exit 0")
    with pytest.raises(Ended) as end:
        cups.enable(Recorded(tmp_path), SLOTS, "document-printer")
    assert end.value.code == "failed"
    assert CANARY not in end.value.detail
    assert not [line for line in booth.said if line.startswith(("cupsenable", "cupsaccept"))]


def empty_the_spool(server: PrintServer) -> None:
    """What systemd/cups.service.d/booth.conf has done before cupsd starts, on this server's folders."""
    lines = (HOUSE / "systemd/cups.service.d/booth.conf").read_text().splitlines()
    commands = [line.removeprefix("ExecStartPre=") for line in lines if line.startswith("ExecStartPre=")]
    assert len(commands) == 3
    for line in commands:
        ours = line.replace("/var/spool/cups", f"{server.folder}/spool").replace("/var/cache/cups", f"{server.folder}/cache")
        assert ours != line
        subprocess.run(shlex.split(ours.removeprefix("-")), check=not ours.startswith("-"), timeout=20)


@pytest.mark.parametrize("emptied", [True, False])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_start_of_cupsd_prints_nothing_from_before(server: PrintServer, how: signal.Signals, emptied: bool) -> None:
    """Killed, as by a power cut, or restarted. Without the drop-in the document comes out: so this test can fail."""
    leave_documents(server)
    spool = server.folder / "spool"
    server.until(lambda: list(spool.glob("c*")) and list(spool.glob("d*")), "the document is on the disk")
    newest = server.submit("OLD-5")
    server.end(how)
    (spool / "tmp/filter-0e7f").write_text("OLD-6")
    if how == signal.SIGTERM:
        assert CANARY in (server.folder / "cache/job.cache").read_text(), "cupsd remembers titles"
    if emptied:
        empty_the_spool(server)
        assert not [file for file in spool.rglob("*") if not file.is_dir()]
        left = [file for folder in ("spool", "cache") for file in (server.folder / folder).rglob("*") if file.is_file()]
        assert not [file for file in left if CANARY.encode() in file.read_bytes()]
    server.start()
    server.tool("cupsenable", QUEUE)
    if emptied:
        assert next_citizen(server) == ["NEW"]
        assert how == signal.SIGKILL or server.submit("NEXT") > newest, "the numbers of jobs go on"
    else:
        server.until(lambda: "OLD-4" in server.printed(), "the document is printed")


def test_a_spool_that_was_never_made_is_empty(server: PrintServer) -> None:
    server.end()
    spool = server.folder / "spool"
    spool.rename(server.folder / "gone")
    empty_the_spool(server)
    assert not spool.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="root's own file, which only root can lock")
def test_where_the_spool_cannot_be_emptied_cupsd_does_not_start(server: PrintServer) -> None:
    server.end()
    left = server.folder / "spool/d00001-001"
    left.write_text("OLD")
    made = subprocess.run(["chattr", "+i", str(left)], check=False, capture_output=True)
    if made.returncode != 0:
        pytest.skip("this file system has no immutable files")
    try:
        with pytest.raises(subprocess.CalledProcessError):
            empty_the_spool(server)
    finally:
        subprocess.run(["chattr", "-i", str(left)], check=True)
