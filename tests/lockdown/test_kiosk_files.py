"""Files in /etc/booth-session: root's alone to write, everybody's to read, whatever stood in their place."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.lockdown import kiosk_files
from agent.privileged.machine import Machine
from tests.lockdown.owners import no_owner_is_changed, only_root
from tests.privileged.booth import Booth

NAME = "etc/booth-session/limits.json"
CONTENT = {"idle_warn_s": 60}
STRANGER = 1000


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (Booth(tmp_path).root / "usr/bin/find").symlink_to("/usr/bin/find")
    return Machine(tmp_path)


def put(machine: Machine) -> None:
    kiosk_files.put(machine, NAME, CONTENT)
    assert kiosk_files.problem(machine, NAME, CONTENT) is None
    assert kiosk_files.read(machine, NAME) == CONTENT
    file = machine.path(NAME)
    assert [entry.lstat().st_mode & 0o7777 for entry in (file, file.parent)] == [0o644, 0o755]
    assert {entry.lstat().st_uid for entry in (file, file.parent)} == {os.geteuid()}


def elsewhere(file: Path) -> None:
    file.parent.rename(file.parent.with_name("elsewhere"))
    file.parent.symlink_to("elsewhere")


WRONG: dict[str, Callable[[Path], object]] = {
    "another content": lambda file: file.write_text("{}"),
    "no file": lambda file: file.unlink(),
    "a file that others write": lambda file: file.chmod(0o666),
    "a file that runs as its owner": lambda file: file.chmod(0o4644),
    "a folder that others write": lambda file: file.parent.chmod(0o777),
    "a folder that is a link": elsewhere,
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_seen_and_repaired(machine: Machine, wrong: Callable[[Path], object]) -> None:
    put(machine)
    wrong(machine.path(NAME))
    assert kiosk_files.problem(machine, NAME, CONTENT) is not None
    put(machine)


def test_what_is_right_is_left_alone(machine: Machine) -> None:
    put(machine)
    before = machine.path(NAME).stat()
    put(machine)
    assert (machine.path(NAME).stat().st_ino, machine.path(NAME).stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@only_root
def test_a_file_of_somebody_else_s_is_replaced(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    put(machine)
    os.chown(machine.path(NAME), STRANGER, STRANGER)
    no_owner_is_changed(monkeypatch)
    assert kiosk_files.problem(machine, NAME, CONTENT) is not None
    put(machine)


@only_root
def test_a_folder_of_somebody_else_s_is_made_anew_and_no_link_in_it_is_followed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(machine)
    folder = machine.path(NAME).parent
    precious = machine.path("etc/precious")
    precious.mkdir()
    (precious / "file").touch()
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er/link").symlink_to(precious)
    os.chown(folder, STRANGER, STRANGER)
    no_owner_is_changed(monkeypatch)
    assert kiosk_files.problem(machine, NAME, CONTENT) is not None
    put(machine)
    assert [entry.name for entry in folder.iterdir()] == ["limits.json"]
    assert sorted(entry.name for entry in folder.parent.iterdir()) == ["booth-session", "precious"]
    assert (precious / "file").exists()


@only_root
def test_what_cannot_be_deleted_keeps_no_policy_from_being_applied(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    put(machine)
    os.chown(machine.path(NAME).parent, STRANGER, STRANGER)
    no_owner_is_changed(monkeypatch)
    machine.path("usr/bin/find").unlink()
    put(machine)
    assert machine.path("etc/.booth-session.old/limits.json").exists(), "without find it is only moved away"


def test_a_file_that_is_taken_away_takes_its_empty_folder_along(machine: Machine) -> None:
    put(machine)
    kiosk_files.remove(machine, NAME)
    kiosk_files.remove(machine, NAME)
    assert not machine.path(NAME).parent.exists()
    assert kiosk_files.read(machine, NAME) == {}
