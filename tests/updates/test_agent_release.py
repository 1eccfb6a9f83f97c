"""How a bundle becomes a slot of the agent: what it is then, and everything that it may not be."""

import contextlib
import itertools
import json
import marshal
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from agent.contract import update
from agent.contract.typed import Invalid, build, schema
from agent.updates import kinds, selftest
from agent.updates.agent_release import BASE, KIND, AgentSection, check, lay, older, this_architecture
from agent.updates.environment import this_python
from agent.updates.kind import NotGood
from tests.updates.small_agents import MAIN, VERSION, bundle, say, wheel

PLACE = Path("/opt/booth-agent/slots/b")
OTHER = {"amd64": "arm64", "arm64": "amd64"}
NUMBERS = st.integers(0, 999_999)


@pytest.fixture
def slot(tmp_path: Path) -> Path:
    folder = tmp_path / "laid-here"
    folder.mkdir()
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    return folder


def laid(files: Path, slot: Path, version: str = VERSION) -> Path:
    lay(files, slot, PLACE, version)
    return slot


def refused(files: Path, slot: Path, version: str = VERSION) -> tuple[str, str]:
    with pytest.raises(NotGood) as caught:
        lay(files, slot, PLACE, version)
    return caught.value.reason, str(caught.value)


def complaint(slot: Path, config: Path) -> str:
    with pytest.raises(NotGood) as caught:
        check(slot, config)
    assert caught.value.reason == "selftest-failed"
    return str(caught.value)


def everything_in(folder: Path) -> dict[str, bytes | str]:
    return {
        str(file.relative_to(folder)): str(file.readlink()) if file.is_symlink() else file.read_bytes()
        for file in folder.rglob("*")
        if file.is_symlink() or file.is_file()
    }


# --- what a document says ---


def test_it_is_a_kind_that_proves_itself_after_the_switch() -> None:
    assert kinds()["agent"] is KIND
    assert (KIND.place, KIND.on_trial, KIND.mode) == ("opt/booth-agent", True, 0o755)


def test_a_booth_fetches_the_file_of_its_own_architecture_or_none() -> None:
    artifact = {"url": "https://updates.example/a.tar", "size_bytes": 9, "sha256": "0" * 64}
    section = build(AgentSection, {"version": "1.4.0", "artifacts": {"arm64": artifact}, "window": "power-on"})
    found = KIND.artifact(section, "arm64")
    assert found is not None
    assert found.url == "https://updates.example/a.tar"
    assert KIND.artifact(section, "amd64") is None
    assert KIND.version(section) == "1.4.0"


def test_a_section_without_files_or_with_unknown_words_is_told_each_of_its_problems() -> None:
    with pytest.raises(Invalid) as caught:
        build(AgentSection, {"version": "v1", "artifacts": {}, "window": "tonight"}, "doc.agent")
    assert {problem.path for problem in caught.value.problems} == {"doc.agent.version", "doc.agent.artifacts", "doc.agent.window"}
    with pytest.raises(Invalid):
        build(AgentSection, {"version": "1.0", "artifacts": {"riscv64": {}}})


def test_who_only_reads_documents_needs_no_installer() -> None:
    script = "import sys; sys.modules['installer'] = None; from agent.updates import kinds; print(*kinds())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "agent" in done.stdout.split()


# --- the order of versions ---


@st.composite
def versions(draw: st.DrawFn) -> str:
    text = ".".join(map(str, draw(st.lists(st.one_of(st.integers(0, 3), NUMBERS), min_size=1, max_size=4))))
    if draw(st.booleans()):
        text += draw(st.sampled_from(["a", "b", "rc"])) + str(draw(st.integers(0, 20)))
    if draw(st.booleans()):
        text += f".dev{draw(st.integers(0, 20))}"
    return text


@given(versions(), versions())
def test_a_step_back_is_one_in_the_order_of_python_packages(before: str, after: str) -> None:
    pattern = schema(update.Version)["pattern"]
    assert re.fullmatch(pattern, before), "the versions that are compared are those that documents can name"
    assert older(before, after) == (Version(after) < Version(before))


