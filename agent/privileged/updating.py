"""Root's part of updates, in one run: judge a document, lay out what it names, switch, count the tries, commit or go back.

It runs from outside both slots. Each step is on disk before it is done, so that after a power cut at any moment it is known
which of the two slots counts, and the next run goes on from there. The slot in use before is not touched until the new one has
proved itself.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from agent.contract.documents import DocumentError, LayerName, Refusal, UpdateReported
from agent.contract.typed import Invalid, build, plain
from agent.contract.update import Artifact
from agent.contract.words import printable
from agent.documents import disk
from agent.documents.report import errors_of
from agent.documents.shelf import Shelf
from agent.privileged import place
from agent.privileged.machine import Machine
from agent.privileged.progress import PASSING, UNDER_TRIAL, Progress
from agent.privileged.reach import broker_reached
from agent.privileged.releases import Release, Releases, SlotName, has_room
from agent.privileged.update_orders import Orders
from agent.privileged.update_report import report, section_of
from agent.privileged.verdict import Ended
from agent.rules.layers import effective
from agent.updates import kinds
from agent.updates.kind import Kind, NotGood
from agent.updates.words import Answer, Task

STATE: Final = "var/lib/booth-update"
DOWNLOADS: Final = "var/lib/booth-agent/downloads"
TRIES: Final = 3

_TRIAL: Final = "trial"  # there while a version is on trial: without it, no start of the agent is counted
_ANSWER_S: Final = 20.0
_ROOM: Final = 6  # of its size: the copy, what is in it, and what is made of that
_DAMAGED: Final = "what was accepted can no longer be read on this booth's card: publish it again"
_OFFLINE: Final = "offline"
_CUT_OFF: Final = 3  # attempts to lay one file out that ended without a word
_TOLD: Final = ("verified", "installing", "switching")
_DEADLINE: Final = "booth-update-deadline.timer"
_NO_CONFIG: Final = "usr/lib/booth-agent"


class Updating:
    """`at` is told each moment at which the power might go; a test cuts it there. Raises OSError where root's state cannot be
    written: then nothing was begun."""

    def __init__(
        self,
        machine: Machine,
        known: Mapping[str, Kind] | None = None,
        reachable: Callable[[str, int], bool] | None = None,
        at: Callable[[str], None] = lambda _moment: None,
        told: Callable[[Answer], None] = lambda _answer: None,
    ) -> None:
        """`told`: how far it is, before an act ends."""
        self._machine = machine
        self._kinds = kinds() if known is None else known
        self._reachable = reachable or broker_reached(machine)
        self._at = at
        self._told = told
        self._shelf = Shelf(machine.path(STATE) / "documents")
        self._booth = place.look(machine, self._shelf.state.newest_issued_at)
        self._releases = {name: Releases(machine, kind) for name, kind in self._kinds.items()}
        self._orders = Orders(machine, self._shelf, self._kinds, self._releases, self._booth, self._counts, at)
        self._progress = self._load()
        self._restart = False
        self._copy_of_root = machine.path(STATE) / "incoming.tar"

    # --- what the daemon asks ---

    def take(self, layer: LayerName, message: bytes) -> Answer:
        """Judge an envelope, and keep it where it is good."""
        event = None
        try:
            judged = self._orders.judged(layer, message)
            if not judged.known or layer in self._shelf.damaged():
                self._orders.keep(layer, judged, message)
                event = "accepted"
            self._orders.note_errors(layer, [])
        except Refusal as refusal:
            self._orders.note_errors(layer, errors_of(layer, refusal))
            return replace(self.status(), event=refusal.code)
        return replace(self.status(), event=event)

    def status(self) -> Answer:
        self._settle(starting=False)
        return Answer(self._report(), [task for name in self._kinds if (task := self._task(name)) is not None])

    def stage(self, name: str) -> Answer:
        """What was fetched is copied, compared with what was signed, laid out in the other slot, and checked there."""
        self._settle(starting=False)
        task = self._task(name)
        if task is None or task.todo != "fetch":
            return self.status()
        wanted = self._orders.wanted()[name]
        releases, before = self._releases[name], self._progress.get(name)
        again = before is not None and (before.sha256, before.by) == (wanted.artifact.sha256, wanted.by)
        if again and before is not None and before.phase == "verified" and before.attempt % _CUT_OFF == 0:
            # Whoever laid it out was ended each time: killed for its memory, say. Not without end.
            self._note(name, replace(before, phase="failed", reason="cut-off"))
            return self.status()
        in_use = releases.in_use
        progress = Progress(
            "downloading", wanted.version, wanted.artifact.sha256, wanted.by, releases.other,
            None if in_use is None else in_use.version,
            attempt=before.attempt + 1 if again and before is not None else 1,
        )  # fmt: skip
        try:
            self._copy(self._machine.path(DOWNLOADS) / wanted.artifact.sha256, wanted.artifact, self._copy_of_root)
            self._note(name, replace(progress, phase="verified"))
            self._at(f"{name}: clear")
            releases.clear(progress.slot)
            self._at(f"{name}: lay")
            releases.lay(progress.slot, self._copy_of_root, wanted.version)
            self._at(f"{name}: check")
            releases.check(progress.slot, self._machine.path(place.CONFIG))
            self._at(f"{name}: finish")
            releases.finish(progress.slot, Release(wanted.version, wanted.artifact.sha256))
            self._note(name, replace(progress, phase="waiting-idle", laid_in_boot=self._boot_id()))
        except Exception as error:  # noqa: BLE001 - whatever a file does to what unpacks it must not be tried without end
            self._make_room(releases, progress.slot)
            self._note(name, replace(progress, phase="failed", reason=_reason(error)))
            self._complain(f"{name} {wanted.version}: {str(error) or type(error).__name__}")
        return self.status()

    def switch(self, name: str) -> Answer:
        """Now: from here on, the other slot counts. What goes on trial is started by `restart_agent`, after the answer."""
        self._settle(starting=False)
        task = self._task(name)
        progress = self._progress.get(name)
        if task is None or task.todo != "switch" or progress is None:
            return self.status()
        self._note(name, replace(progress, phase="installing"))
        try:
            self._at(f"{name}: check again")
            self._releases[name].check(progress.slot, self._machine.path(place.CONFIG))
        except (NotGood, OSError) as error:
            self._note(name, replace(progress, phase="failed", reason=_reason(error)))
            self._complain(f"{name} {progress.version}: {error}")
            return self.status()
        if self._kinds[name].on_trial:
            self._mark()
        self._note(name, replace(progress, phase="switching", tries=TRIES))
        self._at(f"{name}: link")
        self._releases[name].switch(progress.slot)
        self._switched(name)
        return self.status()

    def healthy(self, version: str, *, online: bool) -> Answer:
        """What is on trial has proved itself. Where root does not reach the broker either, all but that: it stays on trial, with
        all its tries and beyond any deadline, until the broker can be asked."""
        for name, progress in self._progress.items():
            if progress.phase != "verifying" or progress.version != version:
                continue
            if online:
                self._note(name, replace(progress, phase="committed", reason=None))
                self._after_trial()
                self._systemctl("--no-block", "try-restart", "booth-light.service", "booth-button.service")
                self._systemctl("--no-block", "start", "booth-lockdown-check.service")
            elif not self._broker_reached():
                self._note(name, replace(progress, reason=_OFFLINE, tries=TRIES))
            elif progress.reason != _OFFLINE:  # else the network has just come back: `deadline` looks after that
                self._note(name, replace(progress, reason="no-round-trip"))
        return self.status()

    def _broker_reached(self) -> bool:
        return self._reachable(self._booth.place.broker_host, self._booth.place.broker_port)

    def restart_agent(self) -> None:
        """Where the last act wants it: after its answer was said, since whoever asked ends now."""
        if self._restart:
            self._restart = False
            self._time_trial()  # also where no start can be counted
            self._systemctl("reset-failed", "booth-agent.service")
            self._systemctl("--no-block", "restart", "booth-agent.service")

    # --- what systemd starts ---

    def start(self) -> None:
        """Before each start of the agent: what was cut off is settled, and a version on trial loses one of its tries."""
        self._settle(starting=True)
        self._time_trial()  # first: whatever becomes of the rest
        for name, progress in tuple(self._progress.items()):
            if progress.phase != "verifying":
                continue
            if progress.tries <= 0:
                self._go_back(name, "does-not-start")
                continue
            try:
                self._note(name, replace(progress, tries=progress.tries - 1))
            except OSError:  # a try that cannot be counted is the last one
                self._go_back(name, "disk-failed")
        self._restart = False  # it is about to start

    def deadline(self) -> None:
        """A version that has not proved itself by now is unhealthy, whatever it says. One that lacks nothing but the broker has
        until the next time, once root reaches that."""
        self._settle(starting=False)
        for name, progress in tuple(self._progress.items()):
            if progress.phase == "verifying" and progress.reason == _OFFLINE:
                if self._broker_reached():
                    self._note(name, replace(progress, reason="no-round-trip"))
            elif progress.phase == "verifying":
                self._go_back(name, progress.reason or "unhealthy")
                self._restart = self._releases[name].current != progress.slot

    def install(self, name: str, folder: Path, version: str) -> None:
        """Lay the files of a folder into a slot, which counts at once: by whoever installs, on the spot, and may write
        `agent.toml` later. Raises NotGood."""
        releases = self._releases[name]
        try:
            self._kinds[name].older(version, version)
        except ValueError as error:
            raise NotGood("wrong-version", f"{version!r} cannot be compared with other versions: {error}") from error
        slot = releases.other
        releases.clear(slot)
        releases.lay_files(slot, folder, version)
        releases.check(slot, self._machine.path(_NO_CONFIG))
        releases.finish(slot, Release(version))
        self._progress.pop(name, None)
        self._store()
        releases.switch(slot)
        self._after_trial()

    # --- steps ---

    def _task(self, name: str) -> Task | None:
        progress = self._progress.get(name)
        if progress is not None and progress.phase == "verifying":
            return Task(name, "prove", progress.version, "", 0, progress.sha256)
        wanted = self._orders.wanted().get(name)
        if wanted is None:
            return None
        artifact = wanted.artifact
        task = Task(name, "fetch", wanted.version, artifact.url, artifact.size_bytes, artifact.sha256, wanted.window)
        if progress is None or progress.sha256 != artifact.sha256:
            return task
        if progress.phase in ("failed", "rolled-back") and progress.by == wanted.by and progress.reason not in PASSING:
            return None
        laid = self._releases[name].of(progress.slot) == Release(wanted.version, artifact.sha256)
        if progress.phase == "waiting-idle" and laid and progress.slot != self._releases[name].current:
            return replace(task, todo="switch", laid_in_boot=progress.laid_in_boot)
        return task

    def _settle(self, *, starting: bool) -> None:
        """Bring to its end what a power cut, or the end of a process, has left in the middle."""
        with suppress(OSError):
            self._copy_of_root.unlink(missing_ok=True)
        for name, releases in self._releases.items():
            with suppress(OSError):  # a disk that takes nothing must not keep a version on trial from going back
                releases.tidy()
                if (progress := self._progress.get(name)) is not None:
                    self._settle_one(name, progress, starting=starting)
        if not any(progress.phase in UNDER_TRIAL for progress in self._progress.values()):
            self._unmark()

    def _settle_one(self, name: str, progress: Progress, *, starting: bool) -> None:
        switched = self._releases[name].current == progress.slot
        if progress.phase == "installing":
            self._note(name, replace(progress, phase="waiting-idle"))
        elif progress.phase == "switching" and switched:
            self._switched(name)
        elif progress.phase == "switching":
            self._note(name, replace(progress, phase="waiting-idle", tries=0))
        elif progress.phase == "verifying" and not switched:  # it went back, and that could not be noted
            self._note(name, replace(progress, phase="rolled-back", reason=progress.reason or "disk-failed", tries=0))
        elif progress.phase == "rolling-back":
            self._go_back(name, progress.reason or "unhealthy")
            self._restart = self._restart or not starting

    def _make_room(self, releases: Releases, slot: SlotName) -> None:
        """What is half done must not fill the disk on which it is noted that it failed."""
        with suppress(OSError):
            self._copy_of_root.unlink(missing_ok=True)
            releases.tidy()
            if releases.of(slot) is None:
                releases.clear(slot)

    def _switched(self, name: str) -> None:
        """The link is renamed."""
        progress = self._progress[name]
        if self._kinds[name].on_trial:
            self._note(name, replace(progress, phase="verifying", reason=None))
            self._restart = True
        else:
            self._note(name, replace(progress, phase="committed", tries=0))

    def _go_back(self, name: str, reason: str) -> None:
        progress = replace(self._progress[name], reason=reason)
        releases = self._releases[name]
        old: SlotName = "b" if progress.slot == "a" else "a"
        if releases.of(old) is None:
            self._complain(f"{name} {progress.version} does not work ({reason}), and there is nothing to go back to")
            return
        with suppress(OSError):  # the link counts, and is tried whatever the state's file says
            self._note(name, replace(progress, phase="rolling-back"))
        self._at(f"{name}: link back")
        releases.switch(old)
        with suppress(OSError):
            self._note(name, replace(progress, phase="rolled-back", tries=0))
        self._complain(f"{name} {progress.version} did not prove itself ({reason}); {progress.before} is in use again")
        self._after_trial()

    def _copy(self, source: Path, artifact: Artifact, copy: Path) -> None:
        """Into a file of root's own, since the daemon may write to its own at any moment. It is read once before: what is not
        right costs no write. Raises NotGood."""
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise NotGood("not-fetched", f"{error.strerror}: {source.name[:12]}…") from error
        with open(descriptor, "rb") as stream:
            if _sha256(stream, artifact.size_bytes, None) != artifact.sha256:
                raise NotGood("wrong-hash", "what was fetched is not what was signed")
            stream.seek(0)
            copy.unlink(missing_ok=True)
            if not has_room(copy.parent, _ROOM * artifact.size_bytes):
                raise NotGood(
                    "disk-full", f"there is no room for {_ROOM} times {artifact.size_bytes / 2**20:.0f} MiB, and some to spare"
                )
            self._at("copy")
            with open(copy, "xb") as target:
                if _sha256(stream, artifact.size_bytes, target) != artifact.sha256:
                    raise NotGood("wrong-hash", "what was fetched was changed meanwhile")
            self._at("copied")

    # --- root's own state ---

    def _note(self, name: str, progress: Progress) -> None:
        self._at(f"{name}: note {progress.phase}")
        self._progress[name] = progress
        self._store()
        self._at(f"{name}: noted {progress.phase}")
        if progress.phase in _TOLD:
            self._told(Answer(self._report(), last=False))

    def _store(self) -> None:
        self._shelf.note({"progress": {name: plain(progress) for name, progress in self._progress.items()}})

    def _load(self) -> dict[str, Progress]:
        found: dict[str, Progress] = {}
        kept = self._shelf.state.facts.get("progress")
        for name, data in kept.items() if isinstance(kept, dict) else ():
            with suppress(Invalid):
                if name in self._kinds:
                    found[name] = build(Progress, data, unknown="ignore")
        return found

    def _mark(self) -> None:
        disk.write(self._machine.path(STATE), _TRIAL, b"")
        self._at("marked")

    def _unmark(self) -> None:
        with suppress(OSError):
            (self._machine.path(STATE) / _TRIAL).unlink(missing_ok=True)

    def _time_trial(self) -> None:
        if any(progress.phase == "verifying" for progress in self._progress.values()):
            self._systemctl("--no-block", "start", _DEADLINE)

    def _after_trial(self) -> None:
        if any(progress.phase in UNDER_TRIAL for progress in self._progress.values()):
            return  # that of another kind
        self._at("trial over")
        self._unmark()
        self._systemctl("--no-block", "stop", _DEADLINE)

    def _report(self) -> UpdateReported:
        wanted, behind = self._orders.wanted(), self._orders.behind()
        sections = {}
        for name, releases in self._releases.items():
            in_use, progress = releases.in_use, self._progress.get(name)
            if in_use is not None or progress is not None or name in wanted:
                sections[name] = section_of(in_use, progress, wanted.get(name), at_rest=self._task(name) is None)
                if name in behind and sections[name]["status"] == "applied":
                    sections[name]["status"] = "drifted"  # somebody has installed a newer one by hand
        values = {name: section.value for name, section in effective(self._orders.documents()).items()}
        errors = [error for of_layer in self._orders.errors.values() for error in of_layer]
        errors += [DocumentError(layer, "unsupported", "", _DAMAGED) for layer in self._shelf.damaged()]
        return report(sections, self._progress, self._shelf, errors, values, self._booth.now)

    def _counts(self, name: str) -> str | None:
        """The version that a step back is measured against: in use, or before the one on trial."""
        progress = self._progress.get(name)
        if progress is not None and progress.phase in UNDER_TRIAL:
            return progress.before
        in_use = self._releases[name].in_use
        return None if in_use is None else in_use.version

    def _boot_id(self) -> str | None:
        return self._machine.text(self._machine.path("proc/sys/kernel/random/boot_id"))

    def _systemctl(self, *words: str) -> None:
        if self._machine.has("systemctl"):
            with suppress(Ended):
                self._machine.ask("systemctl", "--no-ask-password", *words, within_s=_ANSWER_S)

    def _complain(self, words: str) -> None:
        os.write(2, f"<4>{printable(words, 400)}\n".encode())  # sd-daemon(3): warning


def _reason(error: Exception) -> str:
    if isinstance(error, NotGood):
        return error.reason
    if not isinstance(error, OSError):
        return "bad-archive"
    return "disk-full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "disk-failed"


def _sha256(stream: Any, size_bytes: int, target: Any) -> str:
    """Of a file that must have this size, "" where it has another; copied to `target` on the way."""
    digest, left = hashlib.sha256(), size_bytes
    while chunk := stream.read(min(1 << 20, left + 1)):
        left -= len(chunk)
        if left < 0:
            return ""
        digest.update(chunk)
        if target is not None:
            target.write(chunk)
    return digest.hexdigest() if left == 0 else ""
