"""What the daemon had fetched: what root makes of it, and that the slot in use does not notice."""

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agent.privileged.machine import Machine
from agent.privileged.releases import Release, Releases, has_room
from agent.privileged.updating import DOWNLOADS, STATE
from agent.updates.words import Answer, Task
from tests.faults.test_store_faults import fill, tmpfs
from tests.updates.story import KINDS, OPERATOR, Root


@pytest.fixture
def root(tmp_path: Path) -> Root:
    root = Root(tmp_path)
    root.prepare()
    return root


def in_use(root: Root) -> dict[str, Any]:
    """The slot that counts, and the link to it."""
    return {file: data for file, data in root.untouched().items() if "booth-agent/slots/a/" in file or file.endswith("current")}


def staged(root: Root) -> Answer:
    """Staged once; the slot in use is what it was."""
    before = in_use(root)
    assert before
    answer = root.updating().stage("agent")
    assert in_use(root) == before
    assert not (root.folder / STATE / "incoming.tar").exists()
    assert not (root.folder / "opt/booth-agent/slots/incoming").exists()
    return answer


def shown(answer: Answer) -> tuple[str, str | None, int, str]:
    reported = answer.reported
    assert (reported.from_, reported.to) == ("1.0", "1.1")
    assert reported.sections["agent"]["version"] == "1.0"
    return reported.phase, reported.reason, reported.attempt, reported.status