def test_the_order_from_the_first_draft_to_the_release() -> None:
    line = ["1.3.9", "1.4.dev0", "1.4.0a1.dev2", "1.4.0a1", "1.4.0b2", "1.4.0rc1", "1.4.0rc11", "1.4.0", "1.4.0.1", "1.10"]
    for before, after in itertools.pairwise(line):
        assert older(after, before), (before, after)
        assert not older(before, after), (before, after)
    assert not older("1.0", "1.0.0")
    assert not older("1.0.0", "1.0")


# --- a slot ---


def test_it_works_at_its_place_and_is_compiled_for_it(tmp_path: Path, slot: Path) -> None:
    place = tmp_path / "place/slots/b"
    lay(bundle(tmp_path / "files"), slot, place, VERSION)
    place.parent.mkdir(parents=True)
    slot.rename(place)
    said = subprocess.run([place / "bin/booth-agent"], capture_output=True, text=True, timeout=60, check=True).stdout
    packages = f"lib/python{this_python()}/site-packages"
    assert said == f"works {place / packages}/agent/__main__.py\n"
    (compiled,) = (place / packages / "agent/__pycache__").glob("__main__.*.pyc")
    code = marshal.loads(compiled.read_bytes()[16:])
    assert isinstance(code, CodeType)
    assert code.co_filename == str(place / packages / "agent/__main__.py")


