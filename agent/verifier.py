"""The process that judges one document that arrived, and keeps it: `python -m agent.verifier`. A line of JSON and the envelope go
in, a line of JSON comes out.

It is a process of its own because the daemon would keep the library that verifies, and everything that a large document needs,
for good. A taken-over daemon could keep a configuration of its own making all the same: what must hold against it is judged by
root (`agent.privileged`).
"""

import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from agent.contract.decode import BadJson, decode_object, encode
from agent.contract.documents import DocumentError, LayerName, LayerRevisions, Refusal, invalid
from agent.contract.typed import build, plain
from agent.documents import disk, files
from agent.documents.commands import signed_request
from agent.documents.judge import Judged, Kind, Seen, judge
from agent.documents.report import effective_sha256, errors_of, good_until, revisions
from agent.documents.shelf import Shelf
from agent.documents.trust import next_trust
from agent.overlay import SHELF, merged
from agent.peripherals import declared
from agent.rules.layers import LAYERS, audience_of
from agent.settings import read
from agent.settings_remote import layer_problems, reported_sections, result_problems

_QUESTION_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Question:
    """`act`: `judge` what follows; `settle` a trial, `held` or not; only `report` what is in force. `now` is never below the
    clock's floor. `booth` and `verb`: what a command was published for."""

    act: Literal["judge", "settle", "report"]
    kind: Literal["config", "policy", "update", "trust", "command"]
    config: str
    state_dir: str
    now: str
    layer: LayerName = "fleet"
    held: bool = False
    booth: str = ""
    verb: str = ""


@dataclass(frozen=True)
class Answer:
    """`outcome`: `known` changes nothing; `trial` has to be confirmed within `confirm_s`; `reverted` did not hold, before or now.
    `settings`: the data to run with from now on, in the form of `agent.toml`; None where nothing changes. `good_until`: when the
    first layer in force gets stale. `reverted`: what is newest of some layer did not hold. `request`: what a command asks."""

    outcome: Literal["refused", "known", "accepted", "trial", "reverted"]
    layers: dict[LayerName, LayerRevisions | None] = field(default_factory=lambda: dict.fromkeys(LAYERS))
    errors: list[DocumentError] = field(default_factory=list)
    effective_sha256: str | None = None
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, Any] | None = None
    confirm_s: int = 120
    good_until: str | None = None
    reverted: bool = False
    issued_at: str | None = None
    request: dict[str, Any] | None = None


def main() -> int:
    line, _, message = sys.stdin.buffer.read().partition(b"\n")
    question = build(Question, decode_object(line, _QUESTION_BYTES))
    sys.stdout.buffer.write(encode(plain(answer(question, message))) + b"\n")
    return 0


def answer(question: Question, message: bytes) -> Answer:
    """Raises OSError where what was accepted cannot be kept: then it was not accepted."""
    if question.kind == "config":
        return _Configuration(question).answer(message)
    if question.kind == "command":
        return _command(question, message)
    shelf = Shelf(Path(question.state_dir) / "documents" / question.kind)
    try:
        if question.kind == "trust":
            return _take_trust(question, message)
        _judge(question, question.kind, message, shelf)
    except Refusal as refusal:
        return Answer("refused", revisions(shelf), errors_of(question.layer, refusal))
    missing = (
        "no lockdown of root's (booth-act-lockdown.socket)"
        if question.kind == "policy"
        else "no part of root's for updates (booth-update-serve.socket)"
    )
    unsupported = Refusal("unsupported", "", f"well signed, but this booth has {missing}")
    return Answer("refused", revisions(shelf), errors_of(question.layer, unsupported))


def _command(question: Question, message: bytes) -> Answer:
    try:
        request = signed_request(message, files.trust_in(Path(question.config).parent), question.booth, question.verb)
    except Refusal as refusal:
        return Answer("refused", errors=errors_of(question.layer, refusal))
    return Answer("accepted", request=plain(request))


