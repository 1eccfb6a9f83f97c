"""The end of a session: a canary in everything that it leaves is nowhere afterwards, and the next citizen waits meanwhile."""

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.contract.typed import Invalid, build
from agent.lockdown.session import LIMITS, LOCK
from agent.privileged import wipe
from agent.privileged.slots import Slots, load
from agent.privileged.verdict import Ended
from agent.system.session import SessionLock
from tests.privileged.booth import Booth, Recorded
from tests.privileged.print_server import MISSING, QUEUE, PrintServer
from tests.privileged.test_program import run
from tests.privileged.test_units import unit

CANARY = "canary-0e7f"
HOUSE = Path(__file__).parents[2]
FOLDERS = {
    "browser-profile": ["/home/kiosk/.config/chromium", "/home/kiosk/.cache/chromium"],
    "downloads": ["/home/kiosk/Downloads"],
    "scans": ["/var/spool/booth-scans"],
}
TABLE = "[wiped]\n" + "".join(f"{name} = {json.dumps(folders)}\n" for name, folders in FOLDERS.items())
PLAIN = "systemctl --no-ask-password"


@pytest.fixture
def booth() -> Iterator[Booth]:
    with tempfile.TemporaryDirectory(prefix="booth-") as folder:  # a socket's path is short
        made = Booth(Path(folder))
        made.slots(TABLE)
        (made.root / "usr/bin/find").symlink_to("/usr/bin/find")
        (made.root / LOCK).parent.mkdir(parents=True)
        (made.root / LOCK).touch()
        yield made


@pytest.fixture
def server(booth: Booth) -> Iterator[PrintServer]:
    if MISSING:
        pytest.skip(f"{', '.join(MISSING)} missing: apt-get install cups-daemon cups-client")
    running = PrintServer(booth.root, "stop-printer")
    for name in ("cache", "spool"):
        (booth.root / "var" / name).mkdir()
        (booth.root / "var" / name / "cups").mkdir()
        for entry in (running.folder / name).iterdir():
            entry.rmdir()
        (running.folder / name).rmdir()
        (running.folder / name).symlink_to(booth.root / "var" / name / "cups")
    (booth.root / "var/spool/cups/tmp").mkdir()
    running.start()
    yield running
    running.end()


def place(booth: Booth, folder: str) -> Path:
    return booth.root / folder.removeprefix("/")


def leave(booth: Booth) -> None:
    for number, folder in enumerate(folder for folders in FOLDERS.values() for folder in folders):
        below = place(booth, folder) / "Default/.hidden"
        below.mkdir(parents=True)
        (below / f"{CANARY}-{number}").write_text(CANARY)
        (place(booth, folder) / "Cookies").write_text(CANARY)


def found(booth: Booth) -> list[str]:
    """Where the canary is still, in names and contents."""
    named = [str(file) for file in booth.root.rglob(f"*{CANARY}*")]
    return named + subprocess.run(["grep", "-rl", CANARY, booth.root], capture_output=True, text=True, check=False).stdout.split()


def ended(booth: Booth, slots: Slots | None = None) -> Ended:
    with pytest.raises(Ended) as end:
        wipe.run(Recorded(booth.root), slots or load(booth.slots(TABLE)), "session")
    return end.value


def test_of_a_session_nothing_is_left(booth: Booth, server: PrintServer) -> None:
    booth.slots(f'{TABLE}[queues]\ndocument-printer = "{QUEUE}"\n')
    leave(booth)
    server.submit(CANARY, user=CANARY, title=CANARY, held=True)
    server.mode("stop")
    server.submit(CANARY)
    server.until(lambda: "disabled" in server.queue(), "the queue is stopped")
    (booth.root / "var/spool/cups/tmp/filter").write_text(CANARY)
    server.until(lambda: CANARY in (booth.root / "var/cache/cups/job.cache").read_text(), "cupsd notes titles")
    assert len(found(booth)) >= 12
    verdict = run(booth, "wipe-session", b"session\n")
    assert verdict["code"] == "done", verdict
    assert server.jobs("all") == []
    server.end()  # what it remembers is on the disk
    assert found(booth) == []
    assert all(place(booth, folder).is_dir() for folders in FOLDERS.values() for folder in folders)


def test_what_the_policy_keeps_is_kept(booth: Booth) -> None:
    leave(booth)
    (booth.root / LIMITS).parent.mkdir(parents=True)
    (booth.root / LIMITS).write_text('{"keep": ["scans", "spool"]}')
    booth.slots(f'{TABLE}[queues]\ndocument-printer = "{QUEUE}"\n')  # without a print server: it is not asked
    assert run(booth, "wipe-session", b"session\n")["code"] == "done"
    assert {Path(name).relative_to(booth.root).parts[0] for name in found(booth)} == {"var"}