def test_it_uses_the_systems_python_and_none_of_the_systems_libraries(tmp_path: Path, slot: Path) -> None:
    laid(bundle(tmp_path / "files"), slot)
    script = "import sys; print(sys.prefix, sys.base_prefix, [p for p in sys.path if 'packages' in p])"
    said = subprocess.run([slot / "bin/python3", "-I", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.split(" ", 2) == [str(slot), sys.base_prefix, f"['{slot}/lib/python{this_python()}/site-packages']\n"]
    assert not (slot / "bin/pip").exists()


def test_nothing_in_it_remembers_where_it_was_laid(tmp_path: Path, slot: Path) -> None:
    laid(bundle(tmp_path / "files"), slot)
    for name, content in everything_in(slot).items():
        data = content if isinstance(content, bytes) else content.encode()
        assert str(tmp_path).encode() not in data, name
    assert (slot / "bin/booth-agent").read_text().startswith(f"#!{PLACE}/bin/python3\n")


def test_the_same_bundle_gives_the_same_slot(tmp_path: Path, slot: Path) -> None:
    files = bundle(tmp_path / "files")
    again = tmp_path / "laid-there"
    again.mkdir()
    assert everything_in(laid(files, slot)) == everything_in(laid(files, again))


def test_the_agents_own_user_can_read_it_whatever_roots_umask_is(tmp_path: Path, slot: Path) -> None:
    files = bundle(tmp_path / "files")
    before = os.umask(0o077)
    try:
        laid(files, slot)
        assert os.umask(0o077) == 0o077, "it is root's own again"
    finally:
        os.umask(before)
    for entry in slot.rglob("*"):
        assert entry.is_symlink() or entry.stat().st_mode & 0o044 == 0o044, entry
    assert (slot / "bin/booth-agent").stat().st_mode & 0o111 == 0o111


def test_what_it_consists_of_stays_with_it(tmp_path: Path, slot: Path) -> None:
    files = bundle(tmp_path / "files")
    (files / "sbom.json").write_text("{}")
    laid(files, slot)
    for name in ("manifest.json", "sbom.json"):
        assert (slot / name).read_bytes() == (files / name).read_bytes()


def test_wheels_of_another_python_stay_in_the_bundle(tmp_path: Path, slot: Path) -> None:
    files = bundle(tmp_path / "files")
    wheel(files / "wheels", "later_library", {"later_library.py": ""})
    say(files, python=[this_python(), "3.98"])
    manifest = json.loads((files / "manifest.json").read_text())
    for listed in manifest["wheels"]:
        listed["python"] = "3.98" if listed["file"].startswith("later") else None
    (files / "manifest.json").write_text(json.dumps(manifest))
    laid(files, slot)
    assert not list(slot.rglob("later_library*"))
    assert list(slot.rglob("small_library.py"))


def test_a_later_manifest_may_say_more(tmp_path: Path, slot: Path) -> None:
    laid(bundle(tmp_path / "files", notes="https://example.org"), slot)


# --- what is no bundle for this booth ---


@pytest.mark.parametrize(
    ("over", "reason", "word"),
    [
        ({"version": "1.4.1"}, "wrong-version", "1.4.0 as its document says"),
        ({"architecture": OTHER[this_architecture()]}, "wrong-architecture", f"this booth is {this_architecture()}"),
        ({"python": ["3.99"]}, "wrong-python", f"this booth has {this_python()}"),
        ({"python": []}, "wrong-python", "none"),
        ({"base": BASE + 1}, "base-too-old", "make install"),
        ({"schema": 2}, "bad-archive", "schema"),
        ({"name": "something-else"}, "bad-archive", "name"),
        ({"architecture": "riscv64", "base": 0}, "bad-archive", "base"),
        ({"wheels": [{"file": "../../etc/x.whl", "sha256": "0" * 64}]}, "bad-archive", "wheels[0].file"),
    ],
)
def test_it_is_refused_with_what_is_wrong(over: dict[str, Any], reason: str, word: str, tmp_path: Path, slot: Path) -> None:
    files = bundle(tmp_path / "files")
    say(files, **over)
    said = refused(files, slot)
    assert said[0] == reason
    assert word in said[1]
    assert not list(slot.iterdir()), "nothing was laid"


def test_a_bundle_without_a_readable_manifest_is_none(tmp_path: Path, slot: Path) -> None:
    files = bundle(tmp_path / "files")
    (files / "manifest.json").write_text('{"schema": 1, "schema": 1}')
    assert refused(files, slot)[0] == "bad-archive"
    (files / "manifest.json").unlink()
    assert refused(files, slot) == ("bad-archive", "it has no manifest.json")
    (files / "manifest.json").mkdir()
    assert refused(files, slot) == ("bad-archive", "it has no manifest.json")


def test_a_wheel_that_is_not_the_one_of_the_manifest_is_not_opened(tmp_path: Path, slot: Path) -> None:
    files = bundle(tmp_path / "files")
    (changed,) = (files / "wheels").glob("small*")
    changed.write_bytes(changed.read_bytes() + b"\0")
    reason, message = refused(files, slot)
    assert (reason, changed.name in message) == ("bad-archive", True)


def test_wheels_that_are_missing_or_that_nobody_listed_are_named(tmp_path: Path, slot: Path) -> None:
    files = bundle(tmp_path / "files")
    stowaway = wheel(files / "wheels", "stowaway", {})
    assert stowaway.name in refused(files, slot)[1]
    say(files)
    stowaway.unlink()
    for _ in range(2):
        reason, message = refused(files, slot)
        assert (reason, stowaway.name in message) == ("bad-archive", True)
        stowaway.mkdir(exist_ok=True)  # a folder of that name is no wheel either


def test_a_wheel_that_is_none_is_refused_though_its_hash_is_right(tmp_path: Path, slot: Path) -> None:
    files = bundle(tmp_path / "files")
    (files / "wheels/none-1.0-py3-none-any.whl").write_bytes(b"no archive")
    say(files)
    assert refused(files, slot)[0] == "bad-archive"


@pytest.mark.parametrize("name", ["../../../../../escaped.py", "small_library.py", "strange-1.0.data/nowhere/x"])
def test_a_wheel_writes_neither_outside_the_slot_nor_over_another(name: str, tmp_path: Path, slot: Path) -> None:
    files = bundle(tmp_path / "files")
    wheel(files / "wheels", "strange", {name: ""}, "1.0")
    say(files)
    before = set(tmp_path.iterdir())
    assert refused(files, slot)[0] == "bad-archive"
    assert set(tmp_path.iterdir()) == before


# --- a full disk ---


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        (folder / "slot").mkdir()
        yield folder / "slot"
    finally:
        subprocess.run(["umount", str(folder)], timeout=60, check=True)


def test_what_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    files = bundle(tmp_path / "files", more={"agent/large.txt": "x" * 3_000_000})
    with small_disk(tmp_path / "disk", "size=4m") as slot:
        reason, message = refused(files, slot)
        assert (reason, "6 MiB" in message) == ("disk-full", True)
        assert not list(slot.iterdir())


@pytest.mark.parametrize("options", ["size=1m", "nr_inodes=100"])
def test_a_disk_that_is_full_on_the_way_says_so(options: str, tmp_path: Path) -> None:
    files = bundle(tmp_path / "files", more={f"agent/small{number}.txt": "x" for number in range(300)})
    with small_disk(tmp_path / "disk", options) as slot:
        assert refused(files, slot)[0] == "disk-full"


def test_a_disk_that_is_full_when_it_is_compiled_says_so(tmp_path: Path) -> None:
    many = {f"agent/module{number}.py": "" for number in range(300)}
    files = bundle(tmp_path / "files", more=many)
    with small_disk(tmp_path / "disk", f"size=50m,nr_inodes={len(many) + 100}") as slot:
        assert refused(files, slot)[0] == "disk-full"


# --- whether it works ---


def test_a_slot_that_starts_and_reads_the_booths_settings_is_good(tmp_path: Path, slot: Path, config: Path) -> None:
    laid(bundle(tmp_path / "files"), slot)
    before = everything_in(slot)
    check(slot, config)
    (config / "agent.toml").write_text("good")
    check(slot, config)
    assert everything_in(slot) == before, "asking changes nothing"


def test_a_slot_that_cannot_read_the_booths_settings_is_not(tmp_path: Path, slot: Path, config: Path) -> None:
    laid(bundle(tmp_path / "files"), slot)
    (config / "agent.toml").write_text("bad")
    assert complaint(slot, config) == "booth-agent check-config ended with status 1: agent.toml: write good"


@pytest.mark.parametrize(
    ("main", "said"),
    [
        ("import nowhere", "No module named 'nowhere'"),
        ("import os; os.abort()", "ended with status -6: no word"),
        ("print('booth-agent 1.3.0')", "it should be booth-agent 1.4.0, and calls itself 'booth-agent 1.3.0'"),
        ("", "calls itself 'no word'"),
    ],
)
def test_a_slot_that_does_not_start_as_its_version_is_not(main: str, said: str, tmp_path: Path, slot: Path, config: Path) -> None:
    laid(bundle(tmp_path / "files", main), slot)
    assert said in complaint(slot, config)


def test_a_slot_whose_python_is_gone_is_not(tmp_path: Path, slot: Path, config: Path) -> None:
    laid(bundle(tmp_path / "files"), slot)
    for link in slot.glob("bin/python*"):
        link.unlink()
        link.symlink_to("/nonexistent/python3")
    assert "does not start: No such file" in complaint(slot, config)


def test_a_slot_that_hangs_is_killed_with_all_that_it_started(
    tmp_path: Path, slot: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "processes"
    main = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open({str(told)!r} + ".new", "w") as file:
    print(os.getpid(), child.pid, file=file)
os.rename({str(told)!r} + ".new", {str(told)!r})
time.sleep(600)
"""
    laid(bundle(tmp_path / "files", main), slot)
    monkeypatch.setattr(selftest, "WITHIN_S", 5.0)
    assert complaint(slot, config) == "booth-agent --version did not end within 5 s"
    assert told.exists(), "it was slower to start than it had time to hang"
    deadline = time.monotonic() + 10
    for process in told.read_text().split():
        while time.monotonic() < deadline and _lives(process):
            time.sleep(0.02)
        assert not _lives(process)


def _lives(process: str) -> bool:
    """Not one that is dead, and that nobody has collected yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_slot_that_leaves_something_running_does_not_hold_root_up(tmp_path: Path, slot: Path, config: Path) -> None:
    starts = 'import subprocess; subprocess.Popen(["/bin/sleep", "600"])\n'
    laid(bundle(tmp_path / "files", starts + MAIN), slot)
    began = time.monotonic()
    check(slot, config)
    assert time.monotonic() - began < selftest.WITHIN_S / 2
