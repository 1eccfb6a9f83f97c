"""`make install` and `make uninstall` into a folder: everything in its place, twice the same, and nothing left."""

import marshal
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType

import pytest

from agent import VERSION
from tests.faults.test_store_faults import tmpfs

HOUSE = Path(__file__).parents[1]
PLACE = Path("opt/booth-agent")
SLOT = PLACE / "slots/a"  # the first
BASE = PLACE / "base"
OWN_VARIABLES = ("DESTDIR", "WHEELS", "KEEP", "PYTHON", "MAKEFLAGS")
DEADLINE_S = 300  # the first time, pip asks the registry

for needed in ("/usr/bin/python3", "/usr/bin/make"):
    if not Path(needed).exists():
        pytest.skip(f"{needed} is missing", allow_module_level=True)


def make(target: str, **variables: object) -> str:
    done = tried(target, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tried(target: str, **variables: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(target, **variables),
        cwd=HOUSE,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def command(target: str, **variables: object) -> list[str]:
    """Never without DESTDIR or WHEELS: this machine is no booth."""
    assert variables.keys() & {"DESTDIR", "WHEELS"}
    return ["make", "--no-print-directory", "--silent", target, *(f"{name}={value}" for name, value in variables.items())]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    try:
        make("wheels", WHEELS=folder)
    except AssertionError as error:
        if re.search("Connection|Temporary failure|No matching distribution|Could not fetch", str(error)):
            pytest.skip("the package registry cannot be reached")
        raise
    return folder


@pytest.fixture(scope="module")
def booth(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tree with somebody else's files, after `make install`."""
    root = tmp_path_factory.mktemp("booth")
    for name in ("etc/systemd/system/cups.service.d/other.conf", "etc/udev/rules.d/99-com.rules", "var/lib/other/file"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    sources = listing(HOUSE, top_only=True)
    make("install", DESTDIR=root, WHEELS=wheels, FORMS="provisioning/forms")
    assert listing(HOUSE, top_only=True) == sources, "building left something beside the sources"
    yield root
    shutil.rmtree(root)


@pytest.fixture
def copy(booth: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(booth, tmp_path / "booth", symlinks=True))


def listing(folder: Path, *, top_only: bool = False) -> set[str]:
    entries = folder.iterdir() if top_only else folder.rglob("*")
    return {str(entry.relative_to(folder)) for entry in entries if entry.name != ".coverage"}


def installed_files() -> dict[Path, str]:
    lines = subprocess.run(["sh", HOUSE / "provisioning/installed-files"], capture_output=True, text=True, check=True).stdout
    return {HOUSE / source: target.lstrip("/") for source, target in map(str.split, lines.splitlines())}


def test_every_file_is_in_its_place(booth: Path) -> None:
    files = installed_files()
    for folder in ("systemd", "udev"):
        ours = {file for file in (HOUSE / folder).rglob("*") if file.is_file() and file.name != "check"}
        assert ours == {file for file in files if file.is_relative_to(HOUSE / folder)}
    for source, target in files.items():
        assert (booth / target).read_bytes() == source.read_bytes()
        assert (booth / target).stat().st_mode & 0o777 == 0o644
    assert (booth / "etc/booth-agent").stat().st_mode & 0o777 == 0o750
    for name in ("agent.toml", "slots.toml"):
        assert (booth / "etc/booth-agent" / name).read_bytes() == (HOUSE / "provisioning" / name).read_bytes()
        assert (booth / "etc/booth-agent" / name).stat().st_mode & 0o777 == 0o644


def test_every_program_of_a_unit_is_there(booth: Path) -> None:
    units = booth / "etc/systemd/system"
    programs = {
        program
        for unit in units.glob("booth-*.service")
        for program in re.findall(r"^Exec\w+=-?(/opt\S+)", unit.read_text(), re.MULTILINE)
    }
    assert {Path(program).name for program in programs} == {
        "booth-act",
        "booth-agent",
        "booth-button",
        "booth-light",
        "booth-lockdown",
        "booth-pages",
        "booth-update",
        "python",
    }
    assert (booth / PLACE / "current").readlink() == Path("slots/a")
    assert (booth / PLACE / "bin").readlink() == Path("current/bin")
    update = booth / BASE / "bin/booth-update"
    assert update.read_text().startswith("#!/opt/booth-agent/base/bin/python\n")
    others = ("booth-act", "booth-light", "booth-button", "booth-lockdown", "booth-pages", "booth-session", "boothctl")
    for name in ("booth-agent", *others):
        program = booth / PLACE / "bin" / name
        assert program.read_text().startswith("#!/opt/booth-agent/slots/a/bin/python3\n")
        assert program.stat().st_mode & 0o777 == 0o755
        called = subprocess.run(
            [booth / SLOT / "bin/python", "-I", program, "--help"], capture_output=True, timeout=60, check=False
        )
        assert called.returncode == 0, called.stderr


def test_nothing_in_it_remembers_where_it_was_made(booth: Path) -> None:
    names = (str(booth).encode(), b"base.new")
    for file in (booth / PLACE).rglob("*"):
        if file.is_file() and not file.is_symlink():
            text = file.read_bytes()
            assert not [name for name in names if name in text], file
            assert file.name != "direct_url.json"
    assert (booth / PLACE / "bin/python").resolve() == Path("/usr/bin/python3").resolve()


def test_it_is_compiled_for_its_place_and_without_the_simulator(booth: Path) -> None:
    packages = next((booth / SLOT / "lib").glob("python3*/site-packages"))
    sources = list((packages / "agent").rglob("*.py"))
    assert len(sources) > 100
    assert not (packages / "agent/simulator").exists()
    for source in sources:
        compiled = list((source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc"))
        assert len(compiled) == 1, source
    code = marshal.loads(next(packages.glob("agent/privileged/__pycache__/usb.*.pyc")).read_bytes()[16:])
    assert isinstance(code, CodeType)
    assert code.co_filename == f"/{packages.relative_to(booth)}/agent/privileged/usb.py"


@pytest.mark.parametrize(("place", "file"), [(SLOT, "booth.lock"), (BASE, "base.lock")])
def test_the_libraries_are_those_of_the_lock_file_and_no_others(booth: Path, place: Path, file: str) -> None:
    packages = next((booth / place / "lib").glob("python3*/site-packages"))
    found = dict(
        re.findall(r"^(?:Name|Version): (\S+)", metadata.read_text(), re.MULTILINE)[:2]
        for metadata in packages.glob("*.dist-info/METADATA")
    )
    lock = dict(re.findall(r"^([\w.-]+)==(\S+)(?! ; sys)", (HOUSE / "requirements" / file).read_text(), re.MULTILINE))
    del found["booth-agent"]
    lock.pop("colorama", None)  # for Windows
    assert {name.lower().replace("_", "-"): version for name, version in found.items()} == lock


def test_once_more_changes_nothing_and_keeps_the_configuration(copy: Path, wheels: Path) -> None:
    before = listing(copy / SLOT)
    (copy / "etc/booth-agent/agent.toml").write_text("# mine\n")
    (copy / "etc/booth-agent/slots.toml").write_text("# mine\n")
    forms = copy / "var/lib/booth-forms/current"
    (forms / "mine").touch()
    for slot in ("b", "a"):
        (copy / PLACE / "bin/left-by-an-older-version").touch()
        (copy / BASE / "left-by-an-older-version").touch()
        make("install", DESTDIR=copy, WHEELS=wheels, FORMS="provisioning/forms")
        assert (copy / PLACE / "current").readlink() == Path("slots") / slot
        assert listing(copy / PLACE / "current/") == before
        assert not (copy / BASE / "left-by-an-older-version").exists()
    assert (forms / "mine").exists(), "what the operator has published since is not replaced"
    for name in ("agent.toml", "slots.toml"):
        assert (copy / "etc/booth-agent" / name).read_text() == "# mine\n"


# --- what goes wrong meanwhile ---


def before_there_were_slots(root: Path) -> None:
    """What `make install` of a version without slots made: one virtual environment."""
    place = root / PLACE
    for name in (
        "bin/booth-agent",
        "bin/booth-lockdown",
        "lib/python3.11/site-packages/agent/__init__.py",
        "pyvenv.cfg",
        "share/x",
    ):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("old")
    (place / "lib64").symlink_to("lib")
    (place / "include").mkdir()


def version_in_use(root: Path) -> str:
    """What `bin` leads to; it must be whole."""
    program = root / PLACE / "bin/booth-agent"
    if program.read_text() == "old":
        assert (root / PLACE / "lib64/python3.11/site-packages/agent/__init__.py").read_text() == "old"
        assert (root / PLACE / "pyvenv.cfg").exists()
        return "old"
    python = root / PLACE / (root / PLACE / "current").readlink() / "bin/python"
    said = subprocess.run([python, "-I", program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stderr
    return said.stdout.removeprefix("booth-agent ").strip()


def assert_only_slots(root: Path) -> None:
    assert {file.name for file in (root / PLACE).iterdir()} == {"base", "bin", "current", "slots"}
    assert (root / PLACE / "bin").readlink() == Path("current/bin")


def cut_off(moment: Callable[[], bool], tmp: Path, **variables: object) -> None:
    """`make install`, and the power goes at a moment. `tmp`: for what it leaves, which is gone after a start of the machine."""
    tmp.mkdir(exist_ok=True)
    process = subprocess.Popen(
        command("install", **variables), cwd=HOUSE, env=environment() | {"TMPDIR": str(tmp)}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end_s = time.monotonic() + DEADLINE_S
        while process.poll() is None and not moment():
            assert time.monotonic() < end_s
            time.sleep(0.002)
        assert process.returncode is None, "it was over before"
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.returncode is None else None
        process.wait(60)


@contextmanager
def looked_at_all_the_time(file: Path) -> Iterator[None]:
    """Whoever starts a program meanwhile finds one."""
    missing, over = [], threading.Event()

    def look() -> None:
        while not over.wait(0.0005):
            try:
                assert file.read_bytes()
            except OSError as error:
                missing.append(error)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield
    finally:
        over.set()
        looker.join(10)
    assert not missing


def test_a_power_cut_while_slots_come_to_a_booth_without_leaves_it_an_agent(wheels: Path, tmp_path: Path) -> None:
    """Whenever it is; and the next try brings them, without an instant at which there is no agent."""
    booth, place = tmp_path / "booth", tmp_path / "booth" / PLACE
    before_there_were_slots(booth)
    for written in ("base.new/lib", "slots/a/lib"):
        cut_off((place / written).exists, tmp_path / "tmp", DESTDIR=booth, WHEELS=wheels)
        assert version_in_use(booth) == "old"
    with looked_at_all_the_time(place / "bin/booth-agent"):
        make("install", DESTDIR=booth, WHEELS=wheels)
    assert version_in_use(booth) == VERSION
    assert_only_slots(booth)


def test_a_power_cut_while_another_version_is_installed_leaves_the_one_in_use(copy: Path, wheels: Path, tmp_path: Path) -> None:
    cut_off((copy / PLACE / "slots/b/lib").exists, tmp_path / "tmp", DESTDIR=copy, WHEELS=wheels)
    assert (copy / PLACE / "current").readlink() == Path("slots/a")
    assert version_in_use(copy) == VERSION
    assert (copy / BASE / "bin/booth-update").exists()
    with looked_at_all_the_time(copy / PLACE / "bin/booth-agent"), looked_at_all_the_time(copy / BASE / "bin/booth-update"):
        make("install", DESTDIR=copy, WHEELS=wheels)
    assert (copy / PLACE / "current").readlink() == Path("slots/b")
    assert_only_slots(copy)


def test_a_full_disk_leaves_a_booth_without_slots_its_agent(wheels: Path, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=40m") as disk:  # the base finds room, and the slot does not
        before_there_were_slots(disk)
        done = tried("install", DESTDIR=disk, WHEELS=wheels)
        assert done.returncode != 0
        assert "disk-full" in done.stderr or "No space left" in done.stderr or "MiB are free" in done.stderr
        assert (disk / BASE).exists()
        assert version_in_use(disk) == "old"
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        make("install", DESTDIR=disk, WHEELS=wheels)
        assert version_in_use(disk) == VERSION
        assert_only_slots(disk)


def test_a_fresh_booth_does_not_look_for_forms_that_nobody_has_laid(booth: Path) -> None:
    """It would say `no-device` from its first hour on. The operator switches it on with the first catalogue."""
    text = (booth / "etc/booth-agent/agent.toml").read_text()
    assert "forms" not in tomllib.loads(text)["peripherals"]
    switched_on = text.replace('# [peripherals.forms]\n# kind = "forms"', '[peripherals.forms]\nkind = "forms"')
    assert tomllib.loads(switched_on)["peripherals"]["forms"] == {"kind": "forms"}


def test_an_image_is_locked_without_anybody_naming_a_unit(booth: Path) -> None:
    wanted = {link.name for link in (booth / "etc/systemd/system").glob("*.wants/*") if link.is_symlink()}
    assert {
        "booth-agent.service",
        "booth-lockdown-apply.service",
        "booth-lockdown-check.timer",
        "booth-act-reboot.socket",
    } <= wanted


def test_uninstalled_nothing_is_left(copy: Path) -> None:
    assert (copy / "var/lib/booth-forms/current/catalogue.json").exists()
    for name in ("var/lib/booth-agent/store.db", "var/lib/booth-acts/reboot", "etc/booth-agent/booth.key"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).touch()
    make("uninstall", DESTDIR=copy)
    left = {name for name in listing(copy) if not (copy / name).is_dir() or (copy / name).is_symlink()}
    assert left == {"etc/systemd/system/cups.service.d/other.conf", "etc/udev/rules.d/99-com.rules", "var/lib/other/file"}
    assert not [name for name in listing(copy) if "booth" in name]
    make("uninstall", DESTDIR=copy)  # where nothing is left to do


def test_uninstalled_but_for_configuration_and_state(copy: Path) -> None:
    (copy / "var/lib/booth-agent").mkdir()
    (copy / "var/lib/booth-agent/store.db").touch()
    make("uninstall", DESTDIR=copy, KEEP=1)
    left = {name for name in listing(copy) if "booth" in name and not (copy / name).is_dir()}
    kept = ("var/lib/booth-update/", "var/lib/booth-forms/")
    left = {name for name in left if not name.startswith(kept)}
    assert left == {"etc/booth-agent/agent.toml", "etc/booth-agent/slots.toml", "var/lib/booth-agent/store.db"}


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("systemd-tmpfiles") is None, reason="needs root and systemd's own programs")
def test_the_first_boot_makes_the_user_and_gives_it_the_keys(copy: Path) -> None:
    (copy / "etc/booth-agent/booth.key").touch(0o600)
    subprocess.run(["systemd-sysusers", f"--root={copy}", "booth-agent.conf"], check=True, capture_output=True, timeout=60)
    subprocess.run(["systemd-tmpfiles", f"--root={copy}", "--create", "booth-agent.conf"], check=True, timeout=60)
    groups = dict(re.findall(r"^([\w-]+):[^:]*:(\d+):", (copy / "etc/group").read_text(), re.MULTILINE))
    for name, mode, group in (("", 0o750, "booth-agent"), ("booth.key", 0o640, "booth-agent"), ("slots.toml", 0o644, None)):
        status = (copy / "etc/booth-agent" / name).stat()
        assert (status.st_uid, status.st_mode & 0o777) == (0, mode)
        assert status.st_gid == (int(groups[group]) if group else 0)
