"""Booths that only answer documents, for tests of what asks them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from agent.boothctl.local_checks import complete
from agent.contract.documents import Document, LayerName, read_document
from agent.contract.envelope import open_envelope
from agent.rules.layers import Section, by_name, effective
from tests.boothctl.program import say, state
from tests.world import World

Say = Callable[[str, Document], Iterator[dict[str, Any]]]  # the reports that follow each other on a document of a kind


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def reported(status: str = "applied", **changes: Any) -> dict[str, Any]:
    return {
        "status": status, "layers": {"fleet": None, "area": None, "booth": None}, "effective_sha256": "00" * 32,
        "sections": {}, "errors": [], "at": now(),
    } | changes  # fmt: skip


def revisions(layer: str, seen: int, applied: int | None) -> dict[str, Any]:
    return {"fleet": None, "area": None, "booth": None} | {layer: {"seen_rev": seen, "applied_rev": applied}}


def layer_of(audience: str) -> LayerName:
    _, _, area, booth = audience.split("/")
    return "fleet" if area == "_all" else "area" if booth == "_all" else "booth"


class KeepsLayers:
    """Applies every document, and has in force what its layers give together. What none gives any more is `lost`."""

    def __init__(self) -> None:
        self._documents: dict[str, dict[LayerName, Document]] = {"config": {}, "policy": {}}
        self.given: dict[str, dict[str, Section]] = {"config": {}, "policy": {}}
        self.lost: dict[str, set[str]] = {"config": set(), "policy": set()}

    def __call__(self, kind: str, document: Document) -> Iterator[dict[str, Any]]:
        kept = self._documents[kind]
        kept[layer_of(document.audience)] = document
        docs = {layer: one.doc for layer, one in kept.items()}
        names = by_name(docs, "peripherals")
        before = {*self.given[kind], *self.lost[kind]}
        self.given[kind] = {path: one for path, one in effective(docs).items() if path != "peripherals"}
        self.given[kind] |= {f"peripherals.{name}": one for name, one in names.items()}
        self.lost[kind] = before - self.given[kind].keys()

        revisions_of = {layer: {"seen_rev": one.rev, "applied_rev": one.rev} for layer, one in kept.items()}
        layers = {"fleet": None, "area": None, "booth": None} | revisions_of
        yield reported("applying", layers=layers)
        below: tuple[str, Any] = ("floor", {}) if kind == "policy" else ("local", None)
        parts: dict[str, tuple[str, Any]] = {
            path: (one.layer, complete(kind, path, one.value)) for path, one in self.given[kind].items()
        }
        parts |= dict.fromkeys(self.lost[kind], below)
        said = {path: {"status": "applied", "layer": layer, "value": value} for path, (layer, value) in parts.items()}
        inside = {path.partition(".")[2]: said.pop(path) for path in list(said) if path.startswith("peripherals.")}
        yield reported(layers=layers, sections=said | ({"peripherals": {"status": "applied", "names": inside}} if inside else {}))


def applies(kind: str, document: Document) -> Iterator[dict[str, Any]]:
    """A booth that has no other document."""
    yield from KeepsLayers()(kind, document)


def refuses(code: str, message: str, path: str = "") -> Say:
    def answer(_kind: str, document: Document) -> Iterator[dict[str, Any]]:
        layer = layer_of(document.audience)
        error = {"layer": layer, "code": code, "path": path, "message": message}
        yield reported("rejected", layers=revisions(layer, document.rev, None), errors=[error])

    return answer


def reverts(_kind: str, document: Document) -> Iterator[dict[str, Any]]:
    layer = layer_of(document.audience)
    yield reported("awaiting-confirmation", layers=revisions(layer, document.rev, document.rev))
    yield reported("reverted", layers=revisions(layer, document.rev, document.rev - 1))


def is_silent(_kind: str, _document: Document) -> Iterator[dict[str, Any]]:
    yield from ()


@contextlib.asynccontextmanager
async def booths(w: World, **answers: Say) -> AsyncIterator[None]:
    """Each `b61_0007=applies` is a booth 61-0007 that is online and answers every document that reaches it."""
    by_booth = {name[1:].replace("_", "-"): answer for name, answer in answers.items()}
    for booth in by_booth:
        say(w, booth, "state", state()).wait_for_publish(20)
    answering = asyncio.create_task(_answer(w, by_booth))
    try:
        yield
    finally:
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


async def _answer(w: World, by_booth: dict[str, Say]) -> None:
    done = len(w.observer.messages)
    while True:
        for seen in w.observer.messages[done:]:
            done += 1
            place, _, end = seen.topic.partition("/desired")
            root, _, kind = place.rpartition("/")
            if end or not seen.topic.endswith("/desired") or kind == "trust":
                continue
            document = read_document(open_envelope(seen.payload).payload)
            for booth, answer in by_booth.items():
                if root in ("booth/v1/_all/_all", f"booth/v1/{booth[:2]}/_all", f"booth/v1/{booth[:2]}/{booth}"):
                    for report in answer(kind, document):
                        say(w, booth, f"{kind}/reported", report)
        await asyncio.sleep(0.02)
