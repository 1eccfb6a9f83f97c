"""`make bundle`: the same release twice, byte for byte, in other folders; and what a booth makes of it."""

import json
import os
import platform
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest

from agent import RELEASED_AT, VERSION
from agent.contract.typed import build
from agent.privileged.machine import Machine
from agent.privileged.updating import DOWNLOADS, Updating
from agent.updates.agent_release import BASE, Manifest, this_architecture
from agent.updates.archive import unpack
from agent.updates.environment import this_python
from tests.updates.story import OPERATOR, Root

HOUSE: Final = Path(__file__).parents[2]
PYTHON: Final = "/usr/bin/python3"
PARTS: Final = ("agent", "provisioning", "requirements", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "Makefile")
OTHER: Final = {"amd64": "arm64", "arm64": "amd64"}
OWN_VARIABLES: Final = ("ARCH", "BUNDLES", "PYTHON", "MAKEFLAGS", "SOURCE_DATE_EPOCH", "WHEELS")
DEADLINE_S: Final = 300  # the first time, pip asks the registry
UNREACHABLE: Final = "Connection|Temporary failure|No matching distribution|Could not (fetch|resolve|connect)|Failed to fetch"

for needed in (PYTHON, "/usr/bin/make", "/usr/bin/gcc"):
    if not Path(needed).exists():
        pytest.skip(f"{needed} is missing", allow_module_level=True)

MINOR: Final = subprocess.run(
    [PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, timeout=60, check=True
).stdout.strip()


def make(house: Path, target: str, umask: int = 0o022, **variables: object) -> str:
    """What it says on its standard error. Skips where the registry cannot be reached."""
    done = subprocess.run(
        ["make", "--no-print-directory", "--silent", target, *(f"{name}={value}" for name, value in variables.items())],
        cwd=house, capture_output=True, text=True, timeout=DEADLINE_S, check=False, umask=umask,
        env={name: value for name, value in os.environ.items() if name not in OWN_VARIABLES},
    )  # fmt: skip
    if done.returncode and re.search(UNREACHABLE, done.stdout + done.stderr):
        pytest.skip("the package registry cannot be reached")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def copy_of_the_sources(folder: Path, house: Path = HOUSE) -> Path:
    """As another checkout has them: without what a build or a test leaves there."""
    folder.mkdir(parents=True)
    for part in PARTS:
        source = house / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "job*_of_*.py"))
        else:
            shutil.copyfile(source, folder / part)
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_sources(tmp_path_factory.mktemp("sources") / "checkout")


