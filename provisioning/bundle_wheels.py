"""The wheels of a release, for each architecture: fetched by the hashes of requirements/booth.lock, or built so that two builds
give the same bytes. Needs pip's index, and for another architecture Debian's packages."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HOUSE: Final = Path(__file__).parents[1]

_MINOR: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
_GLIBC: Final = 36  # 2.36, of Debian 12, the oldest that a booth has
_FETCHES_WITHIN_S: Final = 900.0
_BUILDS_WITHIN_S: Final = 600.0
_EPOCH_OF_ZIP: Final = (1980, 1, 1, 0, 0, 0)  # the files' times say nothing
_OURS: Final = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
# A booth has no use for the simulator; and what a test that runs just now has put there is none of ours.
_NOT_OURS: Final = shutil.ignore_patterns("__pycache__", "simulator", "job*_of_*.py")
_IMPORTS: Final = """
import importlib, pathlib, sys
folder = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(folder))
from agent import VERSION
for file in sorted(folder.rglob("*.cpython-*.so")) + sorted(folder.rglob("*.abi3.so")):
    try:
        importlib.import_module(".".join((*file.relative_to(folder).parent.parts, file.name.partition(".")[0])))
    except ModuleNotFoundError as error:
        if error.name != "tkinter":  # no booth opens a window
            raise