def published(root: Root, data: bytes | None = None, body: bytes = b"new") -> Task:
    """A document for 1.1, whose file is this."""
    data = root.archive("1.1", body) if data is None else data
    file = {"url": "http://127.0.0.1/x.tar", "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    root.rev += 1
    [task] = root.updating().take("booth", OPERATOR.sign("update", {"agent": {"version": "1.1", "file": file}}, root.rev)).tasks
    return task


def place_of(root: Root, task: Task) -> Path:
    return root.folder / DOWNLOADS / task.sha256


# --- what may pass, and is tried again ---


def nothing(_file: Path, _good: bytes) -> None:
    pass


def truncated(file: Path, good: bytes) -> None:
    file.write_bytes(good[:-512])


def empty(file: Path, _good: bytes) -> None:
    file.touch()


def longer(file: Path, good: bytes) -> None:
    file.write_bytes(good + b"\0")


def another(file: Path, good: bytes) -> None:
    file.write_bytes(good.replace(b"new", b"odd"))


def endless(file: Path, good: bytes) -> None:
    file.write_bytes(good)
    os.truncate(file, 2**40)  # of holes


def a_link(file: Path, good: bytes) -> None:
    """To the very file: what is read must not be what somebody else can point elsewhere."""
    (file.parent / "elsewhere").write_bytes(good)
    file.symlink_to("elsewhere")


def a_link_to_a_secret(file: Path, _good: bytes) -> None:
    file.symlink_to("/etc/shadow")


def a_link_without_end(file: Path, _good: bytes) -> None:
    file.symlink_to("/dev/zero")


def a_fifo(file: Path, _good: bytes) -> None:
    os.mkfifo(file)


def a_folder(file: Path, _good: bytes) -> None:
    file.mkdir()


IN_ITS_PLACE: dict[str, tuple[str, Callable[[Path, bytes], None]]] = {
    "nothing": ("not-fetched", nothing),
    "truncated": ("wrong-hash", truncated),
    "empty": ("wrong-hash", empty),
    "longer": ("wrong-hash", longer),
    "endless": ("wrong-hash", endless),
    "other bytes": ("wrong-hash", another),
    "a link to it": ("not-fetched", a_link),
    "a link to a secret": ("not-fetched", a_link_to_a_secret),
    "a link to a device": ("not-fetched", a_link_without_end),
    "a FIFO": ("wrong-hash", a_fifo),
    "a folder": ("disk-failed", a_folder),
}


@pytest.mark.parametrize("name", IN_ITS_PLACE)
def test_whatever_lies_in_the_files_place_is_not_laid_out_and_may_be_fetched_anew(root: Root, name: str) -> None:
    reason, put = IN_ITS_PLACE[name]
    task = published(root)
    file, good = place_of(root, task), root.archive("1.1")
    put(file, good)
    for attempt in (1, 2):
        answer = staged(root)
        assert shown(answer) == ("failed", reason, attempt, "pending")
        assert answer.tasks == [task], "what may pass is tried again"
    with suppress(FileNotFoundError):
        file.rmdir() if file.is_dir() else file.unlink()
    file.write_bytes(good)
    answer = staged(root)
    assert (shown(answer), [task.todo for task in answer.tasks]) == (("waiting-idle", None, 3, "pending"), ["switch"])


def test_a_fifo_that_somebody_writes_to_holds_nobody_up(root: Root) -> None:
    task = published(root)
    os.mkfifo(place_of(root, task))
    ends = os.open(place_of(root, task), os.O_RDWR | os.O_NONBLOCK)
    try:
        for data in (b"x", root.archive("1.1")):  # one that says nothing more, and one that has every byte
            os.write(ends, data)
            answer = staged(root)
            assert (answer.reported.phase, answer.tasks) == ("failed", [task])
    finally:
        os.close(ends)


@pytest.mark.parametrize("change", ["other bytes", "longer", "shorter"])
def test_a_file_that_is_changed_between_two_looks_is_not_laid_out(root: Root, change: str) -> None:
    task = published(root)
    root.fetch(task)

    def at(moment: str) -> None:
        if moment == "copy":
            data = place_of(root, task).read_bytes()
            changed = {"other bytes": data.replace(b"new", b"bad"), "longer": data + b"x", "shorter": data[:-1]}
            place_of(root, task).write_bytes(changed[change])

    before = in_use(root)
    answer = root.updating(at).stage("agent")
    assert (shown(answer), answer.tasks) == (("failed", "wrong-hash", 1, "pending"), [task])
    assert in_use(root) == before
    assert not (root.folder / STATE / "incoming.tar").exists()


def test_what_the_daemon_does_to_its_file_after_it_was_copied_changes_nothing(root: Root) -> None:
    task = published(root)
    root.fetch(task)

    def at(moment: str) -> None:
        if moment == "copied":
            place_of(root, task).write_bytes(b"x")

    root.updating(at).stage("agent")
    assert (root.folder / "opt/booth-agent/slots/b/body").read_bytes() == b"new"


def test_a_folder_of_downloads_that_leads_elsewhere_leads_nowhere(root: Root) -> None:
    task = published(root)
    elsewhere = root.folder / "etc/secrets"
    elsewhere.mkdir()
    (elsewhere / task.sha256).write_bytes(b"not for the daemon")
    (root.folder / DOWNLOADS).rmdir()
    (root.folder / DOWNLOADS).symlink_to(elsewhere)
    answer = staged(root)
    assert shown(answer) == ("failed", "wrong-hash", 1, "pending")
    assert (elsewhere / task.sha256).read_bytes() == b"not for the daemon"


# --- what does not pass ---


def packed(**files: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def with_a_link() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:") as tar:
        info = tarfile.TarInfo("version")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/shadow"
        tar.addfile(info)
    return file.getvalue()


BAD: dict[str, tuple[str, Callable[[], bytes]]] = {
    "no archive": ("bad-archive", lambda: b"x" * 10_240),
    "half an archive": ("bad-archive", lambda: packed(version=b"1.1", body=b"x" * 4000)[:3000]),
    "a link": ("bad-archive", with_a_link),
    "upwards": ("bad-archive", lambda: packed(**{"../../current": b"x"})),
    "another version inside": ("wrong-version", lambda: packed(version=b"1.2", body=b"new")),
    "what nobody thought of": ("bad-archive", lambda: packed(version=b"\xff\xfe", body=b"new")),
    "one that says that it is broken": ("selftest-failed", lambda: packed(version=b"1.1", body=b"broken")),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_as_signed_and_no_good_is_not_tried_again_before_another_revision_names_it(root: Root, name: str) -> None:
    reason, make = BAD[name]
    data = make()
    task = published(root, data)
    place_of(root, task).write_bytes(data)
    answer = staged(root)
    assert (shown(answer), answer.tasks) == (("failed", reason, 1, "reverted"), [])
    assert Releases(Machine(root.folder), KINDS["agent"]).of("b") is None
    before = root.untouched()
    assert staged(root).tasks == root.updating().switch("agent").tasks == []
    assert root.untouched() == before, "a flood of questions writes nothing"
    again = published(root, data)
    assert again == task
    assert shown(staged(root)) == ("failed", reason, 1, "reverted")


def test_a_document_that_calls_the_file_in_use_another_version_is_wrong_and_not_silently_done(root: Root) -> None:
    root.until_switched()
    root.updating().healthy("1.1", online=True)
    file = root.section("1.1")["file"]
    answer = root.updating().take("booth", OPERATOR.sign("update", {"agent": {"version": "1.2", "file": file}}, 9))
    place_of(root, answer.tasks[0]).write_bytes(root.archive("1.1"))
    answer = root.updating().stage("agent")
    assert (answer.reported.phase, answer.reported.reason, answer.tasks) == ("failed", "wrong-version", [])
    assert root.in_use("agent") == "1.1"


def test_the_attempts_are_those_of_the_file_that_is_shown(root: Root) -> None:
    published(root)
    assert [staged(root).reported.attempt for _ in range(3)] == [1, 2, 3]
    other = root.publish({"agent": "1.2"})
    assert (other.reported.to, other.reported.phase, other.reported.attempt) == ("1.2", "downloading", 0)


# --- no room ---


@contextmanager
def small(folder: Path, name: str, options: str) -> Iterator[Path]:
    """A small file system in a folder's place, with what is in it; afterwards that is on the disk again."""
    place, aside = folder / name, folder / "aside"
    shutil.copytree(place, aside, symlinks=True)
    with tmpfs(place, options):
        shutil.copytree(aside, place, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(aside)
        yield place
        shutil.copytree(place, aside, symlinks=True)
    shutil.rmtree(place)
    aside.rename(place)


def test_a_full_disk_leaves_what_is_in_use_and_is_tried_again_once_there_is_room(root: Root) -> None:
    body = bytes(range(256)) * 4096  # 1 MiB
    task = published(root, body=body)
    root.fetch(task, body)
    with small(root.folder, STATE, "size=600k"):
        answer = staged(root)
        assert (shown(answer), answer.tasks) == (("failed", "disk-full", 1, "pending"), [task])
    with small(root.folder, "opt/booth-agent", "size=1500k") as place:  # what was unpacked finds room, and the slot does not
        answer = staged(root)
        assert (shown(answer), answer.tasks) == (("failed", "disk-full", 2, "pending"), [task])
        assert not (place / "slots/b").exists(), "half a slot fills no disk"
    assert [task.todo for task in staged(root).tasks] == ["switch"]


def test_a_disk_that_has_no_room_for_a_word_leaves_what_is_in_use(root: Root) -> None:
    task = published(root)
    root.fetch(task)
    before = in_use(root), root.progress("agent")
    with small(root.folder, STATE, "size=200k") as state:
        filler = fill(state)
        with pytest.raises(OSError, match="No space left"):
            root.updating().stage("agent")
        assert root.updating().status().tasks == [task], "it is still said what is wanted"
        filler.unlink()
    assert (in_use(root), root.progress("agent")) == before
    assert [task.todo for task in staged(root).tasks] == ["switch"]


def test_there_is_room_only_where_the_rest_of_the_booth_keeps_some(tmp_path: Path) -> None:
    mib = 1 << 20
    with tmpfs(tmp_path / "disk", "size=70m") as disk:
        assert has_room(disk, 5 * mib)
        assert not has_room(disk, 7 * mib)
        (disk / "file").write_bytes(bytes(4 * mib))
        assert has_room(disk, mib)
        assert not has_room(disk, 5 * mib)
        assert not has_room(disk / "file", 2**60)
    with pytest.raises(FileNotFoundError):
        has_room(tmp_path / "nowhere", 0)


@contextmanager
def dying_card(below: Path, place: Path) -> Iterator[None]:
    """A file system in a folder's place, with what is in it: it takes whatever is written, and loses all but a few MiB of it once
    that is to be on disk. Below it is a file that cannot grow."""
    aside, image = place.with_name("aside"), below / "image"
    shutil.copytree(place, aside, symlinks=True)
    with tmpfs(below, "size=8m"):
        image.touch()
        os.truncate(image, 64 << 20)
        for command in (["mkfs.ext4", "-q", "-O", "^has_journal", str(image)], ["mount", "-o", "loop", str(image), str(place)]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no file system in a file can be mounted here: {done.stderr.strip()}")
        try:
            shutil.copytree(aside, place, symlinks=True, dirs_exist_ok=True)
            yield
        finally:
            subprocess.run(["umount", str(place)], check=True)


@pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="mkfs.ext4 is missing: apt-get install e2fsprogs")
def test_a_slot_whose_bytes_the_card_did_not_keep_is_never_called_whole(root: Root) -> None:
    """The kernel says so to whoever asks, and to no one else: what was written is still in memory, and looks right; and what is
    written after it may well be kept."""
    body = os.urandom(12 << 20)
    task = published(root, body=body)
    root.fetch(task, body)
    below = root.folder / "below"
    moments = []

    def at(moment: str) -> None:
        moments.append(moment)
        if moment == "agent: finish":
            os.sync()
            subprocess.run(["mount", "-o", "remount,size=80m", str(below)], check=True)

    with dying_card(below, root.folder / "opt/booth-agent"):
        answer = root.updating(at).stage("agent")
        assert "agent: finish" in moments, "until then all was well"
        assert answer.reported.phase == "failed"
        assert answer.reported.reason in ("disk-failed", "disk-full")
        assert answer.tasks == [task], "another attempt may go well"
        assert Releases(Machine(root.folder), KINDS["agent"]).of("b") is None
        assert root.in_use("agent") == "1.0"


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_version_on_trial_goes_back_where_its_tries_cannot_be_counted(root: Root, fault: str) -> None:
    root.until_switched()
    with small(root.folder, STATE, "size=200k") as state:
        filler = fill(state) if fault == "full" else None
        if filler is None:
            subprocess.run(["mount", "-o", "remount,ro", str(state)], check=True)
        root.updating().start()
        assert root.in_use("agent") == "1.0"
        reported = root.updating().status().reported
        assert (reported.phase, reported.reason) == ("rolled-back", "disk-failed")
        if filler is None:
            subprocess.run(["mount", "-o", "remount,rw", str(state)], check=True)
        else:
            filler.unlink()
    root.updating().start()
    assert (root.in_use("agent"), root.updating().status().reported.phase) == ("1.0", "rolled-back")


# --- the slots themselves ---


def test_nothing_clears_the_slot_that_counts(root: Root) -> None:
    releases = Releases(Machine(root.folder), KINDS["agent"])
    assert (releases.current, releases.other, releases.in_use) == ("a", "b", Release("1.0"))
    with pytest.raises(AssertionError):
        releases.clear("a")


@pytest.mark.parametrize("target", ["slots/c", "slots/b/../a", "/opt/booth-agent/slots/a", "a", "slots"])
def test_a_link_that_is_not_roots_own_leads_to_no_slot(root: Root, target: str) -> None:
    place = root.folder / "opt/booth-agent"
    (place / "current").unlink()
    (place / "current").symlink_to(target)
    releases = Releases(Machine(root.folder), KINDS["agent"])
    assert (releases.current, releases.in_use) == (None, None)


def test_a_slot_without_its_last_file_is_not_whole(root: Root) -> None:
    file = root.folder / "opt/booth-agent/slots/a/release.json"
    for data in (b"", b"{", b"[]", b'{"version": 1}', b'{"version": "1.0", "sha256": "x"}', b'{"version": "1.0", "more": 1}'):
        file.write_bytes(data)
        assert Releases(Machine(root.folder), KINDS["agent"]).of("a") is None
    file.unlink()
    assert Releases(Machine(root.folder), KINDS["agent"]).of("a") is None


def test_whoever_looks_during_a_switch_sees_one_slot_or_the_other(root: Root) -> None:
    root.until_laid()
    releases = Releases(Machine(root.folder), KINDS["agent"])
    seen, done = set(), threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add((root.folder / "opt/booth-agent/current/version").read_text())

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(100):
            releases.switch("b")
            releases.switch("a")
    finally:
        done.set()
        looker.join(10)
    assert seen <= {"1.0", "1.1"}
    assert seen