@pytest.mark.parametrize("limits", ["", "{", "[]", '{"keep": null}', '{"keep": "browser-profile"}', "{}"])
def test_without_a_policy_that_can_be_read_everything_is_wiped(booth: Booth, limits: str) -> None:
    leave(booth)
    (booth.root / LIMITS).parent.mkdir(parents=True)
    (booth.root / LIMITS).write_text(limits)
    assert run(booth, "wipe-session", b"session\n")["code"] == "done"
    assert found(booth) == []


def test_while_somebody_uses_the_booth_nothing_is_touched(booth: Booth) -> None:
    leave(booth)
    before = found(booth)
    descriptor = os.open(booth.root / LOCK, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert run(booth, "wipe-session", b"session\n")["code"] == "refused"
    os.close(descriptor)
    assert found(booth) == before
    assert run(booth, "wipe-session", b"session\n")["code"] == "done"


def test_the_next_citizen_waits_until_it_is_done(booth: Booth) -> None:
    """Seen while the kiosk's unit is stopped, and once all is over."""
    held: list[bool] = []
    lock = SessionLock((booth.root / LOCK).parent)

    class Watched(Recorded):
        def do(self, program: str, *arguments: str, within_s: float) -> None:
            held.append(lock.held())
            super().do(program, *arguments, within_s=within_s)

    booth.program("systemctl")
    wipe.run(Watched(booth.root), Slots(units={"kiosk": "booth-kiosk.service"}), "session")
    assert held == [True, True]
    assert not lock.held()


def test_taking_the_lock_away_keeps_no_traces(booth: Booth) -> None:
    """Its folder is the agent's."""
    leave(booth)
    (booth.root / LOCK).unlink()
    verdict = run(booth, "wipe-session", b"session\n")
    assert verdict["code"] == "done"
    assert not found(booth)


def test_a_browser_that_runs_is_stopped_first_and_started_at_the_end(booth: Booth) -> None:
    """It writes its profile until it is told to stop, and again once it is started."""
    profile = place(booth, "/home/kiosk/.config/chromium")
    profile.mkdir(parents=True)
    booth.program("systemctl", f'case "$*" in *stop*) echo {CANARY} > {profile}/Cookies ;; esac')
    booth.slots(f'{TABLE}[units]\nkiosk = "booth-kiosk.service"\n')
    assert run(booth, "wipe-session", b"session\n")["code"] == "done"
    assert booth.said == [
        "systemctl --quiet is-active booth-kiosk.service",
        f"{PLAIN} stop booth-kiosk.service",
        f"{PLAIN} --no-block start booth-kiosk.service",
    ]
    assert list(profile.iterdir()) == []


def test_one_that_does_not_run_is_not_started(booth: Booth) -> None:
    booth.program("systemctl", "exit 3")
    booth.slots(f'{TABLE}[units]\nkiosk = "booth-kiosk.service"\n')
    assert run(booth, "wipe-session", b"session\n")["code"] == "done"
    assert booth.said == ["systemctl --quiet is-active booth-kiosk.service"]


def test_one_that_does_not_stop_is_killed(booth: Booth) -> None:
    tried = booth.root / "tried"
    booth.program("systemctl", f'case "$*" in *stop*) [ -e {tried} ] || {{ touch {tried}; exit 1; }} ;; esac')
    wipe.run(Recorded(booth.root), Slots(units={"kiosk": "booth-kiosk.service"}), "session")
    verbs = [line.removeprefix(f"{PLAIN} ").split()[0] for line in booth.said[1:]]
    assert verbs == ["stop", "kill", "stop", "--no-block"]


def test_whatever_fails_the_kiosk_is_started_again(booth: Booth) -> None:
    booth.program("systemctl")
    (booth.root / "usr/bin/find").unlink()
    leave(booth)
    slots = load(booth.slots(f'{TABLE}[units]\nkiosk = "booth-kiosk.service"\n'))
    assert ended(booth, slots).code == "failed"
    assert booth.said[-1] == f"{PLAIN} --no-block start booth-kiosk.service"


def test_what_is_left_fails_by_its_name_in_roots_table(booth: Booth) -> None:
    leave(booth)
    (booth.root / "usr/bin/find").unlink()
    booth.program("find", f"echo 'find: {CANARY}: Operation not permitted' >&2; exit 1")
    end = ended(booth)
    assert (end.code, end.detail) == ("failed", "something is left: browser-profile, downloads, scans")


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("chattr") is None, reason="root's own file, which only root can lock")
def test_a_file_that_cannot_be_deleted_is_found(booth: Booth) -> None:
    leave(booth)
    file = place(booth, "/home/kiosk/Downloads") / "Cookies"
    made = subprocess.run(["chattr", "+i", file], check=False, capture_output=True)
    if made.returncode != 0:
        pytest.skip("this file system has no immutable files")
    try:
        verdict = run(booth, "wipe-session", b"session\n")
    finally:
        subprocess.run(["chattr", "-i", file], check=True)
    assert (verdict["code"], verdict["detail"]) == ("failed", "something is left: downloads")
    assert "Cookies" not in verdict["log"]


