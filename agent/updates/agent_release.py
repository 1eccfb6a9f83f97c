"""The agent itself: a folder of wheels, which becomes a virtual environment. docs/bundles.md."""

import os
import shutil
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Annotated, Final, Literal

from agent.contract.decode import BadJson, decode_object
from agent.contract.typed import Check, Invalid, Length, Pattern, Range, build
from agent.contract.update import Architecture, Artifact, Sha256, Version, Window
from agent.updates import environment
from agent.updates.environment import this_python
from agent.updates.kind import Kind, NotGood
from agent.updates.selftest import said_by

# What `make install` brought and no bundle can change: units, rules of udev, root's program outside the slots. A bundle names the
# generation that it needs; raise it here when a release needs more than the one before.
BASE: Final = 1
MANIFEST: Final = "manifest.json"
WHEELS: Final = "wheels"

_KEPT: Final = (MANIFEST, "sbom.json")  # what a slot says of itself
_MACHINES: Final[dict[str, Architecture]] = {"x86_64": "amd64", "aarch64": "arm64"}  # as the kernel calls them
_PHASES: Final = {"a": 0, "b": 1, "rc": 2}
_LAST: Final = 1 << 30  # after every number that a version can have

PythonMinor = Annotated[str, Pattern(r"3\.[1-9][0-9]?", "a minor version of Python such as 3.11")]


@dataclass(frozen=True)
class AgentSection:
    """`agent` of an update document. Contract §7."""

    version: Version
    artifacts: Annotated[
        dict[Architecture, Artifact],
        Check(lambda artifacts: None if artifacts else "name the file of at least one architecture", "at least one architecture"),
    ]
    window: Window | None = None


@dataclass(frozen=True)
class Wheel:
    """`python`: the only minor version of Python that it is for; None for any."""

    file: Annotated[str, Pattern(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,140}\.whl", "the name of a wheel")]
    sha256: Sha256
    python: PythonMinor | None = None


@dataclass(frozen=True)
class Manifest:
    """`manifest.json` of a bundle. `python`: the minor versions that it has every wheel for."""

    schema: Literal[1]
    name: Literal["booth-agent"]
    version: Version
    architecture: Architecture
    python: Annotated[list[PythonMinor], Length(8)]
    base: Annotated[int, Range(1, 10_000)]
    wheels: Annotated[list[Wheel], Length(200)]


def this_architecture() -> str:
    """Of this machine, as Debian and update documents call it; the kernel's own word where they have none."""
    machine = os.uname().machine
    return _MACHINES.get(machine, machine)


def older(before: str, after: str) -> bool:
    """Whether version `after` is a step back. The order is PEP 440's."""
    return _order(after) < _order(before)


def _order(version: str) -> tuple[tuple[int, ...], tuple[int, int], int]:
    release, _, dev = version.partition(".dev")
    phase: tuple[int, int] = (_LAST, 0)
    for word, rank in _PHASES.items():
        head, found, number = release.partition(word)
        if found:
            release, phase = head, (rank, int(number))
            break
    if dev and phase[0] == _LAST:
        phase = (-1, 0)  # 1.0.dev1 comes before 1.0a1
    numbers = [int(number) for number in release.split(".")]
    while numbers[-1:] == [0]:
        numbers.pop()  # 1.0 is 1.0.0
    return tuple(numbers), phase, int(dev) if dev else _LAST


def lay(files: Path, slot: Path, place: Path, version: str) -> None:
    """Make the empty folder `slot` a virtual environment with the bundle's wheels, which works once it is found at `place`.

    Nothing is written elsewhere, and nothing of it is called. Raises NotGood, OSError.
    """
    manifest = _manifest(files)
    _fits(manifest, version)
    wheels = [files / WHEELS / wheel.file for wheel in _whole(files, manifest) if wheel.python in (None, this_python())]
    with environment.full_disk_is_told():
        environment.make(slot, place, wheels)
        for name in _KEPT:
            if (files / name).is_file():
                shutil.copyfile(files / name, slot / name)
                (slot / name).chmod(0o644)


def check(slot: Path, config: Path) -> None:
    """Whether the slot's agent starts, is the version that it should be, and reads the booth's `agent.toml`. Raises NotGood."""
    manifest = _manifest(slot)
    said = said_by(slot, "--version")
    if said != f"booth-agent {manifest.version}":
        raise NotGood("selftest-failed", f"it should be booth-agent {manifest.version}, and calls itself {said[:100]!r}")
    if (config / "agent.toml").exists():
        said_by(slot, "check-config", "--config", str(config / "agent.toml"))


def _manifest(folder: Path) -> Manifest:
    try:
        # A later one may say more: what must not be ignored raises `base`.
        return build(Manifest, decode_object((folder / MANIFEST).read_bytes()), unknown="ignore")
    except (FileNotFoundError, IsADirectoryError):
        raise NotGood("bad-archive", f"it has no {MANIFEST}") from None
    except (BadJson, Invalid) as error:
        raise NotGood("bad-archive", f"{MANIFEST}: {error}") from error


def _fits(manifest: Manifest, version: str) -> None:
    if manifest.version != version:
        raise NotGood("wrong-version", f"it is version {manifest.version}, not {version} as its document says")
    if manifest.architecture != this_architecture():
        raise NotGood("wrong-architecture", f"it is for {manifest.architecture}; this booth is {this_architecture()}")
    if this_python() not in manifest.python:
        has = ", ".join(manifest.python) or "none"
        raise NotGood("wrong-python", f"it is for Python {has}; this booth has {this_python()}: build a bundle there")
    if manifest.base > BASE:
        raise NotGood(
            "base-too-old", f"it needs base {manifest.base}; this booth has {BASE}: it takes that release's `make install`"
        )


def _whole(files: Path, manifest: Manifest) -> list[Wheel]:
    """The manifest's wheels, which are all there, as they should be, and no others."""
    listed = {wheel.file for wheel in manifest.wheels}
    found = {file.name if file.is_file() else f"{file.name}/" for file in (files / WHEELS).glob("*")}
    if len(listed) != len(manifest.wheels) or listed != found:
        odd = ", ".join(sorted(listed ^ found)) or "one is listed twice"
        raise NotGood("bad-archive", f"{MANIFEST} and {WHEELS}/ differ: {odd[:300]}")
    for wheel in manifest.wheels:
        with open(files / WHEELS / wheel.file, "rb") as stream:
            if file_digest(stream, "sha256").hexdigest() != wheel.sha256:
                raise NotGood("bad-archive", f"{wheel.file} is not the file that {MANIFEST} names")
    return manifest.wheels


KIND: Final = Kind(
    name="agent",
    section=AgentSection,
    artifact=lambda section, architecture: section.artifacts.get(architecture),
    version=lambda section: section.version,
    place="opt/booth-agent",
    lay=lay,
    check=check,
    on_trial=True,
    older=older,
)