@pytest.fixture(scope="module")
def release(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`make bundle` for this machine's architecture."""
    folder = tmp_path_factory.mktemp("release")
    make(sources, "bundle", BUNDLES=folder, ARCH=this_architecture())
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def files(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a booth unpacks."""
    folder = tmp_path_factory.mktemp("files")
    unpack(release / f"booth-agent-{VERSION}-{this_architecture()}.tar", folder)
    return folder


def manifest_of(files: Path) -> Manifest:
    return build(Manifest, json.loads((files / "manifest.json").read_text()))


# --- what is in it ---


def test_a_release_is_a_bundle_its_hashes_and_what_it_consists_of(release: Path) -> None:
    bundle, parts = f"booth-agent-{VERSION}-{this_architecture()}.tar", f"booth-agent-{VERSION}.cdx.json"
    assert {file.name for file in release.iterdir()} == {bundle, parts, "SHA256SUMS"}
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=release, timeout=60, check=True)
    assert len((release / "SHA256SUMS").read_text().splitlines()) == 2


def test_its_manifest_says_what_it_is_for_and_names_each_wheel(files: Path) -> None:
    manifest = manifest_of(files)
    assert (manifest.version, manifest.architecture, manifest.python, manifest.base) == (
        VERSION,
        this_architecture(),
        [MINOR],
        BASE,
    )
    for listed in manifest.wheels:
        assert sha256((files / "wheels" / listed.file).read_bytes()).hexdigest() == listed.sha256
        assert listed.python in (None, MINOR)
    assert {listed.file for listed in manifest.wheels} == {file.name for file in (files / "wheels").iterdir()}


def test_its_libraries_are_those_of_the_lock_file_with_the_hashes_that_are_pinned(files: Path) -> None:
    text = (HOUSE / "requirements/booth.lock").read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==([^ ;]+)(?! ; sys)", text, re.MULTILINE))
    pinned.pop("colorama", None)  # for Windows
    found = {}
    for listed in manifest_of(files).wheels:
        name, version, *_, platform_tag = listed.file.split("-")
        found[name.lower().replace("_", "-").replace(".", "-")] = version
        if not platform_tag.startswith("linux") and name != "booth_agent":  # neither was built here
            assert f"--hash=sha256:{listed.sha256}" in text, listed.file
    assert found.pop("booth-agent") == VERSION
    assert found == pinned


def test_the_simulator_and_the_tests_are_no_part_of_it(files: Path) -> None:
    with zipfile.ZipFile(files / f"wheels/booth_agent-{VERSION}-py3-none-any.whl") as wheel:
        names = wheel.namelist()
    assert {"agent/app.py", "agent/py.typed", "agent/updates/agent_release.py"} <= set(names)
    assert not [name for name in names if "simulator" in name or name.startswith("tests")]


def test_what_it_consists_of_is_told_with_origin_hash_and_licence(release: Path, files: Path) -> None:
    together: dict[str, Any] = json.loads((release / f"booth-agent-{VERSION}.cdx.json").read_text())
    assert json.loads((files / "sbom.json").read_text()) == together, "of one architecture, they are the same"
    assert (together["bomFormat"], together["specVersion"]) == ("CycloneDX", "1.5")
    assert together["metadata"]["timestamp"].startswith("20")
    whole = together["metadata"]["component"]
    parts = {part["bom-ref"]: part for part in together["components"]}
    assert (whole["name"], whole["version"], whole["licenses"]) == ("booth-agent", VERSION, [{"license": {"name": "Apache-2.0"}}])
    assert set(parts) | {whole["bom-ref"]} == {listed.file for listed in manifest_of(files).wheels}
    for listed in manifest_of(files).wheels:
        part = parts.get(listed.file, whole)
        assert part["hashes"] == [{"alg": "SHA-256", "content": listed.sha256}]
        assert part["purl"] == f"pkg:pypi/{part['name']}@{part['version']}?file_name={listed.file}"
        assert part.get("licenses") or part["name"] == "python-sane", listed.file  # which names none, and comes with its text
    needs = {part["ref"]: part["dependsOn"] for part in together["dependencies"]}
    names = {parts[reference]["name"] for reference in needs[whole["bom-ref"]]}
    assert {"cryptography", "paho-mqtt", "systemd-python", "python-sane"} <= names
    assert set(needs) == set(parts) | {whole["bom-ref"]}


# --- the same again ---


def test_built_twice_in_other_folders_by_other_people_at_other_times_it_is_the_same(
    release: Path, sources: Path, tmp_path: Path
) -> None:
    elsewhere = copy_of_the_sources(tmp_path / "a" / "longer path" / "of somebody else", sources)
    for number, file in enumerate(sorted(elsewhere.rglob("*.py"))):
        os.utime(file, (1_600_000_000 + number, 1_600_000_000 + number))
        file.chmod(0o600)
    make(elsewhere, "bundle", 0o077, BUNDLES=tmp_path / "again", ARCH=this_architecture())
    for file in release.iterdir():
        subprocess.run(["cmp", file, tmp_path / "again" / file.name], timeout=60, check=True)


def test_what_was_compiled_names_no_folder(files: Path, sources: Path) -> None:
    compiled = 0
    for wheel in (files / "wheels").glob("*-linux_*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                assert str(sources.parent).encode() not in archive.read(name)
                assert b"/booth-bundle-" not in archive.read(name), name
                compiled += name.endswith(".so")
    assert compiled >= 6, "five of systemd-python, one of python-sane"


def test_its_times_are_those_of_the_release(release: Path) -> None:
    listed = subprocess.run(
        ["tar", "--list", "--verbose", "--full-time", "--utc", "--numeric-owner", "--file", next(release.glob("*.tar"))],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert len(listed) > 15
    day = subprocess.run(["date", "--utc", "--date", f"@{RELEASED_AT:.0f}", "+%F"], capture_output=True, text=True, check=True)
    assert all(line.startswith("-rw-r--r-- 0/0 ") and f" {day.stdout.strip()} " in line for line in listed), listed


# --- on a booth ---


@pytest.fixture(scope="module")
def slot(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Laid as root's program does it: by the system's Python, which has the library `installer`, and no other."""
    folder = tmp_path_factory.mktemp("booth")
    installer = find_spec("installer")
    assert installer is not None and installer.origin is not None
    shutil.copytree(Path(installer.origin).parent, folder / "base/installer")
    (folder / "slots/b").mkdir(parents=True)
    script = """
import sys
from pathlib import Path
sys.dont_write_bytecode = True
sys.path[:0] = sys.argv[1:3]
from agent.updates.agent_release import check, lay
files, slot, config = map(Path, sys.argv[3:6])
lay(files, slot, Path("/opt/booth-agent/slots/b"), sys.argv[6])
check(slot, config)
"""
    (folder / "config").mkdir()
    example = (HOUSE / "provisioning/agent.toml").read_text()
    (folder / "config/agent.toml").write_text(example)
    for name in ("ca.pem", "booth.pem", "booth.key"):
        (folder / "config" / name).touch()
    arguments = [HOUSE, folder / "base", files, folder / "slots/b", folder / "config", VERSION]
    done = subprocess.run(
        [PYTHON, "-I", "-W", "error", "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "slots/b"


def test_a_booth_lays_it_and_finds_that_it_works_and_reads_the_booths_settings(slot: Path) -> None:
    said = subprocess.run(
        [slot / "bin/python3", "-I", "-B", "-m", "agent", "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout == f"booth-agent {VERSION}\n"


def test_each_of_its_programs_starts_from_the_slot(slot: Path) -> None:
    programs = sorted(file for file in (slot / "bin").glob("booth*") if not file.is_symlink())
    assert {"booth-agent", "booth-act", "booth-lockdown", "boothctl", "booth-session"} <= {program.name for program in programs}
    for program in programs:
        assert program.read_text().startswith("#!/opt/booth-agent/slots/b/bin/python3\n")
        helped = subprocess.run(
            [slot / "bin/python3", "-I", "-B", program, "--help"], capture_output=True, timeout=60, check=False
        )
        assert helped.returncode == 0, (program, helped.stderr)


def test_all_of_it_is_compiled_and_nothing_remembers_where_it_was_laid(slot: Path) -> None:
    for file in slot.rglob("*"):
        if file.is_file() and not file.is_symlink():
            assert str(slot.parent).encode() not in file.read_bytes(), file
        if file.suffix == ".py":
            assert list(file.parent.glob(f"__pycache__/{file.stem}.cpython-*.pyc")), file


@pytest.mark.skipif(this_python() != MINOR, reason=f"the tests run in another Python than {PYTHON}, which builds")
def test_root_takes_it_from_a_signed_document_to_a_slot_that_counts(release: Path, tmp_path: Path) -> None:
    """The file of `make bundle` itself, with root's own program and the real kinds."""
    root = Root(tmp_path)
    root.booth()
    with open(tmp_path / "etc/booth-agent/agent.toml", "a") as config:
        config.write('[peripherals.board]\nkind = "board"\n')
    data = (release / f"booth-agent-{VERSION}-{this_architecture()}.tar").read_bytes()
    digest = sha256(data).hexdigest()
    artifact = {"url": "https://updates.example/x.tar", "size_bytes": len(data), "sha256": digest}
    (tmp_path / DOWNLOADS / digest).write_bytes(data)
    doc = {"agent": {"version": VERSION, "artifacts": {this_architecture(): artifact}}}

    def updating() -> Updating:
        return Updating(Machine(tmp_path), reachable=lambda _host, _port: False)

    assert updating().take("booth", OPERATOR.sign("update", doc, 1)).event == "accepted"
    assert updating().stage("agent").reported.phase == "waiting-idle"
    assert updating().switch("agent").reported.phase == "verifying"
    reported = updating().healthy(VERSION, online=True).reported
    assert (reported.phase, reported.sections["agent"]["version"]) == ("committed", VERSION)
    assert (tmp_path / "opt/booth-agent/current/bin/booth-agent").is_file()


def test_what_is_installed_from_a_folder_of_wheels_is_the_same(files: Path, sources: Path, tmp_path: Path) -> None:
    own = files / f"wheels/booth_agent-{VERSION}-py3-none-any.whl"
    command: list[str | Path] = [
        PYTHON,
        sources / "provisioning/bundle.py",
        "--local",
        "--wheels",
        files / "wheels",
        "--own",
        own,
    ]
    subprocess.run([*command, "--out", tmp_path / "out"], timeout=60, check=True, env={"PATH": "/usr/bin"})
    assert (tmp_path / "out/manifest.json").read_bytes() == (files / "manifest.json").read_bytes()
    assert {file.name for file in (tmp_path / "out/wheels").iterdir()} == {file.name for file in (files / "wheels").iterdir()}
    assert not list(sources.rglob("__pycache__")), "the sources may be read-only"


def test_a_folder_without_a_pinned_wheel_says_what_to_do(files: Path, sources: Path, tmp_path: Path) -> None:
    shutil.copytree(files / "wheels", tmp_path / "wheels")
    next((tmp_path / "wheels").glob("six-*")).unlink()
    command: list[str | Path] = [
        PYTHON,
        sources / "provisioning/bundle.py",
        "--local",
        "--wheels",
        tmp_path / "wheels",
        "--own",
        "x.whl",
    ]
    done = subprocess.run([*command, "--out", tmp_path / "out"], timeout=60, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"bundle.py: \S+ has no wheel of six [\d.]+; fill an empty folder: make wheels WHEELS=DIR\n", done.stderr)
    assert not (tmp_path / "out").exists()


# --- for another architecture ---


def test_built_for_another_architecture_all_of_it_loads_there(sources: Path, tmp_path: Path) -> None:
    """`make bundle` itself loads every extension under emulation before it calls a bundle made."""
    other = OTHER[this_architecture()]
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[other]
    for program in (f"{machine}-linux-gnu-gcc", f"qemu-{machine}-static"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: run `make bundle` once")
    kept = HOUSE / "build/cross"
    make(sources, "bundle", BUNDLES=tmp_path / "out", ARCH=other, CROSS=kept if kept.exists() else tmp_path / "cross")
    unpack(tmp_path / f"out/booth-agent-{VERSION}-{other}.tar", tmp_path / "files")
    manifest = manifest_of(tmp_path / "files")
    assert (manifest.architecture, manifest.python) == (other, [MINOR])
    suffixes = {listed.file.rpartition("_")[2] for listed in manifest.wheels if "-none-any" not in listed.file}
    assert suffixes == {f"{machine.rpartition('_')[2]}.whl"}
    assert platform.machine() != machine