def _take_trust(question: Question, message: bytes) -> Answer:
    """For a machine whose root has no part in it, as on a desk: on a booth, root keeps the list."""
    directory = Path(question.config).parent
    current = files.trust_to_replace(directory)
    trust, payload = next_trust(current, message)
    if trust == current:
        return Answer("known")
    try:
        disk.write(directory, "trust.json", payload, mode=0o644)
    except OSError as error:
        raise Refusal("unsupported", "", f"trust.json cannot be replaced here: {error.strerror}") from error
    return Answer("accepted")


def _judge(question: Question, kind: Kind, message: bytes, shelf: Shelf | None) -> Judged:
    directory = Path(question.config).parent
    booth = files.booth_in(Path(question.config))
    last = None if shelf is None else shelf.state.accepted.get(question.layer)
    seen = Seen()
    try:
        trust = files.trust_in(directory)
        return judge(message, kind, audience_of(question.layer, *booth), trust, last, question.now, seen=seen)
    finally:
        if shelf is not None and seen.revision is not None:
            shelf.saw(question.layer, seen.revision)


class _Configuration:
    def __init__(self, question: Question) -> None:
        self._question = question
        self._directory = Path(question.config).parent
        with open(question.config, "rb") as stream:
            self._local = tomllib.load(stream)
        self._kinds = declared()
        self._shelf = Shelf(Path(question.state_dir) / SHELF)

    def answer(self, message: bytes) -> Answer:
        question = self._question
        if question.act == "settle":
            if question.held:
                self._shelf.confirm()
                return self._report("accepted")
            self._shelf.revert()
            return self._report("reverted")
        if self._shelf.state.trying is not None:  # whoever tried it is gone, or asks about something else now
            self._shelf.revert()
        if question.act == "report":
            return self._report("reverted" if self._shelf.state.reverted else "known")
        try:
            return self._take(message)
        except Refusal as refusal:
            return self._report("refused", errors_of(question.layer, refusal))

    def _take(self, message: bytes) -> Answer:
        question, shelf = self._question, self._shelf
        judged = _judge(question, "config", message, shelf)
        if judged.known and question.layer not in shelf.damaged():
            return self._report("known")
        if shelf.state.reverted.get(question.layer) == judged.revision:
            return self._report("reverted")
        before = {layer: document.doc for layer, document in shelf.documents().items()}
        after = {**before, question.layer: judged.document.doc}
        problems = layer_problems(judged.document.doc, self._local, self._kinds, self._directory)
        problems = problems or result_problems(merged(self._local, after), self._kinds, self._directory)
        if problems:
            raise invalid(problems)
        on_trial = merged(self._local, before).get("broker") != merged(self._local, after).get("broker")
        issued_at = files.believable(judged.document.issued_at)
        try:
            shelf.accept(question.layer, judged.revision, message, issued_at, on_trial=on_trial)
        except OSError as error:
            raise Refusal("unsupported", "", f"it cannot be kept here: {error.strerror}") from error
        return self._report("trial" if on_trial else "accepted", confirm_s=judged.document.confirm_s)

    def _report(
        self, outcome: Literal["refused", "known", "accepted", "trial", "reverted"],
        errors: list[DocumentError] | None = None, confirm_s: int = 120,
    ) -> Answer:  # fmt: skip
        documents = self._shelf.documents()
        docs = {layer: document.doc for layer, document in documents.items()}
        data = merged(self._local, docs)
        if result_problems(data, self._kinds, self._directory):  # agent.toml was changed since, and no longer goes with them
            docs, data = {}, merged(self._local, {})
        sections = reported_sections(read(data, self._kinds, self._directory), self._local, docs)
        values = {name: section.get("value", section.get("names")) for name, section in sections.items()}
        return Answer(
            outcome,
            revisions(self._shelf),
            errors or [],
            effective_sha256(values),
            sections,
            None if outcome == "refused" else data,
            confirm_s,
            good_until(documents.values()),
            bool(self._shelf.state.reverted),
            self._shelf.state.newest_issued_at,
        )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, BadJson, ValueError) as error:
        sys.exit(f"booth-agent: the document was not judged: {error}")
