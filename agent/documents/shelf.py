"""What is kept of one kind of document: for each layer the exact bytes of the envelope that was accepted last, in files, and
beside them which of these counts. After a power cut at any moment it is the old or the new."""

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final

from agent.contract.decode import BadJson, decode_object, encode
from agent.contract.documents import Document, LayerName, Refusal, read_document
from agent.contract.envelope import open_envelope
from agent.contract.typed import Invalid, Pattern, build, plain
from agent.documents import disk
from agent.rules.layers import LAYERS

_STATE: Final = "state.json"
_COPY: Final = "state-copy.json"
_STATE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True)
class Revision:
    """One revision of a layer. `sha256` is that of the signed payload: the same bytes signed anew are the same."""

    epoch: int
    rev: int
    sha256: Annotated[str, Pattern("[0-9a-f]{64}", "a SHA-256 in hex")]  # a file is named after it


@dataclass(frozen=True)
class State:
    """`accepted`: what counts. `trying`: the layer whose acceptance is not confirmed yet, and what was there before. `reverted`:
    what did not hold; it is not tried again. `seen`: the newest well-signed revision. `newest_issued_at`: of all that was ever
    accepted; no clock that is right is before it. `facts`: what the keeper wants to keep beside them, in the same write."""

    accepted: dict[LayerName, Revision] = field(default_factory=dict)
    trying: LayerName | None = None
    before: Revision | None = None
    reverted: dict[LayerName, Revision] = field(default_factory=dict)
    seen: dict[LayerName, Revision] = field(default_factory=dict)
    newest_issued_at: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Shelf:
    """One folder. Every method that writes raises OSError where that is not possible: then nothing was accepted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[LayerName, tuple[Revision, bytes, Document | None]] = {}  # it is asked for often, and costs
        self.state = self._load()

    def document(self, layer: LayerName) -> Document | None:
        """What counts of a layer; None where there is none, or its file is no longer what was accepted."""
        return self._document(layer, self.state.accepted.get(layer))

    def settled(self) -> dict[LayerName, Document]:
        """What counts where nobody confirms the trial that is on. Nothing is written."""
        revisions: dict[LayerName, Revision | None] = dict(self.state.accepted)
        if self.state.trying is not None:
            revisions[self.state.trying] = self.state.before
        documents = {layer: self._document(layer, revisions.get(layer)) for layer in LAYERS}
        return {layer: document for layer, document in documents.items() if document is not None}

    def _document(self, layer: LayerName, revision: Revision | None) -> Document | None:
        message = None if revision is None else self._message(layer, revision)
        if revision is None or message is None:
            return None
        known = self._read.get(layer)
        if known is None or known[:2] != (revision, message):
            known = self._read[layer] = (revision, message, _opened(revision, message))
        return known[2]

    def documents(self) -> dict[LayerName, Document]:
        return {layer: document for layer in LAYERS if (document := self.document(layer)) is not None}

    def damaged(self) -> list[LayerName]:
        """Layers that were accepted and cannot be read any more."""
        return [layer for layer in self.state.accepted if self.document(layer) is None]

    def accept(self, layer: LayerName, revision: Revision, message: bytes, issued_at: str, *, on_trial: bool) -> None:
        """Keep an envelope; `on_trial`, until `confirm` or `revert` decides. Whatever nobody confirmed before is taken back."""
        self.revert()
        disk.write(self._folder, self._name(layer, revision), message)
        state = self.state
        # A new epoch begins afresh: a key that leaked may have moved the time as well.
        new_epoch = all(kept.epoch < revision.epoch for kept in state.accepted.values())
        newest = issued_at if new_epoch else max(filter(None, (state.newest_issued_at, issued_at)))
        reverted = {other: kept for other, kept in state.reverted.items() if other != layer}
        new = replace(
            state,
            accepted={**state.accepted, layer: revision},
            trying=layer if on_trial else None,
            before=state.accepted.get(layer) if on_trial else None,
            reverted=reverted,
            newest_issued_at=newest,
        )
        try:
            self._store(new)
        except OSError:
            self.state = state
            raise

    def confirm(self) -> None:
        if self.state.trying is not None:
            self._store(replace(self.state, trying=None, before=None))

    def revert(self, *, for_good: bool = True) -> LayerName | None:
        """Back to what was before the trial. Returns the layer, or None where nothing was on trial. `for_good`: it is not
        to be tried again."""
        state = self.state
        layer = state.trying
        if layer is None:
            return None
        accepted = dict(state.accepted)
        failed = accepted.pop(layer, None)  # None: a damaged state, which must not stop every start
        if state.before is not None:
            accepted[layer] = state.before
        reverted = state.reverted if failed is None or not for_good else {**state.reverted, layer: failed}
        self._store(replace(state, accepted=accepted, trying=None, before=None, reverted=reverted))
        return layer

    def saw(self, layer: LayerName, revision: Revision) -> None:
        """A well-signed revision came by. Stored only when it is the newest: a flood must not wear the card."""
        known = self.state.seen.get(layer)
        if known is None or (revision.epoch, revision.rev) > (known.epoch, known.rev):
            with suppress(OSError):  # a full disk must not hide what became of the document
                self._store(replace(self.state, seen={**self.state.seen, layer: revision}))

    def note(self, facts: Mapping[str, Any]) -> None:
        """Keep something beside the documents."""
        if {**self.state.facts, **facts} != self.state.facts:
            self._store(replace(self.state, facts={**self.state.facts, **facts}))

    # --- files ---

    def _name(self, layer: LayerName, revision: Revision) -> str:
        return f"{layer}-{revision.sha256[:32]}.dsse"

    def _message(self, layer: LayerName, revision: Revision) -> bytes | None:
        try:
            return (self._folder / self._name(layer, revision)).read_bytes()
        except OSError:
            return None

    def _load(self) -> State:
        """The state; where it is damaged, its copy."""
        for name in (_STATE, _COPY):
            with suppress(OSError, BadJson, Invalid):
                return build(State, decode_object((self._folder / name).read_bytes(), _STATE_BYTES), unknown="ignore")
        return State()

    def _store(self, state: State) -> None:
        old, self.state = self.state, state  # also where the disk does not take it: this run goes by it
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in (_COPY, _STATE):  # what counts comes last: where either cannot be written, nothing was accepted
            disk.write(self._folder, name, encode(plain(state)))
        kept = {self._name(layer, revision) for one in (old, state) for layer, revision in _held(one)}
        with suppress(OSError):  # it is accepted all the same
            for file in self._folder.iterdir():
                if file.name not in kept and re.fullmatch(r"[a-z]+-[0-9a-f]{32}\.dsse", file.name):
                    file.unlink(missing_ok=True)


def _opened(revision: Revision, message: bytes) -> Document | None:
    """The document that was accepted: nobody looks at its signatures again, so that every bit of it has to be the same."""
    try:
        payload = open_envelope(message).payload
        same = hashlib.sha256(payload).hexdigest() == revision.sha256
        return read_document(payload) if same else None
    except Refusal:
        return None


def _held(state: State) -> list[tuple[LayerName, Revision]]:
    held = list(state.accepted.items())
    if state.trying is not None and state.before is not None:
        held.append((state.trying, state.before))
    return held