print(VERSION)
"""


class NotBuilt(Exception):
    """What a program that we called complained about."""


@dataclass(frozen=True)
class Target:
    """An architecture: as Debian, the kernel and the ELF header call it."""

    debian: str
    machine: str
    elf: int

    @property
    def triple(self) -> str:
        return f"{self.machine}-linux-gnu"

    @property
    def native(self) -> bool:
        return os.uname().machine == self.machine

    @property
    def packages(self) -> list[str]:
        """What this machine needs of Debian to build for it."""
        native = [
            "python3",
            "python3-venv",
            "python3-dev",
            "gcc",
            "linux-libc-dev",
            "pkg-config",
            "libsystemd-dev",
            "libsane-dev",
        ]
        foreign = [f"gcc-{self.triple}".replace("_", "-"), f"libc6-dev-{self.debian}-cross", "qemu-user-static"]
        return native if self.native else [*native, *foreign]


TARGETS: Final = {"amd64": Target("amd64", "x86_64", 62), "arm64": Target("arm64", "aarch64", 183)}


class Workshop:
    """A virtual environment with the pinned tools, and what is built in it. Each method raises NotBuilt."""

    def __init__(self, work: Path, cross: Path, at_s: int) -> None:
        """`cross`: where the headers and libraries of other architectures are, or will be, for this build and later ones."""
        self._work = work
        self._cross = cross
        self._at_s = at_s
        self._python = work / "venv/bin/python"
        call([sys.executable, "-m", "venv", str(work / "venv")], _BUILDS_WITHIN_S)
        self._pip("install", "--require-hashes", "-r", str(HOUSE / "requirements/build.lock"))

    def own_wheel(self) -> Path:
        """The agent's."""
        source = self._work / "source"
        shutil.copytree(HOUSE / "agent", source / "agent", ignore=_NOT_OURS)
        for name in _OURS:
            shutil.copyfile(HOUSE / name, source / name)
        return self._built(source, self._work / "own", {})

    def wheels_of_others(self, target: Target) -> list[Path]:
        """Those of requirements/booth.lock. What has no wheel comes as sources, and is compiled here."""
        folder = self._work / target.debian
        platforms = [f"manylinux_2_{minor}_{target.machine}" for minor in range(_GLIBC, 16, -1)]
        arguments = [part for platform in (*platforms, f"manylinux2014_{target.machine}") for part in ("--platform", platform)]
        self._pip(
            "download", "--require-hashes", "--no-deps", "--no-build-isolation", "--prefer-binary", *arguments,
            "--dest", str(folder), "-r", str(HOUSE / "requirements/booth.lock"),
        )  # fmt: skip
        sources = sorted(file for file in folder.iterdir() if file.suffix != ".whl")
        environment = {} if target.native or not sources else self._for_another(target)
        for archive in sources:
            shutil.unpack_archive(archive, folder / "sources")
            self._built(folder / "sources" / archive.name.removesuffix(".tar.gz"), folder, environment)
        return sorted(folder.glob("*.whl"))

    def try_out(self, target: Target, wheels: Sequence[Path]) -> str:
        """Every extension is of its architecture and finds all that it needs; under emulation where it is not this machine's.
        Returns the version of the agent that was imported."""
        folder = self._work / f"tried-{target.debian}"
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
        for file in folder.rglob("*.so*"):
            if (machine := int.from_bytes(file.read_bytes()[18:20], "little")) != target.elf:
                raise NotBuilt(f"{file.relative_to(folder)} is for machine {machine}, not for {target.debian}")
        command = [sys.executable]
        if not target.native:
            root = self._root_of(target)
            names = (f"qemu-{target.machine}-static", f"qemu-{target.machine}")
            emulator = next(filter(None, map(shutil.which, names)), names[0])
            command = [emulator, "-L", str(root), str(root / f"usr/bin/python{_MINOR}")]
        return call([*command, "-I", "-S", "-B", "-c", _IMPORTS, str(folder)], _BUILDS_WITHIN_S).strip()

    def _pip(self, *arguments: str) -> None:
        command = [str(self._python), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
        call(command, _FETCHES_WITHIN_S, os.environ | {"SOURCE_DATE_EPOCH": str(self._at_s)})

    def _built(self, source: Path, out: Path, environment: Mapping[str, str]) -> Path:
        """The wheel of a folder of sources, whose own name and place, the time and the user's habits leave no trace in it."""
        out.mkdir(parents=True, exist_ok=True)
        backend = "it" if (source / "pyproject.toml").exists() else "it.__legacy__"
        script = f"import sys, setuptools.build_meta as it; print('', {backend}.build_wheel(sys.argv[1]), sep='\\n')"
        plain = {
            "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0",
            "SOURCE_DATE_EPOCH": str(self._at_s), "CFLAGS": f"-g0 -ffile-prefix-map={source}=.", "LDFLAGS": "-Wl,-s",
        }  # fmt: skip
        added = {name: " ".join(filter(None, (plain.get(name), value))) for name, value in environment.items()}
        said = call([str(self._python), "-c", script, str(out)], _BUILDS_WITHIN_S, plain | added, source)
        wheel = out / said.strip().splitlines()[-1]
        _settle(wheel)
        return wheel

    def _root_of(self, target: Target) -> Path:
        folder = self._cross.resolve() / f"{target.debian}-{_MINOR}"
        call(["sh", str(HOUSE / "provisioning/cross.sh"), target.debian, _MINOR, str(folder)], _FETCHES_WITHIN_S)
        return folder / "root"

    def _for_another(self, target: Target) -> dict[str, str]:
        """What makes setuptools compile for another architecture: that one's answers about its Python, and its libraries."""
        root = self._root_of(target)
        name = f"_sysconfigdata__{target.triple}"
        answers = self._work / f"answers-{target.debian}"
        answers.mkdir()
        shutil.copyfile(root / f"usr/lib/python{_MINOR}/{name}.py", answers / f"{name}.py")
        libraries = root / "usr/lib" / target.triple
        return {
            "PYTHONPATH": str(answers),
            "_PYTHON_SYSCONFIGDATA_NAME": name,
            "_PYTHON_HOST_PLATFORM": f"linux-{target.machine}",
            "PKG_CONFIG_LIBDIR": str(libraries / "pkgconfig"),
            "CFLAGS": f"-I{root}/usr/include -ffile-prefix-map={root}=",
            "LDFLAGS": f"-L{libraries} -Wl,-rpath-link={libraries}",
        }


def call(command: Sequence[str], within_s: float, environment: Mapping[str, str] | None = None, folder: Path = HOUSE) -> str:
    """Run a program to its end. Returns what it says. Raises NotBuilt with its last words."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
            env=environment,
            cwd=folder,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotBuilt(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise NotBuilt(f"{' '.join(command)[:300]} ended with {done.returncode}:\n{last}")
    return done.stdout


def _settle(wheel: Path) -> None:
    """The same archive without the time, the order and the modes in which its files happened to be."""
    fresh = wheel.with_suffix(".fresh")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED) as new:
        names = sorted(old.namelist(), key=lambda name: (".dist-info/" in name, name.endswith("/RECORD"), name))
        for name in names:
            if name.endswith("/"):
                continue
            member = zipfile.ZipInfo(name, _EPOCH_OF_ZIP)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            new.writestr(member, old.read(name))
    fresh.replace(wheel)