def test_a_link_in_the_way_leads_root_nowhere(booth: Booth) -> None:
    precious = booth.root / "elsewhere/chromium/precious"
    precious.parent.mkdir(parents=True)
    precious.touch()
    (booth.root / "home/kiosk").mkdir(parents=True)
    (booth.root / "home/kiosk/.config").symlink_to(booth.root / "elsewhere")
    assert ended(booth).detail == "something is left: browser-profile"
    assert precious.exists()


def test_a_folder_as_deep_as_somebody_likes_is_wiped(booth: Booth) -> None:
    downloads = place(booth, "/home/kiosk/Downloads")
    downloads.mkdir(parents=True)
    descriptor = os.open(downloads, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deep", dir_fd=descriptor)
        below = os.open("deep", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    assert run(booth, "wipe-session", b"session\n")["code"] == "done"
    assert list(downloads.iterdir()) == []


def test_a_print_server_that_is_down_does_not_keep_the_rest(booth: Booth) -> None:
    leave(booth)
    booth.program("cancel", "echo 'cancel: Unable to connect to server' >&2; exit 1")
    booth.slots(f'{TABLE}[queues]\ndocument-printer = "forms"\n')
    verdict = run(booth, "wipe-session", b"session\n")
    assert (verdict["code"], verdict["detail"]) == ("failed", "cancel: Unable to connect to server")
    assert found(booth) == []


def test_its_door_is_open_to_the_kiosk_alone() -> None:
    socket = unit("booth-act-wipe-session.socket")["Socket"]
    assert socket.items() >= {
        "ListenStream": "/run/booth-acts/wipe-session.sock", "SocketUser": "root", "SocketGroup": "booth-session",
        "SocketMode": "0660", "Accept": "yes", "MaxConnections": "1", "TriggerLimitIntervalSec": "0",
    }.items()  # fmt: skip


def test_its_unit_can_reach_every_folder_that_the_list_may_name() -> None:
    service = unit("booth-act-wipe-session@.service")["Service"]
    assert service["ReadWritePaths"] == "-/home -/srv -/var -/run"
    assert service["CapabilityBoundingSet"] == "CAP_DAC_OVERRIDE CAP_FOWNER"
    assert unit("booth-act-wipe-session@.service.d/home.conf") == {"Service": {"ProtectHome": "no"}}
    assert "booth-act-.service.d/common.conf".rpartition("/")[2] < "home.conf", "systemd takes the last, by name of the file"
    assert int(service["RuntimeMaxSec"]) < 60, "so long the next citizen waits"


@pytest.mark.parametrize(
    "folder",
    [
        "", "/", "//", "home/kiosk", "/home", "/home/", "/home/kiosk/", "/home//kiosk", "/home/../etc", "/home/kiosk/..",
        "/home/./kiosk",
        "/etc/chromium", "/usr/share", "/var", "/var/lib", "/var/spool", "/var/tmp/kiosk", "/tmp/kiosk", "/run/user", "/root/x",
        "/dev/shm",
        "/proc/self", "/opt/booth-agent", "/boot/firmware", "/media/stick", "/home/a\nb", f"/home/{'a' * 250}",
    ],
)  # fmt: skip
def test_what_may_not_be_wiped(folder: str) -> None:
    with pytest.raises(Invalid) as refused:
        build(Slots, {"wiped": {"downloads": [folder]}})
    assert [problem.path for problem in refused.value.problems][:1] == ["wiped.downloads[0]"]


@pytest.mark.parametrize(
    "folder", ["/home/kiosk", "/srv/kiosk", "/var/spool/booth-scans", "/var/lib/kiosk/chromium", "/run/user/1000"]
)
def test_what_may(folder: str) -> None:
    assert build(Slots, {"wiped": {"downloads": [folder]}}).wiped == {"downloads": (folder,)}


def test_the_examples_folders_may_be_wiped(booth: Booth) -> None:
    example = (HOUSE / "provisioning/slots.toml").read_text()
    lines = [line.removeprefix("# ") if " = [" in line else line for line in example.splitlines() if line != "board = []"]
    assert set(load(booth.slots("\n".join(lines))).wiped) == {"browser-profile", "downloads", "scans"}
