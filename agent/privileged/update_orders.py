"""What the operator's documents ask this booth to run: judged by root itself, kept, and compared with what is in use."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from agent.contract.decode import BadJson, decode_object, encode
from agent.contract.documents import Document, DocumentError, LayerName, Refusal, invalid
from agent.contract.typed import Invalid, Problem, build, plain
from agent.contract.update import Artifact, Window
from agent.contract.words import printable
from agent.documents import disk, files
from agent.documents.judge import Judged, Seen, judge
from agent.documents.shelf import Shelf
from agent.documents.trust import Trust
from agent.privileged import place
from agent.privileged.machine import Machine
from agent.privileged.place import Booth
from agent.privileged.releases import Releases
from agent.rules.layers import audience_of, effective
from agent.updates.agent_release import this_architecture
from agent.updates.kind import Kind, NotGood

RUN: Final = "run/booth-update"


@dataclass(frozen=True)
class Wanted:
    """What the documents in force ask for of one kind. `by`: the layer's revision that does."""

    kind: Kind
    version: str
    artifact: Artifact
    window: Window | None
    by: str


class Orders:
    """`errors`: what was wrong with the newest document of each layer. `counts`: the version of a kind against which a step back
    is measured. `at` is told when the power might go."""

    def __init__(
        self, machine: Machine, shelf: Shelf, kinds: Mapping[str, Kind], releases: Mapping[str, Releases], booth: Booth,
        counts: Callable[[str], str | None], at: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._machine = machine
        self._shelf = shelf
        self._kinds = kinds
        self._releases = releases
        self._booth = booth
        self._counts = counts
        self._at = at
        self._sound: dict[str, bool] = {}
        self.errors = self._load_errors()

    def judged(self, layer: LayerName, message: bytes) -> Judged:
        """Raises Refusal."""
        if self._booth.address is None:
            raise Refusal("wrong-audience", "", self._booth.problems[0])
        seen = Seen()
        trust = files.trust_in(self._machine.path(place.CONFIG))
        last = self._shelf.state.accepted.get(layer)
        try:
            judged = judge(message, "update", audience_of(layer, *self._booth.address), trust, last, self._booth.now, seen=seen)
        finally:
            if seen.revision is not None:
                self._shelf.saw(layer, seen.revision)
        if not judged.known:
            assert trust is not None
            self._check(judged.document)
            self._check_steps_back(layer, judged, trust)
        return judged

    def _check(self, document: Document) -> None:
        problems: list[Problem] = []
        without: list[str] = []
        for name, value in document.doc.items():
            path = f"doc.{printable(name, 60)}"
            if name not in self._kinds:
                problems.append(Problem(path, f"unknown kind of update; known here: {', '.join(sorted(self._kinds))}"))
                continue
            try:
                section = build(self._kinds[name].section, value, path)
            except Invalid as error:
                problems += error.problems
                continue
            if self._kinds[name].artifact(section, this_architecture()) is None:
                without.append(path)
        if problems:
            raise invalid(problems)
        if without:
            raise Refusal("unsupported", without[0], f"it names no file for {this_architecture()}, which this booth is")

    def _check_steps_back(self, layer: LayerName, judged: Judged, trust: Trust) -> None:
        """An older version is an open door that was shut: it takes the signatures that loosening takes."""
        after = {**self.documents(), layer: judged.document.doc}
        back = self._steps_back(after) - self._allowed_now()
        if back and len(judged.signers) < trust.thresholds.loosen:
            raise Refusal(
                "not-enough-signatures",
                "doc",
                f"a step back of {', '.join(sorted(name for name, _ in back))}: {len(judged.signers)} of "
                f"{trust.thresholds.loosen} signatures that are needed",
            )

    def keep(self, layer: LayerName, judged: Judged, message: bytes) -> None:
        issued_at = files.believable(judged.document.issued_at)
        try:
            self._at("keep")
            trust = files.trust_in(self._machine.path(place.CONFIG))
            allowed = self._allowed_now()
            if trust is not None and len(judged.signers) >= trust.thresholds.loosen:
                allowed |= self._steps_back({**self.documents(), layer: judged.document.doc})
            self._allow(allowed)  # first: what was accepted is not looked at again
            self._shelf.accept(layer, judged.revision, message, issued_at, on_trial=False)
            self._at("kept")
            self._allow(self._allowed_now())
        except OSError as error:
            raise Refusal("unsupported", "", f"it cannot be kept here: {error.strerror}") from error

    def _steps_back(self, documents: Mapping[LayerName, Mapping[str, Any]]) -> set[tuple[str, str]]:
        """Kind and version of what would be older than what counts now."""
        found = set()
        for name, section in effective(documents).items():
            now = self._counts(name) if name in self._kinds else None
            version = self._version(name, section.value)
            if now is not None and version is not None and self._kinds[name].older(now, version):
                found.add((name, version))
        return found

    def _allow(self, steps: set[tuple[str, str]]) -> None:
        self._shelf.note({"steps_back": sorted(list(one) for one in steps)})

    def _allowed_now(self) -> set[tuple[str, str]]:
        """Only while it is what the documents in force ask for: a step that was allowed once is not allowed for ever."""
        return self._allowed_back() & self._steps_back(self.documents())

    def _allowed_back(self) -> set[tuple[str, str]]:
        with suppress(TypeError, ValueError):
            return {(str(name), str(version)) for name, version in self._shelf.state.facts.get("steps_back", ())}
        return set()

    def _version(self, name: str, value: Any) -> str | None:
        with suppress(Invalid):
            return self._kinds[name].version(build(self._kinds[name].section, value))
        return None

    def documents(self) -> dict[LayerName, dict[str, Any]]:
        return {layer: document.doc for layer, document in self._shelf.documents().items()}

    def wanted(self) -> dict[str, Wanted]:
        """What is not in use and should be. Nothing, where a kept document can no longer be read: it is published again."""
        if self._shelf.damaged():
            return {}
        documents = self.documents()
        forbidden = self._steps_back(documents) - self._allowed_back()
        found = {}
        for name, given in effective(documents).items():
            kind = self._kinds.get(name)
            if kind is None:  # kept by a version that knew it
                continue
            with suppress(Invalid):
                section = build(kind.section, given.value)
                artifact, version = kind.artifact(section, this_architecture()), kind.version(section)
                in_use = self._releases[name].in_use
                if artifact is None or (name, version) in forbidden:
                    continue
                if in_use is not None and in_use.version == version and self._is_sound(kind):
                    continue
                revision = self._shelf.state.accepted[given.layer]
                by = f"{given.layer}:{revision.epoch}:{revision.rev}"
                found[name] = Wanted(kind, version, artifact, section.window, by)
        return found

    def behind(self) -> set[str]:
        """Kinds of which the documents name an older version than is in use, which nobody has allowed."""
        return {name for name, _ in self._steps_back(self.documents()) - self._allowed_back()}

    def _is_sound(self, kind: Kind) -> bool:
        """Whether what is in use is still what it was: of contents. Published again, they are laid out again."""
        if kind.on_trial:
            return True
        releases = self._releases[kind.name]
        if kind.name not in self._sound and releases.current is not None:
            try:
                releases.check(releases.current, self._machine.path(place.CONFIG))
                self._sound[kind.name] = True
            except (NotGood, OSError):
                self._sound[kind.name] = False
        return self._sound.get(kind.name, False)

    def note_errors(self, layer: LayerName, errors: list[DocumentError]) -> None:
        """In memory of the boot only: a flood of bad documents must not wear the card."""
        if self.errors.get(layer, []) == errors:
            return
        self.errors[layer] = errors
        with suppress(OSError):
            disk.write(self._machine.path(RUN), "errors.json", encode(plain(self.errors)))

    def _load_errors(self) -> dict[LayerName, list[DocumentError]]:
        with suppress(OSError, BadJson, Invalid):
            kept = decode_object((self._machine.path(RUN) / "errors.json").read_bytes())
            return build(_Errors, {"layers": kept}).layers
        return {}


@dataclass(frozen=True)
class _Errors:
    layers: dict[LayerName, list[DocumentError]]
