"""Documents as they lie on the broker, retained: what a booth reads when it starts, and what the next one replaces."""

import argparse
from collections.abc import Mapping
from typing import Any, Final

from agent.boothctl.terminal import Failed
from agent.contract.documents import Document, Refusal, read_document
from agent.contract.envelope import open_envelope
from agent.documents.judge import payload_type

BY_NAME: Final = "peripherals"  # the section whose names stand for themselves


def read_lying(kind: str, audience: str, message: bytes) -> Document:
    """What lies for an audience. Its signatures are not looked at. Raises `Refusal` for what every booth there refuses anyway."""
    envelope = open_envelope(message)
    if envelope.payload_type != payload_type(kind):
        raise Refusal("unsupported", "payloadType", f"{envelope.payload_type[:80]!r} is no {kind}")
    document = read_document(envelope.payload)
    if document.audience != audience:
        raise Refusal("wrong-audience", "audience", f"it is for {document.audience}")
    return document


def parts_of(doc: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a `doc`, under the paths that a report has for them."""
    found: dict[str, Any] = {}
    for name, value in doc.items():
        if name == BY_NAME and isinstance(value, dict):
            found |= {f"{name}.{one}": item for one, item in value.items()}
        else:
            found[name] = value
    return found


def missing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of one `doc` that another has not."""
    kept = parts_of(after)
    return {path: value for path, value in parts_of(before).items() if path not in kept}


def refuse_drops(options: argparse.Namespace, document: Document, message: bytes | None) -> None:
    """Raises `Failed` where `document` would take parts away from its layer that no option names: a booth knows no other document
    of a layer than the last one. `message`: what lies there."""
    if not message or options.drop_all:
        return
    try:
        before = read_lying(options.kind, document.audience, message)
    except Refusal as refusal:
        what = f"what lies for {document.audience} cannot be compared: {refusal}"
        raise Failed(what, "--drop-all replaces it all the same") from refusal
    dropped = [path for path in missing(before.doc, document.doc) if not {path, path.partition(".")[0]} & set(options.drop)]
    if dropped:
        raise Failed(
            *(f"{options.file} lacks {path}, which revision {before.rev} for {document.audience} has" for path in dropped),
            "a document is its whole layer: begin with what boothctl "
            f"{options.kind} get {document.audience} prints, or say --drop NAME or --drop-all",
        )


def drop_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--drop", action="append", default=[], metavar="NAME",
        help="a section, or peripherals.NAME, that FILE leaves out on purpose and the document that lies there has",
    )  # fmt: skip
    parser.add_argument("--drop-all", action="store_true", help="whatever the document that lies there has")
