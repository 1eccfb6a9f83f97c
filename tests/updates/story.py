"""Root's part of updates on a root of a test's own, with two kinds of the simplest form: one goes on trial, the other counts at
once."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.contract.update import Artifact, Window
from agent.documents.signatures import SigningKey
from agent.privileged.machine import Machine
from agent.privileged.updating import DOWNLOADS, STATE, Updating
from agent.updates.archive import pack
from agent.updates.kind import Kind, NotGood
from agent.updates.words import Answer, Task
from tests.documents.operator import Operator

OPERATOR = Operator()
BOOTH = "booth/v1/61/61-0007"


@dataclass(frozen=True)
class Section:
    version: str
    file: Artifact
    window: Window | None = None


def lay(files: Path, slot: Path, place: Path, version: str) -> None:
    assert place.is_absolute()
    said = (files / "version").read_text()
    if said != version:
        raise NotGood("wrong-version", f"it is {said}")
    (slot / "version").write_text(said)
    (slot / "body").write_bytes((files / "body").read_bytes())


def check(slot: Path, _config: Path) -> None:
    if b"broken" in (slot / "body").read_bytes():
        raise NotGood("selftest-failed", "it says that it is broken")


def order(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


KINDS = {
    name: Kind(
        name, Section, lambda section, _architecture: section.file, lambda section: section.version, place, lay, check,
        on_trial=on_trial, older=lambda before, after: order(after) < order(before),
    )
    for name, place, on_trial in (("agent", "opt/booth-agent", True), ("forms", "var/lib/booth-forms", False))
}  # fmt: skip


class Root:
    """`reached`: whether root itself reaches the broker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reached = True
        self.rev = 0

    def prepare(self, version: str = "1.0") -> None:
        """A booth with a trust list, where a version of both kinds is installed."""
        self.booth()
        for name in KINDS:
            self.updating().install(name, self.files(version, b"as installed"), version)

    def booth(self) -> None:
        """One with a trust list, and nothing installed."""
        config = self.folder / "etc/booth-agent"
        config.mkdir(parents=True)
        (config / "agent.toml").write_text('[booth]\nid = "61-0007"\narea = "61"\n[broker]\nurl = "mqtt://127.0.0.1:1883"\n')
        OPERATOR.install(config)
        (self.folder / "proc/sys/kernel/random").mkdir(parents=True)
        self.boot("first")
        (self.folder / DOWNLOADS).mkdir(parents=True)

    def boot(self, name: str) -> None:
        (self.folder / "proc/sys/kernel/random/boot_id").write_text(f"{name}\n")

    def updating(
        self, at: Callable[[str], None] = lambda _moment: None, told: Callable[[Answer], None] = lambda _answer: None
    ) -> Updating:
        """A new run of root's program."""
        return Updating(Machine(self.folder), KINDS, lambda _host, _port: self.reached, at, told)

    def publish(
        self, versions: dict[str, str], at: Callable[[str], None] = lambda _moment: None, *, body: bytes = b"new",
        layer: Any = "booth", keys: tuple[SigningKey, ...] | None = None, rev: int | None = None, **over: Any,
    ) -> Answer:  # fmt: skip
        """The operator publishes a document, and the daemon carries it to root."""
        self.rev = self.rev + 1 if rev is None else rev
        doc = {name: self.section(version, body) for name, version in versions.items()}
        return self.updating(at).take(layer, OPERATOR.sign("update", doc, self.rev, keys=keys, **{"audience": BOOTH} | over))

    def section(self, version: str, body: bytes = b"new") -> dict[str, Any]:
        data = self.archive(version, body)
        return {
            "version": version,
            "file": {
                "url": f"https://updates.example/{version}.tar",
                "size_bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            },
        }

    def archive(self, version: str, body: bytes = b"new") -> bytes:
        file = self.folder / "made.tar"
        pack(self.files(version, body), file, 0)
        return file.read_bytes()

    def fetch(self, task: Task, body: bytes = b"new", data: bytes | None = None) -> None:
        """What the download process does."""
        (self.folder / DOWNLOADS / task.sha256).write_bytes(self.archive(task.version, body) if data is None else data)

    def in_use(self, name: str) -> str:
        """The version in the slot that counts; it must be whole."""
        place = self.folder / KINDS[name].place
        slot = place / (place / "current").readlink()
        release = json.loads((slot / "release.json").read_text())
        assert (slot / "version").read_text() == release["version"]
        assert (slot / "body").read_bytes()
        return str(release["version"])

    def untouched(self) -> dict[str, Any]:
        """What no refused document changes: slots and links, what was accepted, how far each kind is."""
        state = json.loads((self.folder / STATE / "documents/state.json").read_text())
        found: dict[str, Any] = {"accepted": state["accepted"], "facts": state["facts"]}
        for place in (*(kind.place for kind in KINDS.values()), f"{STATE}/documents"):
            for file in sorted((self.folder / place).rglob("*")):
                if file.is_symlink():
                    found[str(file)] = str(file.readlink())
                elif file.is_file() and not file.name.startswith("state"):
                    found[str(file)] = file.read_bytes()
        return found

    def progress(self, name: str) -> dict[str, Any]:
        """How far a kind is, as root has it on disk."""
        state = json.loads((self.folder / STATE / "documents/state.json").read_text())
        progress: dict[str, Any] = state["facts"]["progress"].get(name, {})
        return progress

    def until_laid(self, name: str = "agent", version: str = "1.1", **over: Any) -> Task:
        """A document, its file, and that file laid out: all that waits is the switch."""
        [task] = self.publish({name: version}, **over).tasks
        self.fetch(task, over.get("body", b"new"))
        [task] = [task for task in self.updating().stage(name).tasks if task.kind == name]
        assert task.todo == "switch"
        return task

    def until_switched(self, name: str = "agent", version: str = "1.1", **over: Any) -> Answer:
        """And the switch."""
        self.until_laid(name, version, **over)
        return self.updating().switch(name)

    def files(self, version: str, body: bytes = b"new") -> Path:
        """What an archive of a version holds."""
        files = self.folder / "files"
        files.mkdir(exist_ok=True)
        (files / "version").write_text(version)
        (files / "body").write_bytes(body)
        return files
